"""A small thread pool, among whose threads compiled kernels divide their rows or planes.

A kernel is a serial function over `start … stop − 1` that releases the GIL; `divide` calls it on one run in each
thread. Each value is computed by the same operations in any thread, so that results have the same bits at any number of
threads.

Numba's `parallel=True` is not used: it takes seconds to compile a kernel, depends on the threading layer of the
machine, and two of the three layers do not survive a fork or a second calling thread.
"""

# Imported on first use, for its weight: `spin_kernels`, which needs numba.

from __future__ import annotations

import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from operator import methodcaller
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.control_groups import find_folders
from relaxon.core.turns import Turn, Turns
from relaxon.solvers.kernels.places import Place, find_processor

Kernel = Callable[..., Any]
Work = Callable[[], tuple[Any, ...]]
Call = Callable[[], object]
Arguments = tuple[Any, ...]
Team = NDArray[np.int64] | None
ABORTED = 17
"""The place of a team's array that is 1 where a member has raised, beside the one that the others look at."""
VARIABLES = ("RELAXON_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
"""Environment variables for the number of threads of a solve; the first one that is set is used."""
_count = 0
"""The number of threads of a solve, the calling one included; 0 before its first use."""


def get_num_threads() -> int:
    """Return the number of threads among which a solve divides its work, the calling one included."""
    global _count
    if _count == 0:
        _count = _find_allowed_threads()
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


def _find_allowed_threads() -> int:
    """Return the number that the environment sets, else the cores allowed by this process's affinity and CPU quota."""
    for name in VARIABLES:
        first = os.environ.get(name, "").split(",")[0].strip()  # OpenMP takes a list, one number a nesting level
        if first.isdigit() and int(first) > 0:
            return int(first)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota()
    return max(1, min(cores, math.ceil(quota) if quota else cores))


def _cpu_quota(root: str = "") -> float | None:
    """Return the number of processors that this process's control group may use, None where it is unlimited.

    `root` is prepended to the paths of the files of control groups.
    """
    found: float | None = None
    for folder, unified in find_folders("cpu", root):
        path = f"{folder}/{'cpu.max' if unified else 'cpu.cfs_quota_us'}"
        try:
            with open(path) as file:
                limit, period = [*file.read().split(), "100000"][:2]
        except OSError:
            continue
        if limit in ("max", "-1"):
            continue
        try:
            if not unified:
                with open(f"{folder}/cpu.cfs_period_us") as file:
                    period = file.read()
            share = int(limit) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue
        found = share if found is None else min(found, share)
    return found


CALL = methodcaller("__call__")
PASS = methodcaller("_acquire_restore", (1, 0))
"""Wait at a gate until it is open."""


class _Task:
    """A kernel's run of rows for a worker, which opens the gate when it no longer uses the arrays."""

    __slots__ = ("args", "failure", "gate", "kernel", "start", "stop", "team")

    def __init__(self, kernel: Kernel, start: int, stop: int, args: tuple[Any, ...], gate: Any, team: Team) -> None:
        self.kernel, self.start, self.stop, self.args, self.gate, self.team = kernel, start, stop, args, gate, team
        self.failure: BaseException | None = None


class _Worker:
    """A thread that runs the tasks in its inbox, one at a time. It ends when this object is deleted.

    `given[0]` counts the tasks it was given: see `relaxon.solvers.kernels.spin_kernels`.
    """

    def __init__(self, index: int) -> None:
        from relaxon.solvers.kernels import spin_kernels

        self.inbox: SimpleQueue[_Task | None] = SimpleQueue()
        counters: NDArray[np.int64] = np.zeros(16, np.int64)
        self.given = counters[spin_kernels.GIVEN :]
        self.await_end = partial(spin_kernels.await_end, counters)
        rest = partial(spin_kernels.await_task, counters)
        thread = threading.Thread(target=_serve, args=(self.inbox, rest), name=f"relaxon-{index}", daemon=True)
        thread.start()
        self._ident = thread.ident
        self.place = Place(thread.native_id)

    def __del__(self) -> None:
        with suppress(AttributeError):  # an interrupt came before there was an inbox
            self.inbox.put(None)

    def give(self, task: _Task) -> tuple[Call, Call]:
        """Return the calls that put a task into the inbox and announce it."""
        return partial(self.inbox.put, task), partial(self.given.__setitem__, 0, self.given[0] + 1)

    def gate(self) -> Any:
        """Return a lock that this worker's thread holds and will release."""
        gate: Any = threading.RLock()
        gate._acquire_restore((1, self._ident))
        return gate


def _serve(inbox: SimpleQueue[_Task | None], rest: Callable[[int], None]) -> None:
    """Run a worker's tasks until None comes; `rest(done)` waits between them, for a while."""
    done = 0
    while (task := inbox.get()) is not None:
        gate = task.gate
        try:
            task.kernel(task.start, task.stop, *task.args)
        except BaseException as error:
            task.failure = error
            if task.team is not None:
                task.team[ABORTED] = 1
        del task  # and with it the arrays
        gate.release()
        del gate
        done += 1
        rest(done)


class _Pool:
    """The workers of this process. One caller uses them at a time; others run their kernels alone meanwhile.

    Signal handlers may raise anything, at any time. Python calls them when a function is entered, when a call returns,
    and at the end of a loop's pass, but not during a single call in C. Therefore
      - a caller owns the workers until its turn is over, which is marked by an assignment, not by a call;
      - all tasks are handed over by a single call, the first one in its `try`: all of them or none. The same call runs
        the caller's own task, as members of a team wait for each other;
      - they are awaited by a single call that no signal interrupts: `_acquire_restore`, with which
        `threading.Condition.wait` reacquires its lock;
      - each call waits for locks of its own: nothing is left behind for a later one.
    """

    def __init__(self) -> None:
        self._workers: list[_Worker] = []
        self._turns = Turns()

    def run(
        self, kernel: Kernel, count: int, chunks: int, args: tuple[Any, ...], work: Work | None, team: Team
    ) -> None:
        # When the interpreter finalises, the workers no longer run.
        if chunks > 1 and not sys.is_finalizing() and not _compiles():
            turn = Turn()
            try:
                if self._turns.take(turn) and (chunks := 1 + self._start(chunks - 1)) > 1:
                    self._divide(kernel, count, chunks, args, work, team)
                    return
            finally:
                turn.over = True
        kernel(0, count, *args, *(work() if work else ()))

    def _start(self, wanted: int) -> int:
        """Start workers up to that number, or as many as the system allows; return how many there are."""
        with suppress(RuntimeError):
            while len(self._workers) < wanted:
                self._workers.append(_Worker(len(self._workers) + 1))
        return min(wanted, len(self._workers))

    def _divide(
        self, kernel: Kernel, count: int, chunks: int, args: tuple[Any, ...], work: Work | None, team: Team
    ) -> None:
        workers = self._workers[: chunks - 1]
        own = [(*args, *work()) if work else args for _ in range(chunks)]
        tasks = [
            _Task(kernel, count * c // chunks, count * (c + 1) // chunks, own[c], worker.gate(), team)
            for c, worker in enumerate(workers, 1)
        ]
        here = find_processor()
        for worker in workers:
            worker.place.keep_off(here)
        calls = [call for worker, task in zip(workers, tasks, strict=True) for call in worker.give(task)]
        run: Call = partial(deque, map(CALL, [*calls, partial(kernel, 0, count // chunks, *own[0])]), 0)
        wait: Call = partial(deque, map(PASS, [task.gate for task in tasks]), 0)
        try:
            run()
            for worker in workers:
                worker.await_end()
        except BaseException:
            if team is not None:
                team[ABORTED] = 1
            raise
        finally:
            wait()
        for task in tasks:
            failure, task.failure = task.failure, None
            if failure is not None:
                try:
                    raise failure
                finally:
                    del failure  # which refers to this frame, and so to the arrays


def _compiles() -> bool:
    """Return whether this thread is compiling, as when an object that solves is garbage-collected during compilation.

    Workers that have to compile or load a kernel would wait for it.
    """
    module = sys.modules.get("numba.core.compiler_lock")
    return module is not None and bool(module.global_compiler_lock.is_locked())


_pool = _Pool()


def _new_pool() -> None:
    """Give a forked child its own pool, as its parent's threads do not exist there."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_pool)


def divide(
    kernel: Kernel, count: int, *args: Any, chunks: int | None = None, work: Work | None = None, team: Team = None
) -> None:
    """Call `kernel(start, stop, *args)` on runs that make up `0 … count − 1`, concurrently in `chunks` threads.

    `work` returns the scratch arrays of each run; they follow `args`. In runs that wait for each other, an entry of
    `team` tells the others that one has raised; see `relaxon.solvers.kernels.team_kernels`.
    """
    _pool.run(kernel, count, min(get_num_threads() if chunks is None else chunks, count), args, work, team)


def take_turns(calls: deque[Call], chunks: int) -> None:
    """Make all calls, in `chunks` threads, each of which takes the first one that is left when it is free.

    A call may append others.
    """
    divide(_take, chunks, calls, chunks=chunks)


def _take(start: int, stop: int, calls: deque[Call]) -> None:
    while True:
        try:
            call = calls.popleft()
        except IndexError:
            return
        call()


def bind_threads() -> None:
    """Bind the calling thread, which solves, and the workers among which it divides its work to one processor each.

    This is done only where there are as many threads as processors that this process may use, and where the system
    allows it. Other threads are not bound.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    processors = sorted(os.sched_getaffinity(0))
    count = get_num_threads()
    if count == len(processors) > 1:
        divide(_bind, count, processors, chunks=count)


def _bind(start: int, stop: int, processors: list[int]) -> None:
    # Another caller may occupy the workers: then this one does all the work, and must not be bound.
    if stop - start == 1:
        with suppress(OSError):
            os.sched_setaffinity(0, {processors[start]})  # 0 is the calling thread
