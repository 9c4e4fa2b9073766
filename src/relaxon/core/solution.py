"""What a solve returns: the solution, why it stopped, and how the residual developed."""

# Imported on first use, for their weight: `html`, `pictures`.

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

    On grids with κ = 1 the test is `‖r‖₂ ≤ rtol·‖b‖₂ + atol`. For other κ and for matrices there is a second one:
    unless `‖r‖₂ ≤ atol`, also `‖D^−½ r‖₂ ≤ rtol·‖D^−½ b‖₂`, with D the diagonal, over the unknowns that remain when
    each one with `a_ii ≥ 10⁴ Σ_{j≠i} |a_ij|` is eliminated, so that a few huge rows cannot hide the error in the
    others. For matrices that are not symmetric positive definite, D is the magnitude of the diagonal, or the row's
    largest entry where the diagonal is zero. For operators without stored entries there is only the first test.
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
    """What a callback receives after each iteration."""

    iteration: int
    residual: float
    """‖r‖₂ as the solver computes it (the true residual for DCDM, the recurrence for conjugate gradients)."""
    tolerance: float
    """The residual norm at which the solve is done: `rtol·‖b‖ + atol`."""


Callback = Callable[[Progress], object]
"""Called after each iteration; if it returns `True`, the solve stops with `Result.CANCELLED`."""


@dataclass(frozen=True, slots=True, repr=False)
class Solution:
    """The outcome of a solve.

    `x` has the form of the right-hand side: a full array of the grid's shape, zero outside the fluid, or a packed
    vector of the unknowns; float64, or complex128 if the right-hand side is complex. If a solve ends with a larger
    residual than that of the step before or of the initial guess, `x` is that earlier one, and `message` says so.
    """

    x: NDArray[Any]
    result: Result
    residuals: NDArray[np.float64]
    """‖r‖₂ at the start and after each iteration: `(iterations + 1,) float64`. Over the remaining rows if unknowns were
    eliminated because their own diagonal decides them."""
    iterations: int
    setup_seconds: float
    solve_seconds: float
    true_residual: float
    """‖b − A x‖₂ recomputed in float64 from the returned `x`."""
    relative_residual: float
    """`true_residual / ‖b‖₂` (0 if b is 0)."""
    tolerance: float
    solver: str
    message: str = ""
    fallbacks: int = 0
    """Steps in which a learned direction was rejected and a safe one taken instead."""
    info: dict[str, float] = field(default_factory=dict)
    """Figures particular to the solver (levels, operator complexity), meant for people rather than programs."""
    backward_error: float = 0.0
    """The componentwise backward error of `x`, `maxᵢ |b − A x|ᵢ / (|A||x| + |b|)ᵢ`: the smallest ε for which `x` is
    the exact solution of a system in which every entry differs from this one's by at most the fraction ε (Oettli,
    Prager 1964). About 1e-16 is rounding; near 1, some row is not solved at all, however small the residual norm. For
    an operator without stored entries it is `‖r‖ / (‖A x‖ + ‖b‖)`, an upper bound on the normwise backward error."""

    @property
    def converged(self) -> bool:
        return self.result is Result.CONVERGED

    def plot(self, cells: NDArray[np.uint8] | None = None) -> Figure:
        """Draw the convergence of the solve and, if `x` has the grid's shape, a slice of it.

        `cells` are those of the grid, to distinguish solids and air from the fluid. A notebook displays the figure as
        the value of a cell; `savefig` writes it to a file. ModuleNotFoundError if matplotlib is not installed.

        Examples
        --------
        >>> from relaxon.solvers import PoissonGrid, solve
        >>> grid = PoissonGrid(np.zeros((16, 16), np.uint8), boundary="dirichlet")
        >>> figure = solve(grid, np.ones(grid.shape), solver="cg").plot(grid.cells)
        >>> [axes.get_xlabel() for axes in figure.axes[:2]]
        ['iteration', 'x']
        """
        from relaxon.core.pictures import draw_solution

        return draw_solution(self, cells)

    def __repr__(self) -> str:
        """Return the verdict and the figures, with arrays by their shapes."""
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
