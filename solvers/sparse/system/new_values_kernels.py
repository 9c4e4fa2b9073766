"""Kernels of `new_values`: passes that flag what is wrong with new values on a kept pattern."""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import kernel
from relaxon.solvers.sparse.system.inspection_kernels import (
    ASYMMETRIC,
    BAD_DIAGONAL,
    BAD_MINOR,
    CLOSED,
    NEARLY,
    NOT_FINITE,
    STORED_ZERO,
    SUM,
    judge_row,
)

ONE = np.uint32(1)
OPENED = 128
"""The rows that sum to zero are not those of before, or might not be."""
UNPAIRED = 64
"""An entry has no mirror image: the pattern is not symmetric."""


@kernel()
def look_at_values(  # type: ignore[no-untyped-def]
    start, stop, bounds, indptr, indices, data, before, roundings, single, decided, diagonal, root, state, after, flags,
):  # fmt: skip
    """Check finiteness, diagonal and sum of each row; `after[i]` is where row `i`'s entries behind the diagonal begin.

    `state[i]` is what `judge_row` finds, stored zeros counted. `OPENED` flags a row whose sum is zero now but not in
    the state `before`, or the reverse, or which might sum to zero to the rounding of `single` precision.
    """
    for part in range(start, stop):
        flag = 0
        for i in range(bounds[part], bounds[part + 1]):
            total, magnitude, own = 0.0, 0.0, 0.0
            behind = indptr[i]
            for k in range(indptr[i], indptr[i + ONE]):
                a = data[k]
                if indices[k] == i:
                    own = a
                if indices[k] <= i:
                    behind = k + ONE
                if a == 0.0:
                    flag |= STORED_ZERO
                total += a
                magnitude += abs(a)
            if not magnitude < np.inf:
                flag |= NOT_FINITE
            if indptr[i + ONE] > indptr[i] and not own > 0.0:
                flag |= BAD_DIAGONAL
            count = float(indptr[i + ONE] - indptr[i])
            state[i] = judge_row(total, magnitude, own, count, roundings, single, decided)
            now, was = state[i] & SUM, before[i] & SUM
            if (now == CLOSED) != (was == CLOSED) or now == NEARLY:
                flag |= OPENED
            after[i] = behind
            diagonal[i] = own
            root[i] = np.sqrt(own) if own > 0.0 else 0.0
        flags[part] = flag


@kernel()
def compare_halves(indptr, indices, data, root, tolerance, cursor):  # type: ignore[no-untyped-def]
    """Check symmetry and 2 × 2 minors. `cursor` begins as the places behind the rows' diagonals.

    As rows come in order, the entries behind the diagonal of row `j` that mirror those of column `j` come in order too:
    each one is at the row's cursor. Where the pattern lacks an entry, it counts as zero.
    """
    flag = 0
    for i in range(len(root)):
        for k in range(indptr[i], indptr[i + 1]):
            j, a = indices[k], data[k]
            if j >= i:
                break
            place, end = cursor[j], indptr[j + ONE]
            while place < end and indices[place] < i:  # without a mirror image
                flag |= UNPAIRED
                if abs(data[place]) > tolerance * root[j] * root[indices[place]]:
                    flag |= ASYMMETRIC
                place += ONE
            facing = 0.0
            if place < end and indices[place] == i:
                facing = data[place]
                place += ONE
            else:
                flag |= UNPAIRED
            cursor[j] = place
            scale = root[i] * root[j]
            if abs(a - facing) > tolerance * scale:
                flag |= ASYMMETRIC
            if abs(a) > (1.0 + tolerance) * scale:
                flag |= BAD_MINOR
    for i in range(len(root)):
        for k in range(cursor[i], indptr[i + 1]):
            flag |= UNPAIRED
            if abs(data[k]) > tolerance * root[i] * root[indices[k]]:
                flag |= ASYMMETRIC
    return flag
