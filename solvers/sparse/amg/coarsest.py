"""The last level, which is solved by its inverse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.amg import levels_kernels

if TYPE_CHECKING:
    from relaxon.solvers.sparse.amg.hierarchy import Level

LEAST_EIGENVALUE = 1e-6
"""Eigenvalues of the last level's matrix, scaled to a unit diagonal, that count as 0 where it is not positive definite:
the rounding of float32."""
HALVED = range(100, 127)
"""Rows of matrices that are inverted by halves: whole ones OpenBLAS gives to threads of its own, which spin for a tenth
of a second afterwards, while ours wait for the processors."""


def dense_inverse(level: Level) -> NDArray[np.float64]:
    """Return the inverse of a level's matrix, regularised along the constants of singular components.

    It is float64: in float32 the inverse of a matrix with a condition number beyond 10⁷ would not be definite.
    """
    n = level.rows
    matrix = np.zeros((n, n))
    levels_kernels.fill_dense(level.bounds, level.first, level.last, level.columns, level.values, level.surplus, matrix)
    diagonal = matrix.diagonal().copy()
    held = diagonal > 0
    root = np.sqrt(np.where(held, diagonal, 1.0))
    matrix /= root
    matrix /= root[:, None]
    matrix[~held, ~held] = 1.0
    if level.labels is not None:
        for label in np.unique(level.labels[level.labels > 0]):
            null = np.where((level.labels == label) & held, root, 0.0)
            matrix += np.outer(null, null / max(float(null @ null), np.finfo(float).tiny))
    inverse = _invert((matrix + matrix.T) / 2)
    inverse[~held] = 0.0
    inverse[:, ~held] = 0.0
    return np.ascontiguousarray(inverse / root / root[:, None])


def _invert_halves(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse of a symmetric definite matrix from that of its first half and of the Schur complement."""
    half = len(matrix) // 2
    beside, found = matrix[:half, half:], np.empty_like(matrix)
    first = np.linalg.inv(matrix[:half, :half])
    solved = first @ beside
    last = np.linalg.inv(matrix[half:, half:] - beside.T @ solved)
    found[half:, half:], found[:half, half:] = last, -solved @ last
    found[half:, :half] = found[:half, half:].T
    found[:half, :half] = first - found[:half, half:] @ solved.T
    return found


def _invert(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse; where rounding has made the matrix indefinite, that on the positive part of the spectrum."""
    try:
        np.linalg.cholesky(matrix)
        return _invert_halves(matrix) if len(matrix) in HALVED else np.asarray(np.linalg.inv(matrix))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
        good = values > LEAST_EIGENVALUE
        return np.asarray((vectors[:, good] / values[good]) @ vectors[:, good].T)
