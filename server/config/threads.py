"""How the solvers' threads share the processors with other programs.

Imported on first use, for their weight: the binding of the kernels' threads (numba).
"""

from __future__ import annotations

import os

WAIT_POLICY = "OMP_WAIT_POLICY"
PROC_BIND = "OMP_PROC_BIND"
COUNTS = ("RELAXON_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
_OURS: set[str] = set()
"""Variables that were set here and must not be inherited by other processes."""
_apart = False
"""Whether each thread of a solve is bound to a processor of its own."""


def wait_asleep() -> None:
    """Have OpenMP's threads sleep, not spin, while they wait for each other, unless the environment says otherwise.

    The compiled kernels have threads of their own, which always sleep; torch uses OpenMP's. A thread that spins keeps
    the processor from the thread that it waits for. This has an effect only before the process loads OpenMP.
    """
    os.environ.setdefault(WAIT_POLICY, "passive")


def keep_apart() -> None:
    """Keep each thread of a solve on a processor of its own, unless the environment (`OMP_PROC_BIND`) says otherwise.

    The solver's loops wait for the slowest thread, and beside a busy event loop and a busy caller the system puts two
    threads on one processor for a while. This is for a process that runs one solve at a time, with a thread for each
    processor, and has not yet loaded OpenMP. Only threads that solve are bound: OpenMP binds its own, `bind` those of
    the kernels.
    """
    global _apart
    if any(os.environ.get(name, "") not in ("", str(usable_cores())) for name in COUNTS):
        return  # some processors are reserved for other programs
    if PROC_BIND not in os.environ:
        os.environ[PROC_BIND] = "true"
        keep_from_others(PROC_BIND)
    _apart = os.environ[PROC_BIND].strip().lower() != "false"


def bind() -> None:
    """Bind the calling thread, which solves, and its helpers; do nothing without `keep_apart`."""
    if _apart:
        from relaxon.solvers.kernels.threads import bind_threads

        bind_threads()


def build_environment() -> dict[str, str]:
    """Return the environment for another process, without the bindings that were chosen for this one."""
    return {name: value for name, value in os.environ.items() if name not in _OURS}


def keep_from_others(variable: str) -> None:
    """Leave a variable out of `build_environment`."""
    _OURS.add(variable)


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
