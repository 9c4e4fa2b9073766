"""Kernels that fill a hierarchy's levels with new values: blocks, aggregates and patterns stay as they are.

They run over blocks of rows as those of `levels_kernels`, and a level's rows are what `arranged` makes of them there.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.sparse.amg.levels_kernels import LEFT_OUT, ONE, ROUNDINGS, rows_kernel

GONE = np.uint32(0xFFFFFFFF)
"""In the place of a target or a place: the column is left out, the entry is the diagonal."""
APART = np.uint32(16)
"""Entries between the places of two blocks, so that two threads do not write to one line of the cache."""


@rows_kernel
def find_places(  # type: ignore[no-untyped-def]
    start, stop, bounds, indptr, indices, reordered, order, place, first, last, c, places, seen
):  # fmt: skip
    """Find where each entry of the matrix stands on the first level, `GONE` for the diagonal.

    Row `i` is the matrix's row `order[i]` where `reordered`, and `place` is the inverse of `order`. `seen` is memory of
    a run's own, a place for each column.
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
    """Fill the first level from the matrix: `values` times `scale` in their places, and what follows from them.

    `added` of the diagonal is added for relaxation.
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

    Within an aggregate, whose sum nothing needs, `targets` is a place behind the entries, from `beside` on and another
    one for each block; `GONE` for a column that is left out. `seen` is memory of a run's own, a place for each column.
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
    """Add a level's entries up in `sums`, zero before, and its row sums, with what is left out, in `coarse_surplus`."""
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
    """Fill a coarse level with the sums of its entries, and with what follows from them and from its row sums."""
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
