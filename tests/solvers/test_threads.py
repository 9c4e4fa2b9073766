"""The pool of threads that kernels are divided among: in every process and under every load that people have."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from relaxon.solvers import gallery, get_num_threads, num_threads, set_num_threads, solve, threads
from relaxon.solvers.threads import divide

WAIT = 120
"""Seconds after which a process that hangs is given up: the first ones may have to compile."""

SOLVES = """
    import gc, hashlib, multiprocessing, os, signal, sys, threading, time
    import numpy as np
    from relaxon.solvers import PoissonGrid, gallery, set_num_threads, solve, threads

    def digest(seed=1):
        problem = gallery.make("spheres", 32)
        grid = PoissonGrid(problem.grid.cells, problem.grid.spacing, problem.grid.boundary)
        solution = solve(grid, seed * problem.b, solver="dcdm", rtol=1e-8)
        assert grid.operator().residual(seed * problem.b, solution.x).size
        assert solution.result.name == "CONVERGED"
        return hashlib.sha256(solution.x.tobytes()).hexdigest()
"""


def run(script, **environment):
    """What a new process prints that runs `script` after `SOLVES`, with two threads a solve unless told."""
    clean = {name: value for name, value in os.environ.items() if name not in threads.VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SOLVES) + textwrap.dedent(script)],
        env=clean | {"RELAXON_NUM_THREADS": "2"} | environment,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def expected():
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
    assert threads._allowed_threads() == (count or 11)


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
    assert threads._allowed_threads() == count


def test_a_solve_starts_no_threading_layer_of_numba(expected):
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
def test_a_forked_child_solves_as_its_parent_does(expected):
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
    assert run(script) == [expected] * 4


@pytest.mark.parametrize("count", [2, 8])
def test_python_threads_solve_side_by_side(count):
    problem = gallery.make("spheres", 32)
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


def test_an_object_that_solves_when_it_is_collected_does_not_wait_for_itself(expected):
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
        print(*found)
    """
    assert run(script) == [expected] * 2


def test_the_interpreter_ends_while_workers_wait_and_while_one_works():
    assert run("digest(); print('end')") == ["end"]
    script = """
        def last():
            threads.divide(lambda start, stop: time.sleep(0.2), 2, chunks=2)
        threading.Thread(target=last, daemon=True).start()
        time.sleep(0.05)
        print("end")
    """
    assert run(script) == ["end"]
