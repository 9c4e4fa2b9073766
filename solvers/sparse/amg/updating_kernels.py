"""Kernels that fill a hierarchy's levels with new values: blocks, aggregates and patterns stay as they are.

They run over blocks of rows as those of `levels_kernels` do, on rows in the order of `levels_kernels.arrange_rows`.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.sparse.amg.coarsening_kernels import LEFT_OUT
from relaxon.solvers.sparse.amg.levels_kernels import ONE, ROUNDINGS, rows_kernel

GONE = np.uint32(0xFFFFFFFF)
"""As a target: the column is left out. As a place: the entry is the diagonal."""
LOST = np.uint32(0xFFFFFFFE)
"""As a target: the coupling is strong, but its column is in no aggregate."""
APART = np.uint32(16)
"""Entries between the places of two blocks, so that two threads do not write to the same cache line."""


@rows_kernel
def find_places(  # type: ignore[no-untyped-def]
    start, stop, bounds, indptr, indices, reordered, order, place, first, last, c, places, seen
):  # fmt: skip
    """Find where each entry of the matrix stands on the first level, `GONE` for the diagonal.

    Row `i` is the matrix's row `order[i]` where `reordered`, and `place` is the inverse of `order`. `seen` is scratch
    memory of one thread, an entry for each column.
    """
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            o = order[i] if reordered else i
            for k in range(first[i], last[i]):
                seen[c[k]] = k
            for k in range(indptr[o], indptr[o + ONE]):
                j = place[indices[k]] if reordered else indices[k]
                places[k] = GONE if j == i else seen[j]


@rows_kernel
def refill_first(  # type: ignore[no-untyped-def]
    start, stop, bounds, indptr, data, reordered, order, places, scale, added, first, inner, last, values, surplus,
    diagonal, inverse, excess, most,
):  # fmt: skip
    """Fill the first level from the matrix: its values times `scale` in their places, and what follows from them.

    `added` times the diagonal is added to it for over-relaxation.
    """
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            o = order[i] if reordered else i
            d, off, magnitude, away, largest = 0.0, 0.0, 0.0, 0.0, 0.0
            for k in range(indptr[o], indptr[o + ONE]):
                a = data[k] * scale
                t = places[k]
                if t == GONE:
                    d += a
                    continue
                values[t] = a
                off += a
                magnitude += abs(a)
                largest = max(largest, -a)
                if t >= inner[i]:
                    away += abs(a)
            total = d + off
            surplus[i] = total if abs(total) > ROUNDINGS * (last[i] - first[i] + ONE) * (d + magnitude) else 0.0
            diagonal[i] = d
            most[i] = largest
            more = 0.5 * away + added * d
            excess[i] = more
            inverse[i] = 1.0 / (d + more) if d > 0.0 else 0.0


@rows_kernel
def link_members(group, heads, link):  # type: ignore[no-untyped-def]
    """List each aggregate's rows in order: `heads[g]` is its first, `link[i]` the one after `i`, −1 at the end."""
    heads[:] = -1
    n = len(group)
    for back in range(n):
        i = n - 1 - back
        g = group[i]
        if g >= 0:
            link[i] = heads[g]
            heads[g] = i


@rows_kernel
def find_targets(  # type: ignore[no-untyped-def]
    start, stop, bounds, offsets, group, heads, link, first, last, c, coarse_first, coarse_last, coarse_c, beside,
    targets, seen,
):  # fmt: skip
    """Find the coarse level's entry to which each entry of a level is added in `Pᵀ A P`.

    For entries within an aggregate, whose sum is not needed, `targets` is a place behind all entries, at `beside` or
    later, another one for each block; for a column that is left out it is `GONE`. `seen` is scratch memory of one
    thread, an entry for each column.
    """
    for block in range(start, stop):
        for g in range(offsets[block], offsets[block + 1]):
            for k in range(coarse_first[g], coarse_last[g]):
                seen[coarse_c[k]] = k
            i = heads[g]
            while i >= 0:
                m = np.uint32(i)
                for k in range(first[m], last[m]):
                    h = group[c[k]]
                    if h == LEFT_OUT:
                        targets[k] = GONE
                    elif h == g:
                        targets[k] = beside + np.uint32(block) * APART
                    else:
                        targets[k] = seen[np.uint32(h)]
                i = link[m]


