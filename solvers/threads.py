"""A small pool of threads of our own, among which compiled kernels divide their rows or planes.

A kernel is a serial routine over `start … stop − 1` that releases the GIL; `divide` calls it on one run a thread.
Each value is computed by the same operations whoever computes it, so that results have the same bits at any number of
threads.

Numba's own `parallel=True` is not used: it costs seconds of compiling a kernel, takes whichever threading layer a
machine has, and two of the three layers do not outlive a fork or a second calling thread.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

Kernel = Callable[..., Any]
Work = Callable[[], tuple[Any, ...]]
VARIABLES = ("RELAXON_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
"""Environment variables that say how many threads a solve may take; the first that is set holds."""
_count = 0
"""The threads of a solve, the calling one included; 0 before anyone asked."""


def get_num_threads() -> int:
    """Return the number of threads among which a solve divides its work, the calling one included."""
    global _count
    if _count == 0:
        _count = _allowed_threads()
    return _count


def set_num_threads(count: int) -> None:
    """Set the number of threads among which later solves of this process divide their work.

    Results do not depend on it.

    Raises
    ------
    TypeError, ValueError : `count` is no positive integer.
    """
    global _count
    if isinstance(count, bool) or not isinstance(count, int | np.integer):
        raise TypeError(f"count must be an int, got {type(count).__name__}")
    if count < 1:
        raise ValueError(f"count must be positive, got {count}")
    _count = int(count)


@contextmanager
def num_threads(count: int) -> Iterator[None]:
    """Set the number of threads within a `with` block."""
    before = get_num_threads()
    set_num_threads(count)
    try:
        yield
    finally:
        set_num_threads(before)


def _allowed_threads() -> int:
    """Return what the environment asks for, else the cores this process may use under its affinity and CPU quota."""
    for name in VARIABLES:
        first = os.environ.get(name, "").split(",")[0].strip()  # OpenMP takes a list, one number a nesting level
        if first.isdigit() and int(first) > 0:
            return int(first)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota()
    return max(1, min(cores, math.ceil(quota) if quota else cores))


def _cpu_quota(root: str = "") -> float | None:
    """Return the processors that this process's control group may use, None where it is not limited.

    `root` stands before the paths of the control groups' files.
    """
    found: float | None = None
    for path in _quota_files(root):
        try:
            with open(path) as file:
                limit, period = [*file.read().split(), "100000"][:2]
        except OSError:
            continue
        if limit in ("max", "-1"):
            continue
        try:
            if path.endswith("cpu.cfs_quota_us"):
                with open(path.removesuffix("quota_us") + "period_us") as file:
                    period = file.read()
            share = int(limit) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue
        found = share if found is None else min(found, share)
    return found


def _quota_files(root: str) -> list[str]:
    """Return the files that may limit this process, those of the enclosing control groups included."""
    try:
        with open(f"{root}/proc/self/cgroup") as file:
            lines = [line.strip().split(":", 2) for line in file]
    except OSError:
        return []
    files: list[str] = []
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if controllers == "":
            top, name = f"{root}/sys/fs/cgroup", "cpu.max"
        elif "cpu" in controllers.split(","):
            top, name = f"{root}/sys/fs/cgroup/cpu", "cpu.cfs_quota_us"
        else:
            continue
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts) + 1):
            files.append("/".join([top, *parts[:depth], name]))
    return files


class _Worker:
    """A thread that runs one kernel at a time on its run of rows."""

    def __init__(self, index: int) -> None:
        self.failure: BaseException | None = None
        self._task: tuple[Kernel, int, int, tuple[Any, ...]] | None = None
        self._go, self._done = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._done.acquire()
        threading.Thread(target=self._serve, name=f"relaxon-{index}", daemon=True).start()

    def begin(self, kernel: Kernel, start: int, stop: int, args: tuple[Any, ...]) -> None:
        self._task = (kernel, start, stop, args)
        self._go.release()

    def end(self) -> None:
        """Wait for the task; an interruption of the waiting is raised when the kernel has left the arrays alone."""
        interruption: BaseException | None = None
        while True:
            try:
                self._done.acquire()
                break
            except BaseException as error:  # a signal's handler may raise anything
                interruption = error
        self._task = None
        if interruption is not None:
            raise interruption
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure

    def _serve(self) -> None:
        while True:
            self._go.acquire()
            assert self._task is not None
            kernel, start, stop, args = self._task
            try:
                kernel(start, stop, *args)
            except BaseException as error:
                self.failure = error
            del kernel, args
            self._done.release()


class _Pool:
    """The workers of this process. One caller has them at a time; others run their kernels alone meanwhile."""

    def __init__(self) -> None:
        self._free = threading.Lock()
        self._workers: list[_Worker] = []

    def run(self, kernel: Kernel, count: int, chunks: int, args: tuple[Any, ...], work: Work | None) -> None:
        if chunks < 2 or not self._free.acquire(blocking=False):
            kernel(0, count, *args, *(work() if work else ()))
            return
        begun: list[_Worker] = []
        failure: BaseException | None = None
        try:
            while len(self._workers) < chunks - 1:
                self._workers.append(_Worker(len(self._workers) + 1))
            for c in range(1, chunks):
                worker = self._workers[c - 1]
                own = (*args, *work()) if work else args
                worker.begin(kernel, count * c // chunks, count * (c + 1) // chunks, own)
                begun.append(worker)
            kernel(0, count // chunks, *args, *(work() if work else ()))
        except BaseException as error:
            failure = error
        for worker in begun:
            try:
                worker.end()
            except BaseException as error:
                failure = failure or error
        self._free.release()
        if failure is not None:
            raise failure


_pool = _Pool()


def _new_pool() -> None:
    """Give a forked child a pool of its own: its parent's threads are not there."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_pool)


def divide(kernel: Kernel, count: int, *args: Any, chunks: int | None = None, work: Work | None = None) -> None:
    """Call `kernel(start, stop, *args)` on runs that make up `0 … count − 1`, side by side in `chunks` threads.

    `work` makes the arrays that each run has for itself; they follow `args`.
    """
    _pool.run(kernel, count, min(get_num_threads() if chunks is None else chunks, count), args, work)
