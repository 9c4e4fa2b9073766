"""Complex right-hand sides of a real operator: the real part is solved, then the imaginary one, and both are joined."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import scaling
from relaxon.core.solution import Callback, Progress, Result, Solution

if TYPE_CHECKING:
    from relaxon.solvers.interface.request import Request

WORST_FIRST = (
    Result.NON_FINITE,
    Result.SINGULAR_INCONSISTENT,
    Result.DIVERGED,
    Result.CANCELLED,
    Result.STAGNATED,
    Result.MAX_ITERATIONS,
    Result.CONVERGED,
)


@dataclass(frozen=True, slots=True)
class ComplexRequest:
    """The checked parts of a complex right-hand side; `tolerance` and `b_norm` are those of the whole, unscaled."""

    real: Request
    imaginary: Request
    tolerance: float
    b_norm: float

    def parts(self, sides: tuple[float, float] | None) -> tuple[Request, Request]:
        """Return both parts, each with a tolerance that keeps the whole within its own: `√(τ²/2 + τ²/2) = τ`.

        `sides` are the norms of the whole right-hand side for the scaled test; None if there is no such test.
        """
        return self._part(self.real, sides), self._part(self.imaginary, sides)

    def _part(self, part: Request, sides: tuple[float, float] | None) -> Request:
        tolerance = scaling.scaled(self.tolerance / math.sqrt(2.0), -part.exponent)
        shares = None
        if sides is not None:
            scaled, left = (scaling.scaled(side / math.sqrt(2.0), -part.exponent) for side in sides)
            shares = scaled, left
        return replace(part, tolerance=tolerance, atol=part.atol / math.sqrt(2.0), sides=shares)


def is_complex(value: ArrayLike | None) -> bool:
    """Return whether a caller's array holds complex numbers."""
    return value is not None and np.asarray(value).dtype.kind == "c"


def split(value: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the real and the imaginary part; the latter is zero if the values are real."""
    array = np.asarray(value)
    return array.real, array.imag


def solve_parts(
    request: ComplexRequest,
    sides: tuple[float, float] | None,
    solve: Callable[[Request, Callback | None], Solution],
    start: Callable[[Request], tuple[float, float, NDArray[Any]]],
    callback: Callback | None,
) -> Solution:
    """Solve for both parts and join their solutions.

    `start` returns the residual norm and the backward error of a part's initial guess, and the guess in the form of an
    answer. `sides` is as in `ComplexRequest.parts`. All residual norms are those of the complex system,
    `√(‖r_real‖² + ‖r_imaginary‖²)`, in which first one part improves and then the other. The backward error is the
    larger of the two parts', which bounds that of the whole.
    """
    first, second = request.parts(sides)
    resting, backward_error, unsolved = start(second)
    one = solve(first, _of_whole(callback, request.tolerance, 0, resting))
    cancelled = one.result is Result.CANCELLED
    if cancelled:
        two = replace(one, x=unsolved, residuals=np.array([resting]), iterations=0, true_residual=resting, fallbacks=0)
        two = replace(two, backward_error=backward_error)
    else:
        two = solve(second, _of_whole(callback, request.tolerance, one.iterations, one.true_residual))
    true = math.hypot(one.true_residual, two.true_residual)
    result = min((one.result, two.result), key=WORST_FIRST.index)
    # One part may take more than its share. The scaled test is applied per part: solutions do not report its figures.
    if sides is None and true <= request.tolerance and result not in (Result.CANCELLED, Result.SINGULAR_INCONSISTENT):
        result = Result.CONVERGED
    messages = dict.fromkeys(part.message for part in (one, two) if part.message)
    return Solution(
        x=one.x + 1j * two.x,
        result=result,
        residuals=np.concatenate([np.hypot(one.residuals, resting), np.hypot(one.true_residual, two.residuals[1:])]),
        iterations=one.iterations + two.iterations,
        setup_seconds=one.setup_seconds,
        solve_seconds=one.solve_seconds + (0.0 if cancelled else two.solve_seconds),
        true_residual=true,
        relative_residual=true / request.b_norm if request.b_norm > 0 else 0.0,
        tolerance=request.tolerance,
        solver=one.solver,
        message="; ".join(messages),
        fallbacks=one.fallbacks + two.fallbacks,
        info=one.info,
        backward_error=max(one.backward_error, two.backward_error),
    )


def _of_whole(callback: Callback | None, tolerance: float, before: int, other: float) -> Callback | None:
    """Return the caller's callback for one part: iterations continue, and residuals are those of the whole."""
    if callback is None:
        return None
    return lambda p: callback(Progress(before + p.iteration, math.hypot(p.residual, other), tolerance))
