"""Compiling ahead: a solver is run on small systems that call for the code that large ones of their kind do.

Kernels are compiled when they are first called and kept on disk (`NUMBA_CACHE_DIR`, or beside the package), for every
later process on the same kind of processor.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.engine import Solver
from relaxon.solvers.grid import BoundaryLike, CellType, PoissonGrid

SIDE = 24
"""Cells a side of the systems on which a solver is compiled: small, yet deep enough for several grid levels."""
CYCLE_SIDE = {2: 290, 3: 56}
"""Of a box whose second level is divided among threads as well, by the number of dimensions: other code than that of
small levels, which the multigrid cycle's solvers take on large grids.
"""
CYCLE_SOLVERS = ("dcdm", "mg-cg")
ITERATIONS = 3


def warm_up(solver: str | Solver = "dcdm", like: PoissonGrid | None = None) -> float:
    """Compile and load what `solver` runs on grids such as `like`; seconds it took.

    Parameters
    ----------
    solver : a name from `list_solvers()` or a solver object.
    like : a grid of the kind that is to be solved: its dimensions, boundary, kinds of cells, and whether κ varies. None
        for a large three-dimensional one with obstacles and an open surface, κ = 1. Not modified.

    Raises
    ------
    TypeError, ValueError : `solver` or `like`.

    Examples
    --------
    >>> from relaxon.solvers import warm_up
    >>> seconds = warm_up("cg")
    >>> bool(warm_up("cg") <= seconds)  # the second time there is nothing to compile
    True
    """
    from relaxon.solvers.driver import prepare

    if like is not None and not isinstance(like, PoissonGrid):
        raise TypeError(f"like must be a PoissonGrid or None, got {type(like).__name__}")
    start = time.perf_counter()
    for grid in small_grids(usual_grid(3) if like is None else like, solver):
        prepare(grid, solver=solver).solve(right_hand_side(grid), max_iterations=ITERATIONS, inconsistent="project")
    return time.perf_counter() - start


def usual_grid(ndim: int, varying: bool = False) -> PoissonGrid:
    """A grid large enough to be one of the large ones, with obstacles and an open surface; κ is an array or 1."""
    cells = np.zeros((CYCLE_SIDE[ndim] + 1,) * ndim, np.uint8)
    middle = cells.shape[0] // 2
    cells[..., middle:] = CellType.AIR
    cells[(slice(middle // 2, middle),) * ndim] = CellType.SOLID
    return PoissonGrid(cells, coefficient=np.ones(cells.shape) if varying else None)


def small_grids(like: PoissonGrid, solver: str | Solver) -> Iterator[PoissonGrid]:
    """Small grids that call for the same compiled code as `like`: a sample of it, and closed boxes."""
    strides = (max(1, -(-n // SIDE)) for n in like.shape)
    sample = like.cells[tuple(slice(None, None, stride) for stride in strides)].copy()
    sample.flat[0] = CellType.FLUID
    kinds: list[tuple[NDArray[np.uint8], BoundaryLike]] = [(sample, like.boundary), (_box(SIDE, like.ndim), "neumann")]
    side = CYCLE_SIDE[like.ndim]
    if like.cells.size > side**like.ndim and (not isinstance(solver, str) or solver in CYCLE_SOLVERS):
        kinds.append((_box(side, like.ndim), "neumann"))
    for cells, boundary in kinds:
        yield PoissonGrid(cells, like.spacing, boundary, None if like.coefficient is None else np.ones(cells.shape))


def _box(side: int, ndim: int) -> NDArray[np.uint8]:
    return np.zeros((side,) * ndim, np.uint8)


def right_hand_side(grid: PoissonGrid) -> NDArray[np.float64]:
    """Anything, but always the same: `grid.shape float64`."""
    return np.random.default_rng(0).standard_normal(grid.shape)
