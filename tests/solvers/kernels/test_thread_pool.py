"""The pool of threads that kernels are divided among: in every process and under every load that people have."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections import deque
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import relaxon
from relaxon.solvers import gallery, get_num_threads, num_threads, set_num_threads, solve
from relaxon.solvers.kernels import threads
from relaxon.solvers.kernels.threads import divide, take_turns

WAIT = 120
"""Seconds after which a process that hangs is given up: the first ones may have to compile."""

SOLVES = """
    import gc, hashlib, multiprocessing, os, signal, sys, threading, time
    import numpy as np
    from relaxon.solvers import PoissonGrid, gallery, set_num_threads, solve
    from relaxon.solvers.kernels import threads

    def digest(seed=1):
        problem = gallery.make("spheres", 36)
        grid = PoissonGrid(problem.grid.cells, problem.grid.spacing, problem.grid.boundary)
        solution = solve(grid, seed * problem.b, solver="dcdm", rtol=1e-8)
        assert grid.operator().residual(seed * problem.b, solution.x).size
        assert solution.result.name == "CONVERGED"
        return hashlib.sha256(solution.x.tobytes()).hexdigest()
"""


def program_and_environment(script, changes):
    """Of a process that runs `script` after `SOLVES`, with two threads a solve unless told."""
    clean = {name: value for name, value in os.environ.items() if name not in threads.VARIABLES}
    return textwrap.dedent(SOLVES) + textwrap.dedent(script), clean | {"RELAXON_NUM_THREADS": "2"} | changes


@pytest.fixture(scope="module")
def run(warm):
    """What a new process prints that runs a script."""
    source = str(Path(relaxon.__file__).parents[1])

    def run(script, **changes):
        program, environment = program_and_environment(script, changes)
        return warm.run(program, environment | {"PYTHONPATH": source}).split()

    return run


def run_interpreter(script):
    """The same of a process that is no fork, to its interpreter's end."""
    program, environment = program_and_environment(script, {})
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=WAIT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def expected(run):
    """The digest of the solution by one thread."""
    (found,) = run("print(digest())", RELAXON_NUM_THREADS="1")
    return found


def mark(start, stop, seen, owner):
    for k in range(start, stop):
        seen[k] += 1
        owner[k] = threading.get_ident()


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 100])
@pytest.mark.parametrize("chunks", [1, 2, 3, 8])
def test_each_row_is_worked_on_once(count, chunks):
    seen, owner = [0] * count, [0] * count
    divide(mark, count, seen, owner, chunks=chunks)
    assert seen == [1] * count
    assert len(set(owner)) == min(chunks, count)


def test_each_run_has_work_space_of_its_own():
    def fill(start, stop, out, work):
        work[0] += start + 1
        out[start] = (work, float(work[0]))

    out = {}
    divide(fill, 3, out, chunks=3, work=lambda: (np.zeros(1),))
    assert [value for _, value in (out[k] for k in range(3))] == [1.0, 2.0, 3.0]
    assert len({id(work) for work, _ in out.values()}) == 3


@pytest.mark.parametrize("worker", [False, True])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_comes_back_and_leaves_the_pool_usable(worker, error):
    def fail(start, stop):
        if (start > 0) == worker:
            raise error("in a kernel")

    for _ in range(3):
        with pytest.raises(error, match="in a kernel"):
            divide(fail, 4, chunks=2)
        seen, owner = [0] * 4, [0] * 4
        divide(mark, 4, seen, owner, chunks=2)
        assert seen == [1] * 4
        assert len(set(owner)) == 2


def test_a_kernel_within_a_kernel_runs_in_the_thread_that_calls_it():
    seen, owner = [0] * 6, [0] * 6

    def outer(start, stop):
        divide(mark, 6, seen, owner, chunks=3)

    divide(outer, 1, chunks=1)
    divide(outer, 2, chunks=2)
    assert seen == [3] * 6


