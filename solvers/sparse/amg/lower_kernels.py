"""Kernels that copy what a cycle reads of a level, by blocks of rows.

They run over the pieces of a level, of which `counts` has the counts that `arrange_rows` has made.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.sparse.amg.levels_kernels import BEFORE, BEYOND, COUNTS, LINKED, cut, rows_kernel, rows_part

ONE = np.uint32(1)


@rows_kernel
def count_in_halves(start, stop, row_cost, bounds, given, first, middle, last, c, counts):  # type: ignore[no-untyped-def]
    """Cut a level in one block into halves of equal work, and count the pieces' entries by these.

    `given` are the counts by the block, `row_cost` is the work on a row in entries. `bounds`, `(3,)`, begins as
    `0, 0, n` and gets the first row of the second half.
    """
    pieces, n = len(given) // COUNTS, len(first)
    left = np.int64(row_cost) * (n - 1)
    for piece in range(pieces):
        left += given[COUNTS * piece + BEFORE]
    left = left // 2 + row_cost
    piece = 0
    while piece < pieces - 1:
        work = given[COUNTS * piece + BEFORE] + np.int64(row_cost) * (n * (piece + 1) // pieces - n * piece // pieces)
        if work >= left:
            break
        left -= work
        piece += 1
    half = np.uint32(n * piece // pieces)
    while half < n - 1:
        left -= np.int64(middle[half] - first[half]) + row_cost
        if left <= 0:
            break
        half += ONE
    bounds[1] = half
    for piece in range(start, stop):
        before = beyond = linked = ONE - ONE
        for i in range(n * piece // pieces, n * (piece + 1) // pieces):
            lo = half if i >= half else ONE - ONE
            hi = np.uint32(n) if i >= half else half
            outside = ONE - ONE
            for k in range(first[i], last[i]):
                if c[k] < lo or c[k] >= hi:
                    outside += ONE
                elif c[k] < i:
                    before += ONE
            beyond += outside
            linked += np.uint32(outside > 0)
        counts[COUNTS * piece + BEFORE] = before
        counts[COUNTS * piece + BEYOND] = beyond
        counts[COUNTS * piece + LINKED] = linked


@rows_part
def is_weak(value, own, other, weak):  # type: ignore[no-untyped-def]
    """Return whether a coupling is negative and below `weak` times the strongest ones of both rows, `own` and
    `other`."""
    return value < 0 and -value < weak * min(own, other)


@rows_kernel
def count_kept(start, stop, bounds, first, middle, c, v, most, weak, counts):  # type: ignore[no-untyped-def]
    """Count again the entries before the diagonal within blocks, without weak ones."""
    pieces = len(counts) // COUNTS
    for piece in range(start, stop):
        before = ONE - ONE
        for block in range(len(bounds) - 1):
            lo = bounds[block]
            begun, ended = cut(piece, pieces, bounds, block)
            for i in range(begun, ended):
                for k in range(first[i], middle[i]):
                    if c[k] >= lo and not is_weak(v[k], most[i], most[c[k]], weak):
                        before += ONE
        counts[COUNTS * piece + BEFORE] = before


@rows_kernel
def copy_by_blocks(  # type: ignore[no-untyped-def]
    start, stop, bounds, counts, first, last, c, v, starts, ends, near, columns, values, over_bounds, over_rows,
    over_starts, over_columns, over_values, fresh, diagonal, inverse, excess, most, weak,
):  # fmt: skip
    """Copy the entries before the diagonal of each row, those of row `i` from `starts[i]`, and those outside its block.

    The coupling to row `i − 1` in the same block is the last one, at `ends[i]`, and also `near[i]`; without one
    `ends[i]` is where the next row begins, and `near[i]` is 0. Those outside the block are those of row `over_rows[m]`,
    from `over_starts[m]`, and a block's rows begin at `over_bounds`; the ends of `starts`, `over_starts` and
    `over_bounds` are left to the caller. With `fresh` blocks half the sum of the magnitudes outside is added to the
    diagonal, which makes a sweep within blocks convergent: to `excess` and in `inverse`. With `weak` above 0 weak
    couplings within blocks are left out, and added to the diagonal in `inverse`, so that row sums stay.
    """
    pieces = len(counts) // COUNTS
    position = place = linked = ONE - ONE
    for piece in range(start):
        position += counts[COUNTS * piece + BEFORE]
        place += counts[COUNTS * piece + BEYOND]
        linked += counts[COUNTS * piece + LINKED]
    for piece in range(start, stop):
        for block in range(len(bounds) - 1):
            lo, hi = bounds[block], bounds[block + 1]
            begun, ended = cut(piece, pieces, bounds, block)
            if begun == lo and ended > begun:
                over_bounds[block] = linked
            for i in range(begun, ended):
                starts[i] = position
                before, away, lost, beside = place, 0.0, 0.0, False
                near[i] = 0
                for k in range(first[i], last[i]):
                    if c[k] < lo or c[k] >= hi:
                        over_columns[place], over_values[place] = c[k], v[k]
                        place += ONE
                        away += abs(v[k])
                    elif weak > 0 and is_weak(v[k], most[i], most[c[k]], weak):
                        lost -= v[k]
                    elif c[k] + ONE == i:
                        beside, near[i] = True, v[k]
                    elif c[k] < i:
                        columns[position], values[position] = c[k], v[k]
                        position += ONE
                ends[i] = position
                if beside:
                    columns[position], values[position] = i - ONE, near[i]
                    position += ONE
                if place > before:
                    over_rows[linked], over_starts[linked] = i, before
                    linked += ONE
                    if fresh and away > 0.0:
                        excess[i] += 0.5 * away
                        inverse[i] = 1.0 / (diagonal[i] + excess[i]) if diagonal[i] > 0.0 else 0.0
                if lost > 0.0 and diagonal[i] > 0.0:
                    inverse[i] = 1.0 / (max(diagonal[i] - lost, 0.5 * diagonal[i]) + excess[i])
