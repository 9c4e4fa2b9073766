"""Compilation of all kernels of a kind of solve before its first run, by two processes where there are two cores.

Kernels are compiled once and cached on disk (`relaxon.solvers.kernels.cache_folder`) for all later processes on the
same kind of processor.
"""
# Imported on first use, for their weight: numba, scipy.

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from relaxon.core.compile_progress import tell
from relaxon.core.naming import split_device
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.interface.registry import likely_solver
from relaxon.solvers.kernels import cache_folder
from relaxon.solvers.kernels.threads import get_num_threads
from relaxon.solvers.precompile.table import CompileTask, KernelTable, grid_kind, load_table, matrix_kind
from relaxon.solvers.precompile.work import Child, Work, compile_here

WORTH_A_CHILD = 4.0
"""Seconds of compilation from which a second process pays: its start takes about a second of processor time."""

_ready: set[str] = set()
_compiling = threading.RLock()
"""Held while a kind is compiled; re-entrant, as a signal handler or a finaliser may solve during it in the same
thread."""
_under_way: list[tuple[Work, list[Child]]] = []


def kind_of(solver: Any, system: Any) -> str | None:
    """Return the name in the table of kernels for solves of `system` by `solver`; None where these run no kernels.

    `system` is a `PoissonGrid`; anything else counts as a matrix.
    """
    name = solver if isinstance(solver, str) else getattr(solver, "name", "")
    if hasattr(solver, "device") or split_device(name)[1] is not None:
        return None
    if isinstance(system, PoissonGrid):
        if name == "auto":
            name = likely_solver(system)
        if name == "amg":  # on the grid's matrix
            return matrix_kind(name)
        return grid_kind(name, system.ndim, not system.constant)
    return matrix_kind(name)


def compile_kind(kind: str | None, beside: bool = False) -> None:
    """Compile the kernels of a kind of solve (from `kind_of`) that are not in the cache. Never fails.

    With `beside`, other processes do all of it, where they can be started, so that this process is not held up.
    """
    if kind is None or kind in _ready or sys.is_finalizing():  # when finalising, no other thread runs
        return
    with _compiling:
        if kind in _ready:
            return
        table = load_table()
        missing = missing_kernels(table, kind)
        if not missing or _compile(table, missing, beside):
            _ready.add(kind)


def is_ready(kind: str | None) -> bool:
    """Return whether a kind is known to be compiled, without a look at the cache: False where it is unknown."""
    return kind is None or kind in _ready


def stop_compiling() -> None:
    """Stop the compilation that `compile_kind(beside=True)` has started, unfinished."""
    for work, children in tuple(_under_way):
        work.stop()
        for child in children:
            child.end()


def missing_kernels(table: KernelTable, kind: str) -> list[int]:
    """Return the numbers of a kind's tasks, called kernels included, that are neither cached nor in this process."""
    import numba

    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return []
    called = [number for number in table.kinds.get(kind, ()) if not _is_there(table.tasks[number])]
    return [number for number in table.list_needed(called) if not _is_there(table.tasks[number])]


def compile_seconds(kind: str | None) -> float:
    """Return the estimated seconds to compile a kind, on a machine like the one that wrote the table."""
    if kind is None or kind in _ready:
        return 0.0
    table = load_table()
    return sum(table.tasks[number].seconds for number in missing_kernels(table, kind))


def _is_there(task: CompileTask) -> bool:
    try:
        kernel, signature = task.kernel(), task.signature()
        return signature in kernel.overloads or kernel._cache.holds(signature, kernel.targetctx)
    except Exception:  # the table is older than the kernels: a missing one is compiled when it is called
        return True


def _compile(table: KernelTable, numbers: list[int], beside: bool) -> bool:
    """Compile tasks, and return whether all were done."""
    work = Work(table, numbers, tell)
    seconds = sum(table.tasks[number].seconds for number in numbers)
    several = seconds > WORTH_A_CHILD and len(numbers) > 1 and get_num_threads() > 1 and _cores() > 1
    count = int(beside) + int(several)
    claimed = cache_folder.claim("compiling") if count else None  # one of many processes starts others
    children: list[Child] = []
    under_way = (work, children)
    _under_way.append(under_way)
    try:
        while claimed is not None and len(children) < count:
            children.append(Child(work))
        tell(work.progress())
        if beside:
            for child in children:
                child.join()
        compile_here(table, work)
        for child in children:
            child.join()
    finally:
        _under_way.remove(under_way)
        work.stop()
        for child in children:
            child.end()
        if claimed is not None:
            claimed.close()
    return work.complete


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _renew_after_fork() -> None:
    """Give a forked child its own lock, as the thread that held its parent's does not exist there, and forget the work
    of its parent, which is not the child's to stop."""
    global _compiling
    _compiling = threading.RLock()
    _under_way.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_after_fork)
