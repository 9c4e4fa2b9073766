"""How far the compiling of kernels is, and who is told: in this process, and of a server's by the client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CompileProgress:
    """How far the compiling of kernels is.

    Examples
    --------
    >>> print(CompileProgress(12, 31, 8.2))
    compiling 12 of 31 kernels, about 8 s left
    """

    done: int
    total: int
    seconds_left: float
    """An estimate, from what the kernels so far took."""

    def __str__(self) -> str:
        return f"compiling {self.done} of {self.total} kernels, about {max(1, round(self.seconds_left))} s left"


Watcher = Callable[[CompileProgress], object]
_watchers: list[Watcher] = []


@contextmanager
def watch_compiling(callback: Watcher | None) -> Iterator[None]:
    """Have `callback` called with a `CompileProgress` after each kernel that is compiled in the block.

    It hears of all compiling in this process and for this process's clients, and may be called in any thread; None for
    nothing.

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
    """Return whether anybody wants to know how far compiling is."""
    return bool(_watchers)


def tell(progress: CompileProgress) -> None:
    """Tell those who watch."""
    for watcher in tuple(_watchers):
        watcher(progress)
