"""LU factors are freed where they were made: SciPy frees nothing in another thread."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from shared_mappings import settled

from relaxon.solvers.external import factors
from relaxon.solvers.external.factors import OWNERS, Factor


def laplacian(n):
    line = sparse.diags_array([np.full(n, 2.0), -np.ones(n - 1), -np.ones(n - 1)], offsets=[0, 1, -1])
    one = sparse.eye_array(n)
    return (
        sparse.kron(sparse.kron(line, one), one)
        + sparse.kron(sparse.kron(one, line), one)
        + sparse.kron(sparse.kron(one, one), line)
    ).tocsc()


def test_a_factor_ends_in_the_thread_that_made_it(monkeypatch):
    gone, lives = threading.Event(), []

    class Made:
        def __init__(self, matrix, **options):
            self.thread = threading.get_ident()

        def __del__(self):
            lives.append((self.thread, threading.get_ident()))
            gone.set()

    monkeypatch.setattr("scipy.sparse.linalg.splu", Made)
    for pool in (ThreadPoolExecutor(1), ThreadPoolExecutor(1)):
        gone.clear()
        box = [pool.submit(Factor, None).result()]
        ThreadPoolExecutor(1).submit(box.clear).result()
        assert gone.wait(10)
    assert len(lives) == 2
    assert all(made == ended for made, ended in lives)


def test_factors_solve_in_any_thread_and_tell_what_is_wrong():
    a = laplacian(6)
    b = np.random.default_rng(0).standard_normal(a.shape[0])
    with ThreadPoolExecutor(3) as pool:
        factors = list(pool.map(lambda _: Factor(a), range(2 * OWNERS)))
        for x in pool.map(lambda factor: factor.solve(b), factors):
            assert np.linalg.norm(a @ x - b) <= 1e-12 * np.linalg.norm(b)
    with pytest.raises(RuntimeError, match="singular"):
        Factor(sparse.csc_array((3, 3)))


def test_factors_that_are_made_in_the_owners_threads_wait_for_no_other_owner():
    # As when an object that solves is collected there.
    a, made = laplacian(3), [Future() for _ in range(2 * OWNERS)]
    for future in made:
        next(factors._owners()).put(lambda future=future: future.set_result(Factor(a)))
    for future in made:
        assert future.result(20).solve(np.ones(27)).shape == (27,)


def test_a_factor_is_freed_though_its_caller_was_interrupted(monkeypatch):
    gone, go, lives = threading.Event(), threading.Event(), []

    class Made:
        def __init__(self, matrix, **options):
            assert go.wait(20)
            self.thread = threading.get_ident()

        def __del__(self):
            lives.append((self.thread, threading.get_ident()))
            gone.set()

    monkeypatch.setattr("scipy.sparse.linalg.splu", Made)
    waiting = Future.result
    taken = []

    def interrupt(self, timeout=None):
        taken.append(self)
        monkeypatch.setattr(Future, "result", waiting)
        raise KeyboardInterrupt

    monkeypatch.setattr(Future, "result", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Factor(None)
    go.set()
    assert taken.pop().exception(20) is None
    assert gone.wait(20)
    ((made, ended),) = lives
    assert made == ended


def test_a_matrix_without_factors_is_let_go_with_the_error():
    a = sparse.csc_array((3, 3))
    alive = weakref.ref(a)
    gc.disable()
    try:
        with pytest.raises(RuntimeError, match="singular"):
            Factor(a)
        del a
        for _ in range(OWNERS):  # every thread has moved on
            Factor(laplacian(3))
        assert alive() is None
    finally:
        gc.enable()


COLLECTED_WITHIN_A_LOCK = """
import concurrent.futures.thread as pools, faulthandler, gc, os, signal
from scipy import sparse
from relaxon.solvers.external.factors import Factor
faulthandler.register(signal.SIGALRM, chain=True)
signal.alarm(60)
class Ring: pass
ring = Ring()
ring.ring, ring.factor = ring, Factor(sparse.csc_array(sparse.eye_array(3)))
del ring
with pools._global_shutdown_lock:  # as within any executor's `submit`, whose allocations may start a collection
    gc.collect()
child = os.fork()
signal.alarm(60)
if child == 0:
    Factor(sparse.csc_array(sparse.eye_array(3)))
    os._exit(0)
raise SystemExit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_factor_can_be_collected_while_a_lock_is_held_and_made_after_a_fork():
    done = subprocess.run([sys.executable, "-c", COLLECTED_WITHIN_A_LOCK], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_factors_that_went_in_other_threads_leave_no_memory_behind():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    a = laplacian(20)
    sizes = []
    for _ in range(8):
        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
            box = [one.submit(Factor, a).result()]
            box[0].solve(np.ones(a.shape[0]))
            other.submit(box.clear).result()
        sizes.append(resident())
    # Each holds some 50 MB; left behind, the last four would be 200. Owners keep what one has freed for a moment.
    assert settled(lambda: resident() - sizes[OWNERS - 1] < 60 * 2**20, True)


@pytest.mark.parametrize("kept", [True, False])
def test_a_process_that_made_factors_ends_well(kept):
    # Where a thread that made one is still there at the end, SciPy 1.17.1 has Python exit with 120.
    script = f"""
import numpy as np
from scipy import sparse
from relaxon.solvers.external.factors import Factor
factor = Factor(sparse.csc_array(sparse.eye_array(300) * 2.0))
print(factor.solve(np.ones(300)).sum())
if not {kept}:
    del factor
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout, done.stderr) == (0, "150.0\n", "")
