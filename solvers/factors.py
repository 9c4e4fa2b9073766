"""Sparse LU factors by SuperLU that are freed in the thread that made them.

SciPy keeps SuperLU's memory by thread: a factor that goes in another thread than it came from is never freed
(measured with SciPy 1.17: 100 MB for each factor of 20,000 rows). A server makes factors in one worker thread and lets
them go in another.
"""

from __future__ import annotations

import itertools
import os
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


class Factor:
    """`scipy.sparse.linalg.splu(matrix, **options)`, whose errors it raises; to be solved with in any thread."""

    __slots__ = ("__weakref__", "_box")

    def __init__(self, matrix: Any, **options: Any) -> None:
        owner = next(_owners())
        made: Future[list[Any]] = Future()
        owner.put(partial(_make, made, matrix, options))
        try:
            self._box = made.result()
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


def _make(made: Future[list[Any]], matrix: Any, options: dict[str, Any]) -> None:
    from scipy.sparse.linalg import splu

    try:
        made.set_result([splu(matrix, **options)])
    except BaseException as error:
        made.set_exception(error)
        del made  # as an executor does: the error holds this frame


def _own(tasks: SimpleQueue[Callable[[], None]]) -> None:
    """A thread's work, without an end."""
    while True:
        task = tasks.get()
        task()
        del task  # which holds a matrix, or a factor


@cache
def _owners() -> Iterator[SimpleQueue[Callable[[], None]]]:
    """The queues of the threads, each in its turn, without an end."""
    queues: list[SimpleQueue[Callable[[], None]]] = [SimpleQueue() for _ in range(OWNERS)]
    for number, tasks in enumerate(queues):
        # Daemons: at the interpreter's end nothing has to be freed any more.
        threading.Thread(target=_own, args=(tasks,), name=f"relaxon-factors-{number}", daemon=True).start()
    return itertools.cycle(queues)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_owners.cache_clear)  # the threads stay with the parent