def test_threads_are_set_and_asked_for():
    before = get_num_threads()
    with num_threads(3):
        assert get_num_threads() == 3
        with pytest.raises(RuntimeError), num_threads(5):
            assert get_num_threads() == 5
            raise RuntimeError
        assert get_num_threads() == 3
    assert get_num_threads() == before
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=rf"count must be positive, got {wrong}"):
            set_num_threads(wrong)
    for wrong in (1.0, "2", True, None):
        with pytest.raises(TypeError, match="count must be an int, got"):
            set_num_threads(wrong)
    assert get_num_threads() == before


@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({"RELAXON_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "5", "OMP_NUM_THREADS": "7"}, 3),
        ({"NUMBA_NUM_THREADS": "5", "OMP_NUM_THREADS": "7"}, 5),
        ({"OMP_NUM_THREADS": "7,2"}, 7),
        ({"NUMBA_NUM_THREADS": "none", "OMP_NUM_THREADS": "0"}, None),
        ({}, None),
    ],
)
def test_the_environment_says_how_many_threads(monkeypatch, variables, count):
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(threads, "_cpu_quota", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(11)), raising=False)
    assert threads._find_allowed_threads() == (count or 11)


@pytest.mark.parametrize(
    ("cgroup", "files", "quota"),
    [
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("0::/a/b\n", {"sys/fs/cgroup/a/cpu.max": "200000 100000", "sys/fs/cgroup/a/b/cpu.max": "max 100000"}, 2.0),
        ("0::/a/b\n", {"sys/fs/cgroup/a/cpu.max": "300000 100000", "sys/fs/cgroup/a/b/cpu.max": "50000 100000"}, 0.5),
        (
            "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n",
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            4.0,
        ),
        (
            "5:cpu,cpuacct:/\n",
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            None,
        ),
        ("4:memory:/\n", {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n"}, None),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "nonsense\n"}, None),
    ],
)
def test_the_quota_of_a_container_is_read(tmp_path, cgroup, files, quota):
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert threads._cpu_quota(str(tmp_path)) == quota


@pytest.mark.parametrize(("quota", "count"), [(0.5, 1), (1.5, 2), (3.0, 3), (64.0, 11), (None, 11)])
def test_a_container_has_as_many_threads_as_its_quota_has_cores(monkeypatch, quota, count):
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_cpu_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(11)), raising=False)
    assert threads._find_allowed_threads() == count


def test_a_solve_starts_no_threading_layer_of_numba(run, expected):
    script = """
        import numba
        print(digest())
        try:
            numba.threading_layer()
        except ValueError:
            print("none")
    """
    assert run(script) == [expected, "none"]
    assert run("print(digest())", NUMBA_NUM_THREADS="1", RELAXON_NUM_THREADS="4") == [expected]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("layer", ["workqueue", "omp", "tbb"])
def test_whichever_layer_numba_is_told_to_take_threads_and_forks_solve(run, expected, layer):
    # Numba's workqueue ends a process in which two threads call kernels at once, GNU's OpenMP a child that was forked.
    script = """
        found = []
        several = [threading.Thread(target=lambda: found.append(digest())) for _ in range(3)]
        for one in several:
            one.start()
        for one in several:
            one.join()
        with multiprocessing.get_context("fork").Pool(2) as pool:
            found += pool.map(digest, [1, 1])
        print(*found)
    """
    assert run(script, NUMBA_THREADING_LAYER=layer) == [expected] * 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_solves_as_its_parent_does(run, expected):
    script = """
        print(digest(), flush=True)
        child = os.fork()
        if child == 0:
            print(digest(), flush=True)
            os._exit(0)
        mine = digest()
        assert os.waitpid(child, 0)[1] == 0
        print(mine)
    """
    assert run(script) == [expected] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(
    "busy", ["threads.divide(lambda start, stop: time.sleep(0.02), 2, chunks=2)", "digest()", "compile_kernel()"]
)
def test_a_child_forked_while_another_thread_is_busy_solves_too(run, expected, busy):
    script = f"""
        import faulthandler, numba
        def compile_kernel():
            numba.njit(lambda x: np.sqrt(x).sum() + x.argmax())(np.ones(2))
        digest()
        going = [True]
        def work():
            while going[0]:
                {busy}
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        for number in range(12):
            time.sleep(0.02 + 0.007 * number)
            child = os.fork()
            if child == 0:
                faulthandler.dump_traceback_later(20, exit=True)
                if number == 11:
                    compile_kernel()
                os.write(1, (digest() + "\\n").encode())
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        going[0] = False
        thread.join()
    """
    assert run(script) == [expected] * 12


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_forked_while_another_thread_compiles_neither_waits_for_it_nor_ends_its_processes(run, expected):
    script = """
        import faulthandler
        from relaxon.solvers.precompile import compiling
        class Ended:
            def stop(self): raise AssertionError
        held, going = threading.Event(), threading.Event()
        def hold():
            with compiling._compiling:
                held.set()
                going.wait()
        threading.Thread(target=hold, daemon=True).start()
        held.wait()
        compiling._under_way.append((Ended(), []))
        child = os.fork()
        if child == 0:
            faulthandler.dump_traceback_later(20, exit=True)
            compiling.stop_compiling()
            os.write(1, digest().encode())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        going.set()
    """
    assert run(script) == [expected]


