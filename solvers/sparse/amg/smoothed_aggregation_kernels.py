"""Kernels of the set-up of smoothed aggregation: aggregates of whole neighbourhoods, their interpolation, and products.

As in `levels_kernels`, every kernel runs over blocks of rows, and aggregates do not leave their block; interpolation
does. Rows of a matrix are given by their begins and ends.

Sources: P. Vaněk, J. Mandel, M. Brezina, "Algebraic multigrid by smoothed aggregation for second and fourth order
elliptic problems", Computing 56 (1996): algorithm 2 for the aggregates, section 3 for the filtered matrix and the
interpolation `(I − ω D_F⁻¹ A_F) T`.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.sparse.amg.coarsening_kernels import LEFT_OUT, UNSET
from relaxon.solvers.sparse.amg.levels_kernels import ONE, brief_kernel, rows_kernel

JOINED = 0.25
"""A row that is left over joins an aggregate coupled to it by at least this fraction of its strongest coupling."""


@rows_kernel
def aggregate_rows(  # type: ignore[no-untyped-def]
    start, stop, bounds, first, last, c, v, weight, most, strength, dominated, group, spare, counts,
):  # fmt: skip
    """Aggregate rows with all their strong neighbours; rows that are left over join an aggregate or form another one.

    Couplings `a_ij < 0` with `a_ij² ≥ strength · most[i] · most[j]` within a block are strong. `group` gets numbers
    from `bounds[block]`, and −1 for rows whose off-diagonal magnitudes sum to at most `dominated` times their diagonal,
    for which smoothing alone is enough; `counts[block]` is the number of aggregates.
    """
    for block in range(start, stop):
        lo, hi = bounds[block], bounds[block + 1]
        number = np.int32(lo)
        for i in range(lo, hi):
            total = 0.0
            for k in range(first[i], last[i]):
                total += abs(v[k])
            group[i] = LEFT_OUT if total <= dominated * weight[i] else UNSET
        for i in range(lo, hi):
            if group[i] != UNSET:
                continue
            own = strength * most[i]
            whole, some = True, False
            for k in range(first[i], last[i]):
                j, a = c[k], -v[k]
                if a > 0 and j >= lo and j < hi and a * a >= own * most[j]:
                    some = True
                    if group[j] >= 0:
                        whole = False
                        break
            if whole and some:
                group[i] = number
                for k in range(first[i], last[i]):
                    j, a = c[k], -v[k]
                    if a > 0 and j >= lo and j < hi and a * a >= own * most[j] and group[j] == UNSET:
                        group[j] = number
                number += np.int32(1)
        for i in range(lo, hi):
            spare[i] = group[i]
            if group[i] == UNSET:
                best = JOINED * most[i]
                for k in range(first[i], last[i]):
                    j = c[k]
                    if -v[k] > best and j >= lo and j < hi and group[j] >= 0:
                        best = -v[k]
                        spare[i] = group[j]
        for i in range(lo, hi):
            group[i] = spare[i]
        for i in range(lo, hi):
            if group[i] == UNSET:
                own = strength * most[i]
                group[i] = number
                for k in range(first[i], last[i]):
                    j, a = c[k], -v[k]
                    if a > 0 and j >= lo and j < hi and a * a >= own * most[j] and group[j] == UNSET:
                        group[j] = number
                number += np.int32(1)
        counts[block] = number - np.int32(lo)


@rows_kernel
def shift_groups(start, stop, bounds, offsets, group):  # type: ignore[no-untyped-def]
    """Number a block's aggregates from `offsets[block]`."""
    for block in range(start, stop):
        shift = np.int32(offsets[block]) - np.int32(bounds[block])
        for i in range(bounds[block], bounds[block + 1]):
            if group[i] >= 0:
                group[i] += shift


