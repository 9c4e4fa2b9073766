"""What a solve gives back: the solution, why it stopped, and how the residual went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Result(Enum):
    """How a solve ended. Only `CONVERGED` means that the tolerance was met, and it was checked in float64.

    On grids with κ = 1 the test is `‖r‖₂ ≤ rtol·‖b‖₂ + atol`. For other κ and for matrices it is that and, unless
    `‖r‖₂ ≤ atol`, `‖D^−½ r‖₂ ≤ rtol·‖D^−½ b‖₂` (D the diagonal) on what is left when each unknown with
    `a_ii ≥ 10⁴ Σ_{j≠i} |a_ij|` is eliminated: a few huge rows cannot hide the error in the others. For matrices that
    are not symmetric positive definite, D is the diagonal's magnitude, or the row's largest where that is zero; for
    operators without stored entries there is the first test alone.
    """

    CONVERGED = "converged"
    MAX_ITERATIONS = "max_iterations"
    STAGNATED = "stagnated"
    DIVERGED = "diverged"
    NON_FINITE = "non_finite"
    SINGULAR_INCONSISTENT = "singular_inconsistent"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Progress:
    """What a callback sees after each iteration."""

    iteration: int
    residual: float
    """‖r‖₂ as the solver holds it (the true residual for DCDM, the recurrence for conjugate gradients)."""
    tolerance: float
    """The residual norm at which the solve is done: `rtol·‖b‖ + atol`."""


Callback = Callable[[Progress], object]
"""Called after each iteration; a return value that is `True` stops the solve with `Result.CANCELLED`."""


@dataclass(frozen=True, slots=True, repr=False)
class Solution:
    """A solve's outcome.

    `x` has the form of the right-hand side it answers: a full array of the grid's shape, zero outside the
    fluid, or a packed vector of the unknowns; float64, or complex128 where the right-hand side is complex. Where a
    solve ends with a larger residual than it had a step before or at its start, `x` is that one, and `message` says so.
    """

    x: NDArray[Any]
    result: Result
    residuals: NDArray[np.float64]
    """‖r‖₂ at the start and after each iteration: `(iterations + 1,) float64`. Where unknowns of a matrix or of κ were
    eliminated, because their own diagonal decides them, it is of the other rows."""
    iterations: int
    setup_seconds: float
    solve_seconds: float
    true_residual: float
    """‖b − A x‖₂ recomputed in float64 from the returned `x`."""
    relative_residual: float
    """`true_residual / ‖b‖₂` (0 where b is 0)."""
    tolerance: float
    solver: str
    message: str = ""
    fallbacks: int = 0
    """Steps in which a learned direction was refused and a safe one taken."""
    info: dict[str, float] = field(default_factory=dict)
    """Figures particular to a solver (levels, operator complexity), for people rather than programs."""
    backward_error: float = 0.0
    """The componentwise backward error of `x`, `maxᵢ |b − A x|ᵢ / (|A||x| + |b|)ᵢ`: the least ε for which `x` is the
    exact solution of a system whose every entry differs from this one's by at most ε of itself (Oettli, Prager 1964).
    Some 1e-16 are rounding; near 1, some row is not solved at all, however small the residual's norm is. Of an operator
    without stored entries it is `‖r‖ / (‖A x‖ + ‖b‖)`, which bounds the normwise backward error from above."""

    @property
    def converged(self) -> bool:
        return self.result is Result.CONVERGED

    def plot(self, cells: NDArray[np.uint8] | None = None) -> Figure:
        """A picture: how the residual fell and, where `x` has the grid's shape, a slice of it.

        `cells` are the grid's, so that solids and air are told apart from the fluid. The figure is shown where it is
        the value of a notebook's cell; `savefig` writes it. ModuleNotFoundError where matplotlib is not installed.

        Examples
        --------
        >>> from relaxon.solvers import PoissonGrid, solve
        >>> grid = PoissonGrid(np.zeros((16, 16), np.uint8), boundary="dirichlet")
        >>> figure = solve(grid, np.ones(grid.shape), solver="cg").plot(grid.cells)
        >>> [axes.get_xlabel() for axes in figure.axes[:2]]
        ['iteration', 'x']
        """
        from relaxon.core.pictures import picture_of

        return picture_of(self, cells)

    def __repr__(self) -> str:
        """The verdict and the figures; the arrays by their shapes."""
        return (
            f"Solution({self.result.name} by {self.solver!r}, {self.iterations} iterations, relative residual "
            f"{self.relative_residual:.2e}, {self.solve_seconds:.3g} s, x of shape {self.x.shape})"
        )

    def _repr_html_(self) -> str:
        from relaxon.core.html import residual_curve, table

        rows = {
            "solver": self.solver,
            "iterations": self.iterations,
            "relative residual": f"{self.relative_residual:.2e}",
            "tolerance": f"{self.tolerance:.2e} (true residual {self.true_residual:.2e})",
            "backward error": f"{self.backward_error:.2e}",
            "set-up": f"{self.setup_seconds:.3g} s",
            "solve": f"{self.solve_seconds:.3g} s",
            "x": f"{'×'.join(map(str, self.x.shape))} {self.x.dtype}",
            "message": self.message,
        }
        title = self.result.value.replace("_", " ")
        return table(title, rows, residual_curve(self.residuals))
