"""Each thread of a solve on a processor of its own, for a process that runs one solve at a time."""

from __future__ import annotations

import os
from contextlib import suppress

from relaxon.solvers.kernels.threads import divide, get_num_threads


def bind_threads() -> None:
    """Bind the calling thread, which solves, and those that it divides its work among to a processor each.

    Only where there are as many threads as processors this process may use; elsewhere the system chooses, as it does
    where it does not let threads be bound. Other threads stay where they are.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    processors = sorted(os.sched_getaffinity(0))
    count = get_num_threads()
    if count == len(processors) > 1:
        divide(_bind, count, processors, chunks=count)


def _bind(start: int, stop: int, processors: list[int]) -> None:
    # Another caller may have the workers: then this one has all that there is to do, and is not to be bound.
    if stop - start == 1:
        with suppress(OSError):
            os.sched_setaffinity(0, {processors[start]})  # 0 is the calling thread
