"""How the engines' threads behave beside other programs on the same processors."""

from __future__ import annotations

import os

WAIT_POLICY = "OMP_WAIT_POLICY"
PROC_BIND = "OMP_PROC_BIND"
COUNTS = ("RELAXON_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
_OURS: set[str] = set()
"""Variables that were set here and are not for other processes."""
_apart = False
"""Whether the threads of a solve are kept apart."""


def wait_asleep() -> None:
    """Have OpenMP's threads sleep, not spin, while they wait for each other; a caller's own choice stands.

    The compiled kernels have threads of their own, which always sleep; torch's are OpenMP's. A thread that spins keeps
    the processor from the one that it waits for. It has an effect in a process that has not yet loaded OpenMP.
    """
    os.environ.setdefault(WAIT_POLICY, "passive")


def keep_apart() -> None:
    """Keep each thread of a solve on a processor of its own, where a solve has a thread for each; a caller's own choice
    (`OMP_PROC_BIND`) stands.

    The solver's loops wait for the slowest thread, and beside an event loop and a caller's program that are busy the
    system puts two of them on one processor for a time. For a process that runs one solve at a time and has not yet
    loaded OpenMP. Only threads that solve are bound: OpenMP's by itself, the kernels' by `bind`.
    """
    global _apart
    if any(os.environ.get(name, "") not in ("", str(usable_cores())) for name in COUNTS):
        return  # some processors are left to others, whoever they are
    if PROC_BIND not in os.environ:
        os.environ[PROC_BIND] = "true"
        not_for_others(PROC_BIND)
    _apart = os.environ[PROC_BIND].strip().lower() != "false"


def bind() -> None:
    """Bind the calling thread, which is the one that solves, and its helpers; nothing without `keep_apart`."""
    if _apart:
        from relaxon.solvers.kernels.binding import bind_threads

        bind_threads()


def inherited_environment() -> dict[str, str]:
    """The environment for another process: with this one's choices it would bind its threads to the same processors."""
    return {name: value for name, value in os.environ.items() if name not in _OURS}


def not_for_others(variable: str) -> None:
    """Leave a variable out of what `inherited` gives."""
    _OURS.add(variable)


def usable_cores() -> int:
    """The cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
