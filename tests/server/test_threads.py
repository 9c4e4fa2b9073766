"""The engines' threads give way to other programs, unless the caller wants them otherwise."""

import os
import subprocess
import sys

import pytest

from relaxon.server import threads


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
    yield monkeypatch
    os.environ.pop(threads.PROC_BIND, None)


def test_threads_are_kept_apart_here_and_not_in_other_processes(unset):
    threads.keep_apart()
    assert os.environ[threads.PROC_BIND] == "true"
    assert threads.PROC_BIND not in threads.inherited()
    assert set(os.environ) - set(threads.inherited()) == {threads.PROC_BIND}


@pytest.mark.parametrize("choice", ["false", "close"])
def test_a_caller_s_choice_stands_and_is_inherited(unset, choice):
    unset.setenv(threads.PROC_BIND, choice)
    threads.keep_apart()
    assert threads.inherited()[threads.PROC_BIND] == choice


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


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or threads.usable_cores() < 2, reason="needs Linux and two processors"
)
@pytest.mark.parametrize(("options", "kept"), [([], True), (["--workers", "2"], False)])
def test_a_server_s_solving_threads_stay_where_they_are(unset, options, kept):
    """And no others do; where several solves run at a time, none."""
    done = subprocess.run([sys.executable, "-c", SERVED, *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    bound, main = map(int, done.stdout.split())
    assert main == threads.usable_cores()
    assert bound >= 2 if kept else bound == 0
