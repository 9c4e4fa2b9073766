"""The kind of a matrix, with the evidence for it: by its entries and their transposes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SYMMETRY = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-10}
"""The largest difference of `a_ij` and `a_ji` in a symmetric matrix, relative to `√(a_ii a_jj)`, by the precision of
the entries: some hundred roundings of an assembly."""
NEARLY_SYMMETRIC = {np.dtype(np.float32): 10.0, np.dtype(np.float64): 1e3}
"""Up to this many times that difference, a matrix still counts as meant to be symmetric. A preconditioner for symmetric
matrices does not notice the difference, and residuals are those of the matrix as it is."""
NAMES = {
    "spd": "a symmetric positive definite",
    "symmetric-indefinite": "a symmetric indefinite",
    "nonsymmetric": "a nonsymmetric",
    "hermitian": "a Hermitian",
    "complex-symmetric": "a complex symmetric",
}
"""The kinds in words, with an article."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A matrix's kind; `why` shows an entry that excludes "spd", `remark` is what a caller should know."""

    kind: str
    why: str = ""
    remark: str = ""


@dataclass(frozen=True, slots=True)
class _Difference:
    """The largest difference of a matrix and its (conjugate) transpose, relative to the scale, and its entry."""

    relative: float
    row: int
    column: int


def find_kind(matrix: Any, dtype: np.dtype[Any], symmetric: bool | None) -> Finding:
    """Return the kind of a matrix in canonical CSR form, float64 or complex128, whose entries were given in `dtype`.

    `symmetric` is what the caller declares, None for nothing. ValueError where it is True and the matrix is neither
    symmetric nor Hermitian.
    """
    precision = np.dtype(np.float32 if dtype in (np.float32, np.complex64) else np.float64)
    tolerance = SYMMETRY[precision]
    nearly = tolerance * NEARLY_SYMMETRIC[precision]
    if symmetric is False:
        return Finding("nonsymmetric", "symmetric=False was given")
    scale = _scale(matrix)
    back = matrix.T.tocsr()
    back.sort_indices()
    complex_entries = matrix.dtype.kind == "c"
    found = _difference(matrix, back.conj() if complex_entries else back, scale)
    kind = "hermitian" if complex_entries else "spd"
    if complex_entries and found.relative > nearly:
        other = _difference(matrix, back, scale)
        if other.relative <= nearly:
            found, kind = other, "complex-symmetric"
    entries = _facing_entries(matrix, found) if found.relative > tolerance else ""
    if found.relative > nearly:
        if symmetric:
            raise ValueError(
                f"symmetric must be False or None for an operator that is not symmetric to {tolerance:g} "
                f"√(a_ii a_jj): {entries}"
            )
        return Finding("nonsymmetric", entries)
    remark = ""
    if found.relative > tolerance:
        remark = f"solved as a symmetric matrix, which it is up to rounding: {entries}; residuals are of it as it is"
    if kind == "complex-symmetric":
        return Finding(kind, _facing_entries(matrix, _difference(matrix, back.conj(), scale)), remark)
    why = explain_indefinite(matrix, tolerance)
    return Finding("symmetric-indefinite" if why and not complex_entries else kind, why, remark)


def explain_indefinite(matrix: Any, tolerance: float) -> str:
    """Return the evidence that a Hermitian matrix is not positive definite, from its diagonal and its 2 × 2 minors;
    empty where there is none."""
    diagonal = matrix.diagonal().real
    wrong = (diagonal <= 0) & (np.diff(matrix.indptr) > 0)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        return f"the diagonal is {diagonal[row]} in row {row} ({np.count_nonzero(wrong)} rows without a positive one)"
    if (row_maxima(matrix) <= diagonal).all():  # no minor is negative where no entry exceeds its row's diagonal
        return ""
    rows = np.repeat(np.arange(len(diagonal)), np.diff(matrix.indptr))
    root = np.sqrt(diagonal)
    excess = np.abs(matrix.data) - (1.0 + tolerance) * root[rows] * root[matrix.indices]
    excess[rows == matrix.indices] = -1.0
    worst = int(excess.argmax()) if len(excess) else 0
    if not len(excess) or excess[worst] <= 0:
        return ""
    i, j = int(rows[worst]), int(matrix.indices[worst])
    return (
        f"|a[{i}, {j}]| = {abs(matrix.data[worst]):.6g} is above √(a[{i}, {i}] a[{j}, {j}]) = {root[i] * root[j]:.6g}"
    )


def row_maxima(matrix: Any) -> NDArray[np.float64]:
    """Return the largest magnitude in each row of a CSR matrix, 0 in empty ones."""
    filled = np.diff(matrix.indptr) > 0
    found = np.zeros(matrix.shape[0])
    if filled.any():
        found[filled] = np.maximum.reduceat(np.abs(matrix.data), matrix.indptr[:-1][filled])
    return found


def _scale(matrix: Any) -> NDArray[np.float64]:
    """Return `√|a_ii|`, with the row's largest magnitude where diagonal entries are not all positive."""
    diagonal = matrix.diagonal()
    size = np.abs(diagonal)
    if not (diagonal.real > 0).all():
        size = np.maximum(size, row_maxima(matrix))
    root: NDArray[np.float64] = np.sqrt(size)
    return root


def _difference(matrix: Any, other: Any, scale: NDArray[np.float64]) -> _Difference:
    """Return the largest `|a_ij − o_ij|` relative to `scale_i scale_j`."""
    same = np.array_equal(matrix.indptr, other.indptr) and np.array_equal(matrix.indices, other.indices)
    rest = matrix if same else (matrix - other).tocsr()
    size = np.abs(matrix.data - other.data) if same else np.abs(rest.data)
    if not len(size) or not size.any():
        return _Difference(0.0, 0, 0)
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(rest.indptr))
    bound = scale[rows] * scale[rest.indices]
    relative = np.divide(size, bound, out=np.full(len(size), np.inf), where=bound > 0)
    relative[size == 0] = 0.0
    worst = int(relative.argmax())
    return _Difference(float(relative[worst]), int(rows[worst]), int(rest.indices[worst]))


def _facing_entries(matrix: Any, found: _Difference) -> str:
    i, j = found.row, found.column
    one, other = matrix[i, j], matrix[j, i]
    if i == j:
        return f"a[{i}, {i}] = {one:.6g} is not real"
    digits = ".6g" if abs(one - other) > 1e-5 * abs(one) else ".17g"
    return f"a[{i}, {j}] = {one:{digits}} and a[{j}, {i}] = {other:{digits}}"
