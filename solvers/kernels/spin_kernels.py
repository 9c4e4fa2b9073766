"""How a thread of the pool waits for its next task, and its caller for the end: at first without sleeping.

To wake a sleeping thread takes 50 µs on a virtual machine, longer than most kernels of a solve on 10⁵ unknowns. So a
thread first looks at a counter for a while, without the GIL, and sleeps only after that.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from relaxon.solvers.kernels.atomics import add_atomically, let_others_run, load_atomically
from relaxon.solvers.kernels.cache import enable_cache

LOOKS, SLICE = 400 * 1024, 2048
"""Looks before a thread sleeps, about 0.1 ms, and those after which it lets others of the system run."""
DELAY = 16 * 1024
"""Looks between a task's announcement and its start, some 5 µs, in which the caller enters its own kernel: until then
it holds the GIL, and who asks for a GIL that is held is put to sleep."""
GIVEN, DONE = 0, 8
"""Places of a worker's counters, the tasks that it was given and those it has done, each in its own cache line."""


def _kernel(function: Any) -> Any:
    options: dict[str, Any] = {"nogil": True, "no_cfunc_wrapper": True}
    decorate = njit(**options)
    return enable_cache(decorate(function))


@_kernel
def await_task(counters, done):  # type: ignore[no-untyped-def]
    """Announce that `done` tasks are done, and wait until another one is given, or for `LOOKS`."""
    add_atomically(counters, DONE, done - counters[DONE])
    looks = 0
    while load_atomically(counters, GIVEN) == done:
        looks += 1
        if looks % SLICE == 0:
            let_others_run()
            if looks >= LOOKS:
                return
    looks = 0
    while looks < DELAY and load_atomically(counters, GIVEN) != done:
        looks += 1


@_kernel
def await_end(counters):  # type: ignore[no-untyped-def]
    """Wait until all tasks that were given are done, or for `LOOKS`."""
    given = counters[GIVEN]
    looks = 0
    while load_atomically(counters, DONE) < given:
        looks += 1
        if looks % SLICE == 0:
            let_others_run()
            if looks >= LOOKS:
                return
