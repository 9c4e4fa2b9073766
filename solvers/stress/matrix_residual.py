"""Residuals of sparse systems in extended precision, by sums that share no code with the solvers or with SciPy.

The products of each row are computed and added in NumPy's long double (64 bits of significand on x86, float64
elsewhere), so that the rounding of the check is a thousandth of what it judges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DECIDED = 1e4
"""A diagonal entry of this many times the sum of the other magnitudes decides its unknown."""
COUPLING_ROUNDING = 1e-3
"""Rounding of the sum of squared couplings `Σ_{j≠i} a_ij² / (a_ii a_jj)`, which may be 1e-4 for a decided unknown."""


@dataclass(frozen=True, slots=True)
class MatrixResidual:
    """The residuals of a solution, with bounds on their rounding.

    `relative` is `‖b − A x‖₂ / ‖b‖₂`, 0 where both are 0; `rounding` bounds the error of a float64 computation of it.
    `scaled` is `‖D^−½ r‖ / ‖D^−½ b‖` of what elimination of decided unknowns leaves, None where the diagonal is not
    positive; `backward_error` is the largest `|r| / (|A||x| + |b|)` of a row.
    """

    relative: float
    rounding: float
    scaled: float | None
    scaled_rounding: float
    backward_error: float

    def meets(self, rtol: float) -> bool:
        """Return whether both residuals are at most `rtol`, up to the rounding of a verdict in float64."""
        within = self.relative <= rtol + self.rounding
        return within and (self.scaled is None or self.scaled <= rtol + self.scaled_rounding)


def matrix_residual(matrix: Any, b: NDArray[Any], x: NDArray[Any]) -> MatrixResidual:
    """Return the residuals of `x` for a SciPy sparse matrix (duplicates count as their sum) and vectors `(n,)`."""
    entries = matrix.tocoo()
    order = np.argsort(entries.row, kind="stable")
    rows, columns = entries.row[order], entries.col[order]
    wide = np.clongdouble if entries.dtype.kind == "c" or np.iscomplexobj(b) or np.iscomplexobj(x) else np.longdouble
    n = len(b)
    if not np.isfinite(x).all():
        return MatrixResidual(math.inf, 0.0, math.inf, 0.0, math.inf)
    # Scaled by powers of two, which change no digit, so that squares stay in range where long double is float64.
    unit_of_a, unit_of_b = _unit(entries.data), _unit(b)
    values = entries.data[order].astype(wide) / unit_of_a
    right, solution = b.astype(wide) / unit_of_b, x.astype(wide) * unit_of_a / unit_of_b
    starts = np.searchsorted(rows, np.arange(n))
    sums = _RowSums(starts, np.diff(np.append(starts, len(rows))) > 0)
    r = right - sums.of(values * solution[columns])
    size = sums.of(np.abs(values) * np.abs(solution[columns])) + np.abs(right)
    # The uncertainty of any float64 verdict on this x: half an ulp of each product, sum and entry.
    longest = int(np.diff(np.append(starts, len(rows))).max()) if n else 0
    unit = (longest + 2) * float(np.finfo(np.float64).eps) * size
    with np.errstate(invalid="ignore", divide="ignore"):
        backward = float(np.max(np.where(size > 0, np.abs(r) / np.where(size > 0, size, 1), 0))) if n else 0.0
    relative, rounding = _quotients(right, r, unit)
    scaled = _judge_scaled(sums, rows, columns, values, right, solution, r, unit)
    return MatrixResidual(relative, rounding, *scaled, backward)


@dataclass(frozen=True, slots=True)
class _RowSums:
    """Sums over the entries of each row, which are contiguous."""

    starts: NDArray[np.int64]
    filled: NDArray[np.bool_]

    def of(self, products: NDArray[Any]) -> NDArray[Any]:
        found = np.zeros(len(self.starts), products.dtype)
        if len(products):
            found[self.filled] = np.add.reduceat(products, self.starts[self.filled])
        return found


def _judge_scaled(
    sums: _RowSums,
    rows: NDArray[Any],
    columns: NDArray[Any],
    values: NDArray[Any],
    right: NDArray[Any],
    solution: NDArray[Any],
    r: NDArray[Any],
    unit: NDArray[Any],
) -> tuple[float | None, float]:
    on = rows == columns
    diagonal = sums.of(np.where(on, values, 0))
    if np.iscomplexobj(diagonal) or (diagonal < 0).any() or ((diagonal == 0) & sums.filled).any():
        return None, 0.0
    others = sums.of(np.where(on, 0, np.abs(values)))
    inverse = np.where(diagonal > 0, 1 / np.where(diagonal > 0, diagonal, 1), 0)
    couplings = sums.of(np.where(on, 0, values * values) * inverse[columns]) * inverse
    decided = (diagonal > 0) & (diagonal >= DECIDED * others) & (couplings * DECIDED <= 1 + COUPLING_ROUNDING)
    weight = np.where(decided, 0, np.sqrt(inverse))
    known = np.where(decided, solution, 0)
    side = right - sums.of(values * known[columns])
    return _quotients(weight * side, weight * r, weight * unit)


def _quotients(right: NDArray[Any], remaining: NDArray[Any], rounded: NDArray[Any]) -> tuple[float, float]:
    """Return `‖remaining‖/‖right‖` and `‖rounded‖/‖right‖`; infinite, and 0, where the right-hand side is zero."""
    norm, size, least = (_norm(vector) for vector in (right, remaining, rounded))
    if norm == 0:
        return (0.0 if size <= least else math.inf), 0.0
    return float(size / norm), float(least / norm)


def _unit(values: NDArray[Any]) -> Any:
    """Return the power of two at or below the largest magnitude, 1 where all are 0."""
    largest = float(np.abs(values).max(initial=0.0))
    return np.longdouble(2.0) ** math.floor(math.log2(largest)) if 0.0 < largest < math.inf else np.longdouble(1.0)


def _norm(vector: NDArray[Any]) -> Any:
    """Return `‖v‖₂` in extended precision, of any magnitude."""
    largest = np.abs(vector).max(initial=0)
    if largest == 0 or not np.isfinite(largest):
        return largest
    return largest * np.sqrt(np.sum(np.abs(vector / largest) ** 2))
