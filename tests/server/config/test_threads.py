"""The engines' threads give way to other programs, unless the caller wants them otherwise."""

import json
import os
import subprocess
import sys

import pytest

from relaxon.server.config import threads

NEEDS_TWO = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or threads.usable_cores() < 2, reason="needs Linux and two processors"
)


def test_waiting_threads_sleep_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv(threads.WAIT_POLICY, raising=False)
    threads.wait_asleep()
    assert os.environ[threads.WAIT_POLICY] == "passive"
    monkeypatch.setenv(threads.WAIT_POLICY, "active")
    threads.wait_asleep()
    assert os.environ[threads.WAIT_POLICY] == "active"


@pytest.fixture
def unset(monkeypatch):
    for name in (threads.PROC_BIND, *threads.COUNTS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_OURS", set())
    monkeypatch.setattr(threads, "_apart", False)
    yield monkeypatch
    os.environ.pop(threads.PROC_BIND, None)


def test_threads_are_kept_apart_here_and_not_in_other_processes(unset):
    threads.keep_apart()
    assert os.environ[threads.PROC_BIND] == "true"
    assert threads.PROC_BIND not in threads.build_environment()
    assert set(os.environ) - set(threads.build_environment()) == {threads.PROC_BIND}


@pytest.mark.parametrize("choice", ["false", "close"])
def test_a_caller_s_choice_stands_and_is_inherited(unset, choice):
    unset.setenv(threads.PROC_BIND, choice)
    threads.keep_apart()
    assert threads.build_environment()[threads.PROC_BIND] == choice


PLACES = """
import os, sys, threading
from relaxon.server.config import threads
from relaxon.solvers.kernels.threads import divide, num_threads

def solve():
    threads.bind()
    divide(lambda start, stop: found.append(sorted(os.sched_getaffinity(0))), count, chunks=count)

found, count = [], int(sys.argv[1])
threads.keep_apart()
with num_threads(count):
    solving = threading.Thread(target=solve)
    solving.start()
    solving.join()
print([sorted(os.sched_getaffinity(0)), *sorted(found)])
"""


@NEEDS_TWO
@pytest.mark.parametrize(
    ("choice", "spared", "bound"), [(None, 0, True), ("close", 0, True), ("false", 0, False), (None, 1, False)]
)
def test_the_kernels_threads_are_bound_where_each_has_a_processor(unset, choice, spared, bound):
    """The thread that solves among them, the one that waits for it not."""
    if choice is not None:
        unset.setenv(threads.PROC_BIND, choice)
    processors = sorted(os.sched_getaffinity(0))
    count = len(processors) - spared
    done = subprocess.run([sys.executable, "-c", PLACES, str(count)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    here, *found = json.loads(done.stdout)
    assert here == processors
    if bound:
        assert found == [[one] for one in processors]
    else:  # the thread that solves has all, the others all but the one on which it runs
        assert sorted(map(len, found)) == [len(processors) - 1] * (count - 1) + [len(processors)]


@pytest.mark.parametrize("name", threads.COUNTS)
def test_where_processors_are_left_to_others_the_system_chooses(unset, name):
    unset.setenv(name, str(threads.usable_cores() + 1))
    threads.keep_apart()
    assert threads.PROC_BIND not in os.environ
    unset.setenv(name, str(threads.usable_cores()))
    threads.keep_apart()
    assert os.environ[threads.PROC_BIND] == "true"


SERVED = """
import os, subprocess, sys, threading, time
import numpy as np, psutil, relaxon
command = [sys.executable, "-m", "relaxon", "serve", "--port", "0", "--grace-seconds", "0", *sys.argv[1:]]
with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
    line = next(line for line in process.stderr if "relaxon serves on" in line)
    threading.Thread(target=process.stderr.read, daemon=True).start()
    with relaxon.connect(line.split("serves on")[1].split()[0]) as client:
        with client.poisson.grid(np.zeros((64, 64, 64), np.uint8), boundary="dirichlet") as grid:
            assert grid.solve(np.ones((64, 64, 64)), solver="jacobi-cg").converged
    bound = 0
    for task in os.listdir(f"/proc/{process.pid}/task"):
        bound += len(os.sched_getaffinity(int(task))) == 1
    main = len(os.sched_getaffinity(process.pid))
    process.terminate()
print(bound, main)
"""


@NEEDS_TWO
@pytest.mark.parametrize(("options", "kept"), [([], True), (["--workers", "2"], False)])
def test_a_server_s_solving_threads_stay_where_they_are(unset, options, kept):
    """And no others do; where several solves run at a time, none but those that keep off their caller's processor."""
    done = subprocess.run([sys.executable, "-c", SERVED, *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    bound, main = map(int, done.stdout.split())
    assert main == threads.usable_cores()
    assert bound >= 2 if kept else bound < 2
