"""Kernels of the set-up: a level's rows in sweeping order, and copies of them.

Kernels run over blocks of rows, `bounds[block] … bounds[block + 1] − 1`. Blocks depend on the matrix alone, so that
results do not depend on the number of threads. Indices of rows and entries are uint32: with signed ones Numba tests
every access for a negative index, which takes twice as long.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import kernel, kernel_part
from relaxon.solvers.kernels.team_kernels import meet, share

IN_ORDER = {"contract", "nsz"}
rows_kernel, rows_part = kernel(fastmath=IN_ORDER), kernel_part(fastmath=IN_ORDER)
team_kernel, team_part = (one(fastmath=IN_ORDER, error_model="numpy") for one in (kernel, kernel_part))
"""As `compiled.plain`, but sums are not reordered: vectorising rows of seven entries makes them slower."""
brief_kernel = kernel(fastmath=IN_ORDER, error_model="numpy", counted=False)
"""As `team_kernel`, without counts of references to arrays, which take time to compile."""
ROUNDINGS = 4.0 * np.finfo(np.float64).eps
"""A row sum below this fraction of its sum of magnitudes, times its number of entries, is zero."""
ONE = np.uint32(1)
PIECES = 32
"""Pieces of a level among which threads divide passes that may cross blocks."""
COUNTS = 5
ROOM, BEFORE, BEYOND, LINKED, ENTRIES = range(COUNTS)
"""The counts of a piece of a level: its room for entries, the entries before the diagonal within blocks, those outside
blocks, the rows that have some of these, and all entries without the diagonal."""


@rows_kernel
def permute_rows(start, stop, bounds, order, place, indptr, indices, data, begin, end, columns, values):  # type: ignore[no-untyped-def]
    """Copy the rows of a block, `order[i]` as row `i`, into `columns` and `values` from `begin[i]`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            o = order[i]
            position = begin[i]
            for k in range(indptr[o], indptr[o + ONE]):
                columns[position] = place[indices[k]]
                values[position] = data[k]
                position += ONE
            end[i] = position


@brief_kernel
def count_far(step, reach, indptr, indices):  # type: ignore[no-untyped-def]
    """Return how many entries there are in every `step`-th row, and how many of them are farther than `reach` from the
    diagonal."""
    count = far = 0
    for i in range(0, len(indptr) - 1, step):
        for k in range(indptr[i], indptr[i + 1]):
            far += abs(np.int64(indices[k]) - i) > reach
            count += 1
    return count, far


@rows_kernel
def order_breadth_first(indptr, indices, order, place):  # type: ignore[no-untyped-def]
    """Number the rows in the order in which a breadth-first search meets them, component by component."""
    n = len(order)
    place[:] = np.uint32(0xFFFFFFFF)
    head = 0
    tail = 0
    for s in range(n):
        if place[s] != np.uint32(0xFFFFFFFF):
            continue
        order[tail] = s
        place[s] = tail
        tail += 1
        while head < tail:
            i = order[head]
            head += 1
            for k in range(indptr[i], indptr[i + ONE]):
                j = indices[k]
                if place[j] == np.uint32(0xFFFFFFFF):
                    place[j] = tail
                    order[tail] = j
                    tail += 1


@rows_part
def exchange(one, other, columns, values):  # type: ignore[no-untyped-def]
    """Exchange two entries."""
    column, value = columns[one], values[one]
    columns[one], values[one] = columns[other], values[other]
    columns[other], values[other] = column, value


@team_part
def cut(piece, pieces, bounds, block):  # type: ignore[no-untyped-def]
    """Return the first of a block's items that belong to a piece, of equal pieces of all items, and the one after the
    last; there may be none."""
    total = np.int64(bounds[-1])
    lo, hi = total * piece // pieces, total * (piece + 1) // pieces
    lo, hi = max(lo, np.int64(bounds[block])), min(hi, np.int64(bounds[block + 1]))
    return np.uint32(lo), np.uint32(max(lo, hi))


