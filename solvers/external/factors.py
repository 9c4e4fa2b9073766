"""Sparse LU factors by SuperLU that are freed in the thread that made them.

SciPy keeps SuperLU's memory by thread: a factor that goes in another thread than it came from is never freed
(measured with SciPy 1.17: 100 MB for each factor of 20,000 rows). A server makes factors in one worker thread and lets
them go in another.

These threads end before the interpreter does: where a daemon thread that has made a factor is there to the last, Python
exits with status 120 after `TypeError: an integer is required` (SciPy 1.17.1; `findings/superlu_daemon_thread.sh`).
"""

# Imported on first use, for its weight: SciPy.

from __future__ import annotations

import atexit
import itertools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import cache, partial
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

OWNERS = 4
"""Threads that make factors, and so as many as are made at a time."""
END_SECONDS = 2.0
"""How long the interpreter's end waits for each of them."""

Tasks = SimpleQueue[Callable[[], None] | None]
_thread = threading.local()
"""Its `tasks` is the queue of the thread that asks, where it is an owner."""


class Factor:
    """`scipy.sparse.linalg.splu(matrix, **options)`, whose errors it raises; to be solved with in any thread.

    With `incomplete`, it is that of `spilu`.
    """

    __slots__ = ("__weakref__", "_box")

    def __init__(self, matrix: Any, *, incomplete: bool = False, **options: Any) -> None:
        # In an owner's thread an object may be collected that solves: there the factor is made at once, as owners that
        # wait for each other wait for ever. And when the interpreter ends no other thread runs any more.
        ending = sys.is_finalizing()
        here: Tasks | None = SimpleQueue() if ending else getattr(_thread, "tasks", None)
        owner = next(_owners()) if here is None else here
        made: Future[list[Any]] = Future()
        make = partial(_make, made, matrix, incomplete, options)
        if here is None:
            owner.put(make)
        else:
            make()
        del make
        try:
            self._box = made.result()
        except BaseException:
            if not made.done() or made.exception() is None:  # interrupted
                owner.put(partial(_drop, made))
            raise
        finally:
            del made  # an error in it would hold this frame, and so the matrix
        # The garbage collector may call this in the middle of anything, with any lock held: it must take none, and
        # this queue's `put` is made for that. An executor's `submit` is not: the process stood still for ever.
        weakref.finalize(self, owner.put, self._box.clear).atexit = False

    @property
    def superlu(self) -> Any:
        """SciPy's object; not to be kept."""
        return self._box[0]

    def solve(self, b: NDArray[np.float64]) -> NDArray[np.float64]:
        """`x` with `matrix @ x = b`."""
        found: NDArray[np.float64] = self._box[0].solve(b)
        return found


def _make(made: Future[list[Any]], matrix: Any, incomplete: bool, options: dict[str, Any]) -> None:
    from scipy.sparse import linalg

    try:
        made.set_result([(linalg.spilu if incomplete else linalg.splu)(matrix, **options)])
    except BaseException as error:
        made.set_exception(error)
        del made  # as an executor does: the error holds this frame


def _drop(made: Future[list[Any]]) -> None:
    """Free a factor that nobody waits for any more."""
    if made.exception() is None:
        made.result().clear()


def _own(tasks: Tasks) -> None:
    """Do a thread's work, until there is None."""
    _thread.tasks = tasks
    while (task := tasks.get()) is not None:
        task()
        del task  # which holds a matrix, or a factor


@cache
def _owners() -> Iterator[Tasks]:
    """Yield the queues of the threads, each in its turn, without end."""
    queues: list[Tasks] = [SimpleQueue() for _ in range(OWNERS)]
    threads = []
    for number, tasks in enumerate(queues):
        # Daemons: a factorisation that takes minutes does not hold the interpreter's end up.
        threads.append(threading.Thread(target=_own, args=(tasks,), name=f"relaxon-factors-{number}", daemon=True))
        threads[-1].start()
    atexit.register(_end, queues, threads)
    return itertools.cycle(queues)


def _end(queues: list[Tasks], threads: list[threading.Thread]) -> None:
    """End the threads; what is asked for later gets new ones."""
    _owners.cache_clear()
    for tasks in queues:
        tasks.put(None)
    for thread in threads:
        thread.join(END_SECONDS)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_owners.cache_clear)  # the threads stay with the parent
