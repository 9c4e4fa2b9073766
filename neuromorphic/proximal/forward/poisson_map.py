"""The solution map of a Poisson grid as a forward operator, from a source to its field."""

from __future__ import annotations

import numpy as np

from relaxon.core import validation
from relaxon.neuromorphic.proximal.forward.operators import Array, ForwardOperator
from relaxon.solvers.driver.prepared import PreparedSolver
from relaxon.solvers.driver.solve import prepare
from relaxon.solvers.grid.poisson_grid import PoissonGrid


class UnsolvedFieldError(RuntimeError):
    """A solve of the forward map that did not meet its tolerance; the message says how it ended."""


class PoissonMap(ForwardOperator):
    """The map from a source b on a grid to its field x, `−∇·(κ∇x) = b`, both of `grid.shape`; 0 outside the fluid.

    A grid's matrix is symmetric, and so is this map: its adjoint is another solve. For a singular grid (no Dirichlet
    side, no AIR) it is the pseudo-inverse: source and field have zero mean on each component.

    Parameters
    ----------
    grid : the grid; sources outside its fluid are ignored.
    solver : a name from `relaxon.solvers.list_solvers()`; "scipy-direct" is fast for small grids.
    rtol : relative residual of each solve, which is also the accuracy of the adjoint.

    Raises
    ------
    TypeError, ValueError : naming the argument.
    UnsolvedFieldError : by `apply` and `adjoint`, for a solve that does not meet `rtol`.

    >>> import numpy as np
    >>> from relaxon.solvers import PoissonGrid
    >>> field = PoissonMap(PoissonGrid(np.zeros((4, 4), np.uint8), boundary="dirichlet"))
    >>> bool((field.apply(np.ones((4, 4))) > 0).all())
    True
    """

    name = "poisson"

    def __init__(self, grid: PoissonGrid, *, solver: str = "scipy-direct", rtol: float = 1e-12) -> None:
        if not isinstance(grid, PoissonGrid):
            raise TypeError(f"grid must be a PoissonGrid, got {type(grid).__name__}")
        if grid.row_weights is not None:
            raise ValueError(
                f"grid must have whole cells of equal widths, for the map to be its own adjoint, got {grid}"
            )
        self.grid, self.solver = grid, solver
        self.rtol = validation.positive_float("rtol", rtol)
        self.input_shape = self.output_shape = grid.shape
        self._prepared: PreparedSolver = prepare(grid, solver=solver)

    def _apply(self, x: Array) -> Array:
        solution = self._prepared.solve(np.where(self.grid.fluid, x, 0.0), rtol=self.rtol, inconsistent="project")
        if not solution.converged:
            raise UnsolvedFieldError(
                f"the solve of the field ended {solution.result.name} with a relative residual of "
                f"{solution.relative_residual:.2e}, asked for {self.rtol:.2e}"
            )
        return np.asarray(solution.x)

    def _adjoint(self, y: Array) -> Array:
        return self._apply(y)