def test_what_solves_in_the_midst_of_compiling_does_not_wait_for_itself(run, expected):
    script = """
        import faulthandler
        from relaxon.solvers.precompile import compiling
        from relaxon.solvers.kernels.cache import COMPILER_LOCK
        faulthandler.dump_traceback_later(20, exit=True)
        with compiling._compiling, COMPILER_LOCK:  # as where an object is collected meanwhile
            print(digest())
    """
    assert run(script) == [expected]


@pytest.mark.parametrize("method", [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()])
def test_workers_of_multiprocessing_solve(tmp_path, expected, method):
    # In a file, which spawned workers can import.
    body = f"""
        if __name__ == "__main__":
            digest()
            with multiprocessing.get_context("{method}").Pool(2) as pool:
                print(*pool.map(digest, [1] * 4, chunksize=1))
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SOLVES) + textwrap.dedent(body))
    environment = os.environ | {"RELAXON_NUM_THREADS": "2"}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WAIT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [expected] * 4


def test_workers_of_joblib_solve(expected):
    pytest.importorskip("joblib")
    script = """
        from joblib import Parallel, delayed
        digest()
        print(*Parallel(2)(delayed(digest)() for _ in range(4)))
    """
    assert run_interpreter(script) == [expected] * 4


@pytest.mark.parametrize("count", [2, 8])
def test_python_threads_solve_side_by_side(count):
    problem = gallery.make("spheres", 36)
    with num_threads(2):
        right = [solve(problem.grid, k * problem.b, solver="dcdm").x for k in range(1, count + 1)]
        found, failed = [None] * count, []

        def work(k):
            try:
                for _ in range(3):
                    found[k] = solve(problem.grid, (k + 1) * problem.b, solver="dcdm").x
            except BaseException as error:
                failed.append(error)

        workers = [threading.Thread(target=work, args=(k,), daemon=True) for k in range(count)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(WAIT)
            assert not worker.is_alive()
    assert not failed
    for one, other in zip(found, right, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_object_that_solves_when_it_is_collected_does_not_wait_for_itself(run, expected):
    script = """
        digest()
        found = []
        class Solving:
            def __init__(self):
                self.itself = self
            def __del__(self):
                found.append(digest())
        def collect(start, stop):
            Solving()
            gc.collect()
        threads.divide(collect, 2, chunks=2)
        gc.collect()  # of two threads that collect at once one finds nothing to do
        print(*found)
    """
    assert run(script) == [expected] * 2


def test_kernels_at_the_end_of_the_interpreter_do_not_wait_for_its_threads():
    script = """
        from relaxon.solvers.grid.stencil_kernels import dot
        class Working:
            def __init__(self, array):
                self.itself, self.array = self, array
            def __del__(self, dot=dot, write=os.write):
                assert sys.is_finalizing()
                write(1, str(dot(self.array, self.array)).encode())
        array = np.ones((36, 36, 36))
        dot(array, array)
        working = Working(array)  # in a cycle, and so there until the threads have been stopped
    """
    assert run_interpreter(script) == ["46656.0"]


def test_a_kernel_that_fails_in_a_worker_leaves_no_array_behind():
    def fail(start, stop, array):
        if start:
            raise ValueError("in a kernel")

    array = np.zeros(2)
    alive = weakref.ref(array)
    gc.disable()
    try:
        with pytest.raises(ValueError, match="in a kernel") as caught:
            divide(fail, 2, array, chunks=2)
        del array, caught
        divide(lambda start, stop: None, 2, chunks=2)  # after which the worker has done with the task before
        assert alive() is None
    finally:
        gc.enable()


def test_a_system_without_threads_left_solves_in_the_calling_one(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_pool", threads._Pool())
    monkeypatch.setattr(threading.Thread, "start", start)
    seen, owner = [0] * 8, [0] * 8
    divide(mark, 8, seen, owner, chunks=4)
    assert seen == [1] * 8
    assert set(owner) == {threading.get_ident()}


SIGNALS = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that send signals")


@SIGNALS
def test_an_interrupted_solve_leaves_the_pool_usable(run, expected):
    script = """
        import random
        digest()
        class Interrupted(BaseException): pass
        def handler(*_):
            raise Interrupted
        signal.signal(signal.SIGALRM, handler)
        at, count = random.Random(0), 0
        for _ in range(30):
            try:
                signal.setitimer(signal.ITIMER_REAL, at.uniform(0.001, 0.05))
                while True:
                    digest()
            except Interrupted:
                count += 1
        assert count == 30
        print(digest())
        owners = set()
        threads.divide(lambda start, stop: owners.add(threading.get_ident()), 2, chunks=2)
        print(len(owners))
    """
    assert run(script) == [expected, "2"]


@SIGNALS
@pytest.mark.parametrize("chunks", [2, 4])
def test_a_signal_at_any_time_neither_loses_the_pool_nor_returns_before_the_workers(run, chunks):
    # Signals from a timer and from a thread, two each time: one may strike where the other is dealt with.
    script = f"""
        import random
        chunks = {chunks}
        class Interrupted(BaseException): pass
        def handler(*_):
            if to_come[0]:
                to_come[0] -= 1
                raise Interrupted
        running, to_come, main, at = set(), [0], threading.main_thread().ident, random.Random(0)
        def kernel(start, stop, owners):
            if start:  # a worker, whom no signal interrupts
                running.add(start)
                end = time.perf_counter() + 2e-5
                while time.perf_counter() < end:
                    pass
                running.discard(start)
            owners.add(threading.get_ident())
        def send():
            while True:
                time.sleep(at.random() * 1e-4)
                if to_come[0]:
                    signal.pthread_kill(main, signal.SIGUSR1)
        def work():
            while to_come[0]:
                threads.divide(kernel, chunks, set(), chunks=chunks)
        threads.divide(kernel, chunks, set(), chunks=chunks)  # imports what workers need: no signal should strike there
        signal.signal(signal.SIGALRM, handler)
        signal.signal(signal.SIGUSR1, handler)
        threading.Thread(target=send, daemon=True).start()
        for _ in range(1500):
            left = 0
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-6 + at.random() * 2e-4)
                    to_come[0] = 2
                    work()
                except Interrupted:
                    left += len(running)
                    work()
            except Interrupted:
                left += len(running)
            assert left == 0, "a worker ran on"
            owners = set()
            threads.divide(kernel, chunks, owners, chunks=chunks)
            assert len(owners) == chunks, "the pool was not free"
        print("end")
        sys.stdout.flush()
        os._exit(0)  # not in the midst of a signal
    """
    assert run(script) == ["end"]


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_calls_in_turn_are_made_once_and_may_append_others(chunks):
    done, calls = [], deque()
    calls.extend(partial(done.append, k) for k in range(50))
    calls.append(lambda: calls.extend(partial(done.append, k) for k in range(50, 100)))
    take_turns(calls, chunks)
    assert sorted(done) == list(range(100))


@pytest.mark.parametrize("chunks", [1, 2])
def test_a_call_in_turn_that_raises_is_heard_of(chunks):
    def fail():
        raise ArithmeticError("no")

    with pytest.raises(ArithmeticError, match="no"):
        take_turns(deque([fail] * chunks), chunks)
