"""Warm-up: what a kind of solve runs is compiled and loaded by solving small systems of that kind.

Imported on first use, for its weight: SciPy.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.compile_progress import Watcher, watch_compiling
from relaxon.solvers.driver.solve import DEFAULT_SOLVER, prepare
from relaxon.solvers.grid.nullspace import closes_faces
from relaxon.solvers.grid.poisson_grid import BoundaryLike, CellType, PoissonGrid, Robin
from relaxon.solvers.interface.engine import Solver

if TYPE_CHECKING:
    from relaxon.core.sparse_matrix import SparseMatrix
    from relaxon.solvers.sparse.engine import MatrixSolver

SIDE = 24
"""Cells a side of the systems on which a solver is compiled: small, but deep enough for several grid levels."""
CYCLE_SIDE = {2: 290, 3: 56}
"""Cells a side of a box whose second level, too, is divided among threads, by the number of dimensions: solvers with
the multigrid cycle run other code on large levels than on small ones.
"""
CYCLE_SOLVERS = ("dcdm", "mg-cg")
BOX_SOLVERS = ("fast-diagonalisation",)
"""Solvers that refuse grids with SOLID and AIR cells."""
ITERATIONS = 3
"""Iterations of a solve that compiles."""


def warm_up(
    solver: str | Solver | MatrixSolver | None = None,
    like: PoissonGrid | SparseMatrix | None = None,
    callback: Watcher | None = None,
) -> float:
    """Compile and load the kernels of `solver` for grids such as `like`, and return the seconds that took.

    Parameters
    ----------
    solver : a name from `list_solvers()` or a solver object; None for the default of `solve`.
    like : a grid of the kind to be solved, with its dimensions, boundary, kinds of cells, κ, σ and widths. None stands
        for a large three-dimensional one with obstacles and an open surface, κ = 1. A SciPy sparse matrix stands for
        solves with matrices. Not modified.
    callback : called with a `CompileProgress` after each kernel that had to be compiled, in any thread.

    Raises
    ------
    TypeError, ValueError : `solver` or `like`.

    Examples
    --------
    >>> from relaxon.solvers import warm_up
    >>> seconds = warm_up("cg")  # from now on a solve by "cg" has nothing to compile
    >>> bool(seconds > 0)
    True
    """
    start = time.perf_counter()
    with watch_compiling(callback):
        if like is None or isinstance(like, PoissonGrid):
            solver = DEFAULT_SOLVER if solver is None else solver
            for grid in small_grids(usual_grid(3) if like is None else like, solver):
                prepared = prepare(grid, solver=solver)
                prepared.solve(right_hand_side(grid), max_iterations=ITERATIONS, inconsistent="project")
                if not grid.constant and getattr(solver, "name", solver) == "dcdm":
                    _try_candidates(grid)
        else:
            _warm_up_matrix(solver, like)
    return time.perf_counter() - start


def _try_candidates(grid: PoissonGrid) -> None:
    """Run each cycle that `dcdm` may choose where coefficients vary: which one it is depends on the grid's values."""
    from relaxon.solvers.dcdm.coupling_choice import load_choice

    r = np.where(grid.fluid, right_hand_side(grid), 0.0).reshape(grid.shape3)
    for candidate in load_choice().candidates:
        candidate.cycle(grid.operator())(r, np.empty_like(r))


def _warm_up_matrix(solver: Any, like: Any) -> None:
    from scipy.sparse import issparse

    if not issparse(like):
        raise TypeError(f"like must be a PoissonGrid, a SciPy sparse matrix or None, got {type(like).__name__}")
    for matrix in small_matrices():
        prepared = prepare(matrix.astype(like.dtype), solver=solver)
        b = np.random.default_rng(0).standard_normal(matrix.shape[0])
        prepared.solve(b, max_iterations=ITERATIONS, inconsistent="project")


def small_matrices() -> Iterator[Any]:
    """Yield Laplacians of boxes, `(n, n)` CSR float64: with Dirichlet sides, closed, and of a few unknowns."""
    for side, boundary in ((SIDE, "dirichlet"), (SIDE, "neumann"), (4, "dirichlet")):
        yield PoissonGrid(_box(side, 3), 1.0, boundary).operator().to_csr()


def usual_grid(ndim: int, varying: bool = False) -> PoissonGrid:
    """Return a grid large enough to run the code for large grids, with obstacles and an open surface; κ is an array or
    1."""
    cells = np.zeros((CYCLE_SIDE[ndim] + 1,) * ndim, np.uint8)
    middle = cells.shape[0] // 2
    cells[..., middle:] = CellType.AIR
    cells[(slice(middle // 2, middle),) * ndim] = CellType.SOLID
    return PoissonGrid(cells, coefficient=np.ones(cells.shape) if varying else None)


def small_grids(like: PoissonGrid, solver: Any) -> Iterator[PoissonGrid]:
    """Yield small grids that need the same compiled code as `like`: a sample of it, and closed boxes."""
    strides = (max(1, -(-n // SIDE)) for n in like.shape)
    sample = like.cells[tuple(slice(None, None, stride) for stride in strides)].copy()
    sample.flat[0] = CellType.FLUID
    name = solver if isinstance(solver, str) else getattr(solver, "name", "")
    if name in BOX_SOLVERS:
        sample[...] = CellType.FLUID
    kinds: list[tuple[NDArray[np.uint8], BoundaryLike]] = [(sample, like.boundary), (_box(SIDE, like.ndim), "neumann")]
    side = CYCLE_SIDE[like.ndim]
    if like.cells.size > side**like.ndim and (not isinstance(solver, str) or solver in CYCLE_SOLVERS):
        kinds.append((_box(side, like.ndim), "neumann"))
    for cells, boundary in kinds:
        yield _make_alike(like, cells, boundary)


def _make_alike(like: PoissonGrid, cells: NDArray[np.uint8], boundary: BoundaryLike) -> PoissonGrid:
    """Return a grid with these cells and sides that needs the same compiled code as `like`; numbers replace arrays."""
    if not isinstance(boundary, str | Robin):
        boundary = [
            tuple(Robin(float(np.max(side.h))) if isinstance(side, Robin) else side for side in pair)
            for pair in like.boundary
        ]
    # Varying along one axis it is still separable: for the direct solver of boxes another case than 1.
    kappa: Any = None if like.constant else np.ones(cells.shape) * np.linspace(1.0, 2.0, cells.shape[-1])
    if closes_faces(like):
        kappa = [np.ones([n + (a == axis) for a, n in enumerate(cells.shape)]) for axis in range(like.ndim)]
        kappa[0][1, ..., 0] = 0.0
    return PoissonGrid(cells, like.mean_spacing, boundary, kappa, 0.0 if like.reaction is None else 1.0)


def _box(side: int, ndim: int) -> NDArray[np.uint8]:
    return np.zeros((side,) * ndim, np.uint8)


def right_hand_side(grid: PoissonGrid) -> NDArray[np.float64]:
    """Return a random right-hand side, always the same: `grid.shape float64`."""
    return np.random.default_rng(0).standard_normal(grid.shape)
