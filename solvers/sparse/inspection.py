"""Two passes over a matrix that answer what a dozen of SciPy's would, where nothing is amiss with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from relaxon.solvers.threads import divide, get_num_threads

SHARED_ROWS = 20_000
"""Rows from which on the pass is divided among threads."""
PARTS = 64
"""Runs of rows, each with flags of its own."""
ONE = np.uint32(1)
UNSORTED, STORED_ZERO, NOT_FINITE, BAD_DIAGONAL, ASYMMETRIC, BAD_MINOR = 1, 2, 4, 8, 16, 32
"""What may be amiss. A pattern that is not symmetric counts as asymmetric here, however small its entries."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found: `flags` of what is amiss (0: nothing), and of each row the diagonal, the sum and that of the
    magnitudes."""

    flags: int
    diagonal: NDArray[np.float64]
    sums: NDArray[np.float64]
    magnitudes: NDArray[np.float64]


def inspect(matrix: Any, tolerance: float) -> Inspection:
    """Look through a CSR matrix with float64 values and int32 indices; it is not modified.

    `tolerance` is that of symmetry and of the minors of two rows, relative to `√(a_ii a_jj)`.
    """
    n = matrix.shape[0]
    indptr, indices = matrix.indptr.view(np.uint32), matrix.indices.view(np.uint32)
    diagonal, root, sums, magnitudes = (np.zeros(n) for _ in range(4))
    count = min(PARTS, n) if n >= SHARED_ROWS else 1
    bounds = (np.arange(count + 1, dtype=np.int64) * n // count).astype(np.uint32)
    flags = np.zeros(count, np.int64)
    chunks = get_num_threads() if n >= SHARED_ROWS else 1
    divide(_rows, count, bounds, indptr, indices, matrix.data, diagonal, root, sums, magnitudes, flags, chunks=chunks)
    found = int(np.bitwise_or.reduce(flags))
    if not found & ~STORED_ZERO:
        found |= int(_couplings(indptr, indices, matrix.data, root, tolerance, indptr[:-1].copy()))
    return Inspection(found, diagonal, sums, magnitudes)


@njit(nogil=True, cache=True)
def _rows(start, stop, bounds, indptr, indices, data, diagonal, root, sums, magnitudes, flags):  # type: ignore[no-untyped-def]
    """Order, finiteness, diagonal and sum of each row."""
    for part in range(start, stop):
        flag = 0
        for i in range(bounds[part], bounds[part + 1]):
            total, magnitude, own = 0.0, 0.0, 0.0
            least = np.int64(-1)
            for k in range(indptr[i], indptr[i + ONE]):
                j, a = indices[k], data[k]
                if np.int64(j) <= least or j >= len(diagonal):
                    flag |= UNSORTED
                least = np.int64(j)
                if a == 0.0:
                    flag |= STORED_ZERO
                if not abs(a) < np.inf:
                    flag |= NOT_FINITE
                if j == i:
                    own = a
                total += a
                magnitude += abs(a)
            if least >= 0 and not own > 0.0:
                flag |= BAD_DIAGONAL
            diagonal[i] = own
            root[i] = np.sqrt(own) if own > 0.0 else 0.0
            sums[i] = total
            magnitudes[i] = magnitude
        flags[part] = flag


@njit(nogil=True, cache=True)
def _couplings(indptr, indices, data, root, tolerance, cursor):  # type: ignore[no-untyped-def]
    """Symmetry and minors. `cursor` begins as a copy of the rows' starts.

    Rows come in order, so that the entries of row `j` that face entries of column `j` come in order too: each is at
    the row's cursor.
    """
    flag = 0
    for i in range(len(root)):
        for k in range(indptr[i], indptr[i + 1]):
            j, a = indices[k], data[k]
            place = cursor[j]
            cursor[j] = place + ONE
            scale = root[i] * root[j]
            if place >= len(indices) or indices[place] != i or abs(a - data[place]) > tolerance * scale:
                flag |= ASYMMETRIC
            if j != i and abs(a) > (1.0 + tolerance) * scale:
                flag |= BAD_MINOR
    return flag
