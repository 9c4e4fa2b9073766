"""Progress of compiling kernels, in this process or on a server, and the callbacks that receive it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CompileProgress:
    """How many kernels are compiled, and about how long the rest takes.

    Examples
    --------
    >>> print(CompileProgress(12, 31, 8.2))
    compiling 12 of 31 kernels, about 8 s left
    """

    done: int
    total: int
    seconds_left: float
    """An estimate from the time that the kernels so far took."""

    def __str__(self) -> str:
        return f"compiling {self.done} of {self.total} kernels, about {max(1, round(self.seconds_left))} s left"


Watcher = Callable[[CompileProgress], object]
_watchers: list[Watcher] = []


@contextmanager
def watch_compiling(callback: Watcher | None) -> Iterator[None]:
    """Call `callback` with a `CompileProgress` after each kernel that is compiled while the block runs.

    The callback receives the progress of all compiling in this process and for the clients of this process, in any
    thread. With None nothing is called.

    Examples
    --------
    >>> import numpy as np
    >>> from relaxon.solvers import PoissonGrid, solve, watch_compiling
    >>> grid = PoissonGrid(np.zeros((16, 16), np.uint8), boundary="dirichlet")
    >>> progress = []
    >>> with watch_compiling(progress.append):  # empty where these kernels are in the cache
    ...     solution = solve(grid, np.ones(grid.shape), solver="cg")
    """
    if callback is not None:
        _watchers.append(callback)
    try:
        yield
    finally:
        if callback is not None:
            _watchers.remove(callback)


def is_watched() -> bool:
    """Return whether any callback watches compiling."""
    return bool(_watchers)


def tell(progress: CompileProgress) -> None:
    """Call the callbacks that watch compiling."""
    for watcher in tuple(_watchers):
        watcher(progress)
