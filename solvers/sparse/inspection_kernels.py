"""The passes of `inspection`: what may be amiss with a matrix, in flags."""

from __future__ import annotations

import numpy as np

from relaxon.solvers.compiled import kernel

ONE = np.uint32(1)
UNSORTED, STORED_ZERO, NOT_FINITE, BAD_DIAGONAL, ASYMMETRIC, BAD_MINOR = 1, 2, 4, 8, 16, 32
"""What may be amiss. A pattern that is not symmetric counts as asymmetric here, however small its entries."""


@kernel()
def look_at_rows(start, stop, bounds, indptr, indices, data, diagonal, root, sums, magnitudes, flags):  # type: ignore[no-untyped-def]
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


@kernel()
def look_at_couplings(indptr, indices, data, root, tolerance, cursor):  # type: ignore[no-untyped-def]
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
