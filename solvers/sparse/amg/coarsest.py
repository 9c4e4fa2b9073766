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
WHOLE, BLOCK = 99, 60
"""Rows up to which a matrix is inverted as a whole, and rows of the blocks of larger ones. OpenBLAS gives matrices from
100 rows, and products of more than 64 × 64 × 64, to threads of its own, which spin for a tenth of a second afterwards,
while ours wait for the processors."""


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


def invert_definite(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse of a symmetric definite matrix, in the calling thread; LinAlgError where it is not definite.

    Gauss–Jordan elimination by blocks, the last one filled up with the identity.
    """
    n = len(matrix)
    if n <= WHOLE:
        np.linalg.cholesky(matrix)
        return np.asarray(np.linalg.inv(matrix))
    count = -(-n // BLOCK)
    whole = np.eye(count * BLOCK)
    whole[:n, :n] = matrix
    blocks = np.ascontiguousarray(whole.reshape(count, BLOCK, count, BLOCK).transpose(0, 2, 1, 3))
    for k in range(count):
        np.linalg.cholesky(blocks[k, k])
        pivot = np.linalg.inv(blocks[k, k])
        row, column = pivot @ blocks[k], blocks[:, k].copy()
        blocks -= column[:, None] @ row
        blocks[k], blocks[:, k], blocks[k, k] = row, -column @ pivot, pivot
    return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3).reshape(whole.shape)[:n, :n])


def _invert(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse; where rounding has made the matrix indefinite, that on the positive part of the spectrum."""
    try:
        return invert_definite(matrix)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
        good = values > LEAST_EIGENVALUE
        return np.asarray((vectors[:, good] / values[good]) @ vectors[:, good].T)
