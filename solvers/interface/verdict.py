"""The verdict on a solve: figures of the residual in float64, and the tests that they have to meet.

Source of the backward error: W. Oettli, W. Prager, "Compatibility of approximate solution of linear equations with
given error bounds for coefficients and right-hand sides", Numer. Math. 6 (1964).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.solution import Result

ROUNDING = 1.0 + 1e-10
"""By how much a quotient of two norms may exceed its limit: both are sums of many rounded terms."""
TIGHTENED = 0.5
"""Fraction of the residual that would just meet the scaled test; a solver that has to go on is asked for that."""
BETTER = {
    "step": "x is that of the step before the last one, whose residual is less",
    "start": "x is the start, whose residual is less than the last one's",
    "zero": "x is zero, whose residual is less than the last one's",
}
"""The message of a solve that returns another `x` than its last one."""
LAST_DIGITS = 64 * float(np.finfo(np.float64).eps)
"""A backward error that is rounding: each row's residual is that of an `x` which is exact but for its last digits."""
BLOCK = 1 << 16
"""Entries that are subtracted at a time, so that no temporary of the solution's length is needed."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of an `x`, in the units of the right-hand side that the solver holds.

    `residual` is ‖b − A x‖₂, `backward_error` maxᵢ |b − A x|ᵢ / (|A||x| + |b|)ᵢ. `scaled_norm` and `scaled_side` are
    ‖D^−½ r‖ and ‖D^−½ b‖ over the unknowns that remain when those decided by their own diagonal are eliminated; None if
    the operator does not need this test (κ = 1). `left` and `left_side` are ‖r‖₂ and ‖b‖₂ over the same unknowns.
    """

    residual: float
    backward_error: float
    scaled_norm: float | None = None
    scaled_side: float = 0.0
    left: float = 0.0
    left_side: float = 0.0

    @property
    def scaled(self) -> float | None:
        """‖D^−½ r‖ / ‖D^−½ b‖; None if the operator does not need it."""
        return None if self.scaled_norm is None else ratio(self.scaled_norm, self.scaled_side)

    def beside(self, sides: tuple[float, float] | None) -> Figures:
        """Return the figures of one part of a right-hand side, given `scaled_side` and `left_side` of the whole."""
        return self if sides is None else replace(self, scaled_side=sides[0], left_side=sides[1])

    def allowed(self, rtol: float, atol: float) -> float:
        """Return the largest accepted `scaled`: `rtol`, plus `atol` relative to the right-hand side."""
        return rtol + (atol / self.left_side if self.left_side > 0 else 0.0)

    def meet(self, tolerance: float, rtol: float, atol: float) -> bool:
        """Return whether the tolerance is met: `‖r‖₂ ≤ tolerance`, and the scaled test unless `‖r‖₂ ≤ atol`."""
        if not self.residual <= tolerance:
            return False
        return self.scaled is None or self.residual <= atol or self.scaled <= self.allowed(rtol, atol) * ROUNDING

    def next_tolerance(self, tolerance: float, rtol: float, atol: float) -> float:
        """Return the residual norm to ask for when a solver meets its own test but not the scaled one."""
        if self.scaled is None or not self.scaled > 0:
            return tolerance
        return min(tolerance, TIGHTENED * self.left * self.allowed(rtol, atol) / self.scaled)

    def reason(self, rtol: float, atol: float) -> str:
        """Return why the scaled test fails; empty if it does not."""
        if self.scaled is None or self.scaled <= self.allowed(rtol, atol) * ROUNDING or self.residual <= atol:
            return ""
        return (
            f"‖b − A x‖ meets the tolerance, but scaled by the diagonal, ‖D^-½ r‖/‖D^-½ b‖ = {self.scaled:.2e} exceeds "
            f"{self.allowed(rtol, atol):.2e}: the rows' sizes lie too far apart for these iterations or for float64"
        )


def ratio(part: float, whole: float) -> float:
    """Return `part / whole`; 0 if both are 0, infinity if only `whole` is."""
    if whole > 0:
        return part / whole
    return 0.0 if part == 0 else math.inf


def backward_error(r: NDArray[np.float64], magnitude: NDArray[np.float64]) -> float:
    """Return `max |r|ᵢ / magnitudeᵢ`, where `magnitude` is `|A||x| + |b|`; `r` is overwritten."""
    np.abs(r, out=r)
    with np.errstate(invalid="ignore"):  # for an x that is not finite
        parts: NDArray[np.float64] = np.divide(r, magnitude, out=np.zeros_like(r), where=magnitude > 0)
    return float(parts.max())


def verdict(
    result: Result, message: str, figures: Figures, tolerance: float, rtol: float, atol: float
) -> tuple[Result, str]:
    """Return `CONVERGED` if and only if the figures meet the tolerance, whatever the solver claims, and a message."""
    if result is Result.SINGULAR_INCONSISTENT:
        return result, message
    if not math.isfinite(figures.residual):
        return Result.NON_FINITE, message or "the residual is not finite"
    if figures.meet(tolerance, rtol, atol) and result is not Result.CANCELLED:
        return Result.CONVERGED, message
    if figures.residual <= tolerance and result is not Result.CANCELLED:
        message = "; ".join(part for part in (message, figures.reason(rtol, atol)) if part)
    if result is Result.CONVERGED:
        result, message = Result.STAGNATED, message or "the true residual does not meet the tolerance"
    if result is Result.STAGNATED and figures.backward_error <= LAST_DIGITS:
        limit = f"float64 can do no better: the backward error is {figures.backward_error:.1e}"
        message = "; ".join(part for part in (message, limit) if part)
    return result, message


def subtract(x: NDArray[Any], factor: float, d: NDArray[Any]) -> None:
    """Compute `x ← x − factor·d` in place and in blocks; both are C-contiguous and of the same size."""
    to, by = x.reshape(-1), d.reshape(-1)
    for start in range(0, len(to), BLOCK):
        part = slice(start, start + BLOCK)
        to[part] -= factor * by[part].astype(np.float64, copy=False)
