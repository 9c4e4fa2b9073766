"""What a solve gives back: the solution, why it stopped, and how the residual went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Result(Enum):
    """How a solve ended. Only `CONVERGED` means that the tolerance was met, and it was checked in float64."""

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


@dataclass(frozen=True, slots=True)
class Solution:
    """A solve's outcome.

    `x` has the form of the right-hand side it answers: a full array of the grid's shape, zero outside the
    fluid, or a packed vector of the unknowns; float64, or complex128 where the right-hand side is complex.
    """

    x: NDArray[Any]
    result: Result
    residuals: NDArray[np.float64]
    """‖r‖₂ at the start and after each iteration: `(iterations + 1,) float64`."""
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

    @property
    def converged(self) -> bool:
        return self.result is Result.CONVERGED
