"""Kernels that fill a hierarchy's levels with new values: blocks, aggregates and patterns stay as they are.

They run over blocks of rows as those of `levels_kernels`, and a level's rows are what `arranged` makes of them there.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.sparse.amg.levels_kernels import ONE, ROUNDINGS, rows_kernel

OWN, OUT, BESIDE = np.uint32(0), np.uint32(1), np.uint32(2)
"""Places of what an aggregate's rows have within it, with what is left out, and with other aggregates from there on."""


@rows_kernel
def refill_first(  # type: ignore[no-untyped-def]
    start, stop, bounds, indptr, indices, data, reordered, order, place, scale, added, first, middle, inner,
    last, values, surplus, diagonal, inverse, excess, most,
):  # fmt: skip
    """Fill the first level from the matrix: `values` times `scale` in the order of the sweeps, and what follows.

    Row `i` is the matrix's row `order[i]` where `reordered`, and `place` is the inverse of `order`; `added` of the
    diagonal is added for relaxation.
    """
    for block in range(start, stop):
        lo, hi = bounds[block], bounds[block + 1]
        for i in range(lo, hi):
            o = order[i] if reordered else i
            before, after, outside = first[i], middle[i], inner[i]
            d, off, magnitude, away, largest = 0.0, 0.0, 0.0, 0.0, 0.0
            for k in range(indptr[o], indptr[o + ONE]):
                j = place[indices[k]] if reordered else indices[k]
                a = data[k] * scale
                if j == i:
                    d += a
                    continue
                off += a
                magnitude += abs(a)
                largest = max(largest, -a)
                if j < lo or j >= hi:
                    away += abs(a)
                    values[outside] = a
                    outside += ONE
                elif j < i:
                    values[before] = a
                    before += ONE
                else:
                    values[after] = a
                    after += ONE
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
def refill_coarse(  # type: ignore[no-untyped-def]
    start, stop, bounds, offsets, group, heads, link, first, last, c, v, surplus, coarse_first, coarse_inner,
    coarse_last, coarse_c, added, values, coarse_surplus, diagonal, inverse, excess, most, seen, sums,
):  # fmt: skip
    """Sum the rows and columns of each aggregate, `Pᵀ A P`, into the places that the coarse level's rows have.

    `seen` and `sums` are memory of a run's own: of each column, and of what is left out, where it is added up.
    """
    for block in range(start, stop):
        for g in range(offsets[block], offsets[block + 1]):
            lo, hi = coarse_first[g], coarse_last[g]
            seen[0] = OUT
            seen[g + ONE] = OWN
            sums[OUT] = 0.0
            place = BESIDE
            for k in range(lo, hi):
                seen[coarse_c[k] + ONE] = place
                sums[place] = 0.0
                place += ONE
            total = 0.0
            i = heads[g]
            while i >= 0:
                m = np.uint32(i)
                total += surplus[m]
                for k in range(first[m], last[m]):
                    sums[seen[np.uint32(group[c[k]] + np.int32(1))]] += v[k]
                i = link[m]
            total -= sums[OUT]
            off, away, largest = 0.0, 0.0, 0.0
            place = BESIDE
            for k in range(lo, hi):
                a = sums[place]
                place += ONE
                values[k] = a
                off += a
                largest = max(largest, -a)
                if k >= coarse_inner[g]:
                    away += abs(a)
            d = total - off
            coarse_surplus[g] = total
            diagonal[g] = d
            most[g] = largest
            more = 0.5 * away + added * d
            excess[g] = more
            inverse[g] = 1.0 / (d + more) if d > 0.0 else 0.0