@rows_kernel
def add_to_targets(start, stop, bounds, offsets, group, first, last, targets, v, surplus, sums, coarse_surplus):  # type: ignore[no-untyped-def]
    """Sum a level's entries in `sums`, which begins as zeros, and its row sums less what is left out in
    `coarse_surplus`."""
    for block in range(start, stop):
        for g in range(offsets[block], offsets[block + 1]):
            coarse_surplus[g] = 0.0
        for i in range(bounds[block], bounds[block + 1]):
            if group[i] >= 0:
                total = surplus[i]
                for k in range(first[i], last[i]):
                    t = targets[k]
                    if t == GONE:
                        total -= v[k]
                    else:
                        sums[t] += v[k]
                coarse_surplus[np.uint32(group[i])] += total


@rows_kernel
def finish_rows(  # type: ignore[no-untyped-def]
    start, stop, bounds, first, inner, last, sums, added, values, surplus, diagonal, inverse, excess, most
):  # fmt: skip
    """Fill a coarse level with the sums of its entries, and with what follows from these and from its row sums."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            off, away, largest = 0.0, 0.0, 0.0
            for k in range(first[i], last[i]):
                a = sums[k]
                values[k] = a
                off += a
                largest = max(largest, -a)
                if k >= inner[i]:
                    away += abs(a)
            d = surplus[i] - off
            diagonal[i] = d
            most[i] = largest
            more = 0.5 * away + added * d
            excess[i] = more
            inverse[i] = 1.0 / (d + more) if d > 0.0 else 0.0


@rows_kernel
def find_interpolated(  # type: ignore[no-untyped-def]
    start, stop, bounds, first, last, c, v, most, strength, group, begin, end, columns, targets, seen
):  # fmt: skip
    """Find the entry of the interpolation to which each strong coupling adds, by the values it was built from.

    `targets` is `GONE` for a weak coupling and `LOST` for a strong one to a row that is in no aggregate. `seen` is
    scratch memory of one thread, an entry for each column.
    """
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            for q in range(begin[i], end[i]):
                seen[columns[q]] = q
            least = strength * most[i]
            for k in range(first[i], last[i]):
                a = -v[k]
                targets[k] = GONE
                if group[i] >= 0 and a > 0.0 and a * a >= least * most[c[k]]:
                    g = group[c[k]]
                    targets[k] = seen[np.uint32(g)] if g >= 0 else LOST


@rows_kernel
def refill_interpolation(  # type: ignore[no-untyped-def]
    start, stop, bounds, first, last, v, diagonal, surplus, omega, group, targets, begin, end, values, total
):  # fmt: skip
    """As `smoothed_aggregation_kernels.fill_interpolation`, with the strong couplings and their places known."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            total[i] = 0.0
            if group[i] < 0:
                continue
            row = begin[i]
            for q in range(row, end[i]):
                values[q] = 0.0
            d, off, lost = np.float64(diagonal[i]), 0.0, 0.0
            for k in range(first[i], last[i]):
                a = -v[k]
                t = targets[k]
                if t == GONE or a <= 0.0:
                    d -= a
                    continue
                off += a
                if t == LOST:
                    lost += a
                else:
                    values[t] += a
            held = max(d, off)
            factor = omega / held if held > 0.0 else 0.0
            for q in range(row, end[i]):
                values[q] *= factor
            values[row] += 1.0 - factor * d
            total[i] = 1.0 - factor * (lost + surplus[i])


@rows_kernel
def refill_product(  # type: ignore[no-untyped-def]
    start, stop, bounds, first, last, c, v, begin, end, columns, values, out_begin, out_end, out_columns, beside,
    out_values, seen,
):  # fmt: skip
    """Multiply rows of a matrix by another matrix, on a known pattern of the product.

    The product's own diagonal, which is not among its entries, is written behind them, at `beside` or later, in another
    place for each run of rows. `seen` is scratch memory of one thread, an entry for each column.
    """
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            for q in range(out_begin[i], out_end[i]):
                seen[out_columns[q]] = q
                out_values[q] = 0.0
            seen[i] = beside + np.uint32(block) * APART
            for k in range(first[i], last[i]):
                j, a = c[k], v[k]
                for q in range(begin[j], end[j]):
                    out_values[seen[columns[q]]] += a * values[q]
