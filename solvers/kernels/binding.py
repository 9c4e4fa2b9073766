"""Binding of the threads of a solve to processors, for a process that runs one solve at a time."""

from __future__ import annotations

import os
from contextlib import suppress

from relaxon.solvers.kernels.threads import divide, get_num_threads


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
