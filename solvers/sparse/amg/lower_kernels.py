"""Kernels that copy what a cycle reads of a level, by blocks of rows."""

from __future__ import annotations

import numpy as np

from relaxon.solvers.sparse.amg.levels_kernels import rows_kernel

ONE = np.uint32(1)


@rows_kernel
def count_by_blocks(start, stop, bounds, first, last, c, within, beyond):  # type: ignore[no-untyped-def]
    """Count the entries of each row of a block that lie in the block before the diagonal, and those outside it."""
    for block in range(start, stop):
        lo, hi = bounds[block], bounds[block + 1]
        for i in range(lo, hi):
            before, outside = ONE - ONE, ONE - ONE
            for k in range(first[i], last[i]):
                if c[k] < lo or c[k] >= hi:
                    outside += ONE
                elif c[k] < i:
                    before += ONE
            within[i], beyond[i] = before, outside


@rows_kernel
def copy_by_blocks(  # type: ignore[no-untyped-def]
    start, stop, pieces, bounds, first, last, c, v, starts, ends, near, columns, values, over, over_starts,
    over_columns, over_values, fresh, diagonal, inverse, excess,
):  # fmt: skip
    """Copy the entries before the diagonal of a piece's rows, those of row `i` from `starts[i]`, and those outside its
    block, from `over_starts[over[piece]]`. The coupling to row `i − 1` in the same block is the last one, at `ends[i]`,
    and also `near[i]`; without one `ends[i]` is where the next row begins, and `near[i]` is 0.

    With `fresh` blocks half the sum of the magnitudes outside is added to the diagonal, which makes a sweep within
    blocks convergent: to `excess` and in `inverse`.
    """
    block = 0
    for piece in range(start, stop):
        while pieces[piece] >= bounds[block + 1]:
            block += 1
        lo, hi = bounds[block], bounds[block + 1]
        position, place = starts[pieces[piece]], over_starts[over[piece]]
        for i in range(pieces[piece], pieces[piece + 1]):
            away, beside = 0.0, False
            near[i] = 0
            for k in range(first[i], last[i]):
                if c[k] < lo or c[k] >= hi:
                    over_columns[place], over_values[place] = c[k], v[k]
                    place += ONE
                    away += abs(v[k])
                elif c[k] + ONE == i:
                    beside, near[i] = True, v[k]
                elif c[k] < i:
                    columns[position], values[position] = c[k], v[k]
                    position += ONE
            ends[i] = position
            if beside:
                columns[position], values[position] = i - ONE, near[i]
                position += ONE
            if fresh and away > 0.0:
                excess[i] += 0.5 * away
                inverse[i] = 1.0 / (diagonal[i] + excess[i]) if diagonal[i] > 0.0 else 0.0