@brief_kernel
def arrange_rows(  # type: ignore[no-untyped-def]
    one, other, team, bounds, counts, own, begin, end, c, v, scale, relaxation, fresh, surplus, diagonal, inverse,
    excess, most, sums, first, middle, inner, last, columns, values,
):  # fmt: skip
    """Bring each block's rows into sweeping order: entries before the diagonal, after it, and outside the block.

    Of the entries before and after it the nearest comes last, as a sweep has to wait for that one.

    Row `i` of the source is `c[begin[i]:end[i]]`; its parts begin at `first[i]`, `middle[i]`, `inner[i]` and end at
    `last[i]`. `surplus` is the row's sum: computed where `fresh`, else given, and then the diagonal follows from it.
    `excess` is half the sum of magnitudes outside the block, which makes a Gauss–Seidel sweep within blocks convergent
    whatever lies between them, plus `1/relaxation − 1` of the diagonal, for successive over-relaxation; `inverse` is
    1 / (diagonal + excess); `most` is the largest `−a_ij`; `sums` is `surplus` in float32. `counts` gets `COUNTS`
    numbers for each of the pieces among which the rows are divided; `own` is 1 where each row has a diagonal entry, for
    which no room is left then.
    """
    added = 1.0 / relaxation - 1.0
    pieces = len(counts) // COUNTS
    start, stop = share(one, other, team, pieces)
    for piece in range(start, stop):
        entries = np.uint32(0)
        for i in range(len(begin) * piece // pieces, len(begin) * (piece + 1) // pieces):
            entries += end[i] - begin[i] - own
        counts[COUNTS * piece + ROOM] = entries
    meet(one, other, team)
    position = np.uint64(0)
    for piece in range(start):
        position += counts[COUNTS * piece + ROOM]
    for piece in range(start, stop):
        base = np.uint32(COUNTS * piece)
        following = position + counts[base + np.uint32(ROOM)]
        before = beyond = linked = entries = ONE - ONE
        for block in range(len(bounds) - 1):
            lo, hi = bounds[block], bounds[block + 1]
            begun, ended = cut(piece, pieces, bounds, block)
            for i in range(begun, ended):
                first[i] = near = position
                d, off, magnitude, away, largest = 0.0, 0.0, 0.0, 0.0, 0.0
                outside = False
                for k in range(begin[i], end[i]):
                    j = c[k]
                    a = v[k] * scale
                    if j == i:
                        d += a
                        continue
                    off += a
                    magnitude += abs(a)
                    largest = max(largest, -a)
                    if j < lo or j >= hi:
                        outside = True
                        away += abs(a)
                    elif j < i:
                        columns[position] = j
                        values[position] = a
                        if j > columns[near]:
                            near = position
                        position += ONE
                middle[i] = position
                if position > first[i]:
                    exchange(near, position - ONE, columns, values)
                near = position
                for k in range(begin[i], end[i]):
                    if c[k] > i and c[k] < hi:
                        columns[position] = c[k]
                        values[position] = v[k] * scale
                        if c[k] < columns[near]:
                            near = position
                        position += ONE
                inner[i] = position
                if position > middle[i]:
                    exchange(near, position - ONE, columns, values)
                if outside:
                    for k in range(begin[i], end[i]):
                        if c[k] < lo or c[k] >= hi:
                            columns[position] = c[k]
                            values[position] = v[k] * scale
                            position += ONE
                    linked += ONE
                    beyond += np.uint32(position) - inner[i]
                last[i] = position
                before += middle[i] - first[i]
                entries += last[i] - first[i]
                if fresh:
                    total = d + off
                    rounding = ROUNDINGS * (position - first[i] + ONE) * (d + magnitude)
                    surplus[i] = total if abs(total) > rounding else 0.0
                else:
                    d = surplus[i] - off
                sums[i] = surplus[i]
                diagonal[i] = d
                most[i] = largest
                more = 0.5 * away + added * d
                excess[i] = more
                inverse[i] = 1.0 / (d + more) if d > 0.0 else 0.0
        counts[base + np.uint32(BEFORE)] = before
        counts[base + np.uint32(BEYOND)] = beyond
        counts[base + np.uint32(LINKED)] = linked
        counts[base + np.uint32(ENTRIES)] = entries
        position = following


@rows_kernel
def fill_dense(bounds, first, last, c, v, diagonal_surplus, out):  # type: ignore[no-untyped-def]
    """Write a level's matrix to `out`, float64, with the diagonal from the row sums, so that small sums stay
    accurate."""
    for i in range(bounds[0], bounds[-1]):
        total = diagonal_surplus[i]
        for k in range(first[i], last[i]):
            out[i, c[k]] = v[k]
            total -= v[k]
        out[i, i] = total