@rows_kernel
def fill_interpolation(  # type: ignore[no-untyped-def]
    start, stop, bounds, first, last, c, v, diagonal, surplus, most, strength, omega, group, coarse, begin, end,
    columns, values, total,
):  # fmt: skip
    """Compute rows of `(I − ω D_F⁻¹ A_F) T`, with the indicators `T` of aggregates and `A_F` without weak couplings.

    Strong couplings are kept, as in `aggregate_rows`; all others are added to the diagonal. A block's rows begin at
    `first` plus the row, so that each has room for one entry more than the matrix's. `total[i]` is the sum of row `i`:
    exactly 1 where the matrix's row sums to zero and all neighbours are in aggregates.
    """
    seen = np.zeros(coarse, np.uint32)
    for block in range(start, stop):
        position = first[bounds[block]] + bounds[block]
        for i in range(bounds[block], bounds[block + 1]):
            row = position
            begin[i] = row
            total[i] = 0.0
            own = group[i]
            if own >= 0:
                columns[position], values[position] = own, 0.0
                position += ONE
                seen[np.uint32(own)] = position
                d, off, lost = np.float64(diagonal[i]), 0.0, 0.0
                least = strength * most[i]
                for k in range(first[i], last[i]):
                    a = -v[k]
                    if not (a > 0.0 and a * a >= least * most[c[k]]):
                        d -= a
                        continue
                    off += a
                    g = group[c[k]]
                    if g < 0:
                        lost += a
                        continue
                    place = seen[np.uint32(g)]
                    if place > row:
                        values[place - ONE] += a
                    else:
                        columns[position], values[position] = g, a
                        position += ONE
                        seen[np.uint32(g)] = position
                held = max(d, off)
                factor = omega / held if held > 0.0 else 0.0
                for k in range(row, position):
                    values[k] *= factor
                values[row] += 1.0 - factor * d
                total[i] = 1.0 - factor * (lost + surplus[i])
            end[i] = position


@rows_kernel
def count_columns(start, stop, bounds, begin, end, columns, counts):  # type: ignore[no-untyped-def]
    """Count the entries of each block in each column, in `counts[column, block]`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            for k in range(begin[i], end[i]):
                counts[columns[k], block] += ONE


@brief_kernel
def place_columns(counts, begin):  # type: ignore[no-untyped-def]
    """Replace each of the counts by the place where its entries begin in the transpose, whose rows begin at `begin`."""
    position = ONE - ONE
    for column in range(len(counts)):
        begin[column] = position
        for block in range(counts.shape[1]):
            count = counts[column, block]
            counts[column, block] = position
            position += count
    begin[len(counts)] = position


@rows_kernel
def transpose_rows(start, stop, bounds, begin, end, columns, values, places, rows, turned):  # type: ignore[no-untyped-def]
    """Write a block's entries to the transpose, those of a column from `places[column, block]`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            for k in range(begin[i], end[i]):
                position = places[columns[k], block]
                places[columns[k], block] = position + ONE
                rows[position], turned[position] = i, values[k]


@rows_kernel
def multiply_rows(  # type: ignore[no-untyped-def]
    start, stop, bounds, limits, first, last, c, v, diagonal, begin, end, columns, values, width, out_begin, out_end,
    out_columns, out_values, full,
):  # fmt: skip
    """Multiply rows of a matrix by another matrix; `diagonal`, unless empty, is added to the first one.

    A block's rows begin at `limits[block]`; `full[block]` is set where they would exceed `limits[block + 1]`.
    """
    seen = np.zeros(width, np.uint32)
    whole = len(diagonal) > 0
    for block in range(start, stop):
        position = limits[block]
        full[block] = 0
        # Places in `seen` beyond a row's begin belong to this row; those of earlier rows and blocks are smaller.
        for i in range(bounds[block], bounds[block + 1]):
            row = position
            if position + width > limits[block + 1]:
                need = np.int64(0)
                if whole:
                    need += end[i] - begin[i]
                for k in range(first[i], last[i]):
                    need += end[c[k]] - begin[c[k]]
                if position + need > limits[block + 1]:
                    full[block] = 1
                    break
            if whole:
                for q in range(begin[i], end[i]):
                    out_columns[position], out_values[position] = columns[q], diagonal[i] * values[q]
                    position += ONE
                    seen[columns[q]] = position
            for k in range(first[i], last[i]):
                j, a = c[k], v[k]
                for q in range(begin[j], end[j]):
                    place = seen[columns[q]]
                    if place > row:
                        out_values[place - ONE] += a * values[q]
                    else:
                        out_columns[position], out_values[position] = columns[q], a * values[q]
                        position += ONE
                        seen[columns[q]] = position
            out_begin[i], out_end[i] = row, position


@rows_kernel
def apply_to_sums(start, stop, bounds, first, last, c, v, surplus, total, out):  # type: ignore[no-untyped-def]
    """Write `out ← A total` in float64, by row sums and differences, which vanish where `total` is 1 everywhere."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            own = total[i]
            value = surplus[i] * own
            for k in range(first[i], last[i]):
                value += v[k] * (total[c[k]] - own)
            out[i] = value


@rows_kernel
def sum_coarse_rows(start, stop, bounds, begin, end, rows, values, image, surplus):  # type: ignore[no-untyped-def]
    """Write `surplus ← Pᵀ image`, the sums of the coarse rows."""
    for block in range(start, stop):
        for g in range(bounds[block], bounds[block + 1]):
            total = 0.0
            for k in range(begin[g], end[g]):
                total += values[k] * image[rows[k]]
            surplus[g] = total
