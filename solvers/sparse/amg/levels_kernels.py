"""Kernels of the set-up: a level's rows in sweeping order, aggregates, and the matrix between aggregates.

Every kernel runs over blocks of rows, `bounds[block] … bounds[block + 1] − 1`. Blocks depend on the matrix alone, and
no aggregate leaves its block, so that results do not depend on the number of threads. Indices of rows and entries are
uint32: with signed ones Numba tests every access for a negative index, which takes twice as long.

Sources: Y. Notay, "An aggregation-based algebraic multigrid method", ETNA 37 (2010), for double pairwise aggregation;
A. Napov, Y. Notay, "An algebraic multigrid method with guaranteed convergence rate", SIAM J. Sci. Comput. 34 (2012),
eq. (4.4), for the quality by which pairs are ranked.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import kernel, kernel_part

IN_ORDER = {"contract", "nsz"}
rows_kernel, rows_part = kernel(fastmath=IN_ORDER), kernel_part(fastmath=IN_ORDER)
"""As `compiled.plain`, but sums are not reordered: vectorising rows of seven entries makes them slower."""
ROUNDINGS = 4.0 * np.finfo(np.float64).eps
"""A row sum below this fraction of its sum of magnitudes, times its number of entries, is zero."""
BETTER = 1.001
"""A partner must be better than an earlier one by this factor, more than rounding, so that aggregates of regular grids
are regular."""
ROUNDED = 1e-5
"""Relative margin beyond the rounding of a diagonal in float32."""
SLIGHT = 64.0
"""Where coarsening comes to a halt, a row joins a group coupled to it by at least its diagonal over this."""
UNSET, LEFT_OUT = np.int32(-2), np.int32(-1)
ONE = np.uint32(1)


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


@rows_kernel
def arrange_rows(  # type: ignore[no-untyped-def]
    start, stop, bounds, position_of, begin, end, c, v, scale, relaxation, fresh, surplus, diagonal, inverse, excess,
    most, first, middle, inner, last, columns, values,
):  # fmt: skip
    """Bring a block's rows into sweeping order: entries before the diagonal, after it, and outside the block.

    Of the entries before and after it the nearest comes last, as a sweep has to wait for that one.

    Row `i` of the source is `c[begin[i]:end[i]]`; its parts begin at `first[i]`, `middle[i]`, `inner[i]` and end at
    `last[i]`. `surplus` is the row's sum: computed where `fresh`, else given, and then the diagonal follows from it.
    `excess` is half the sum of magnitudes outside the block, which makes a Gauss–Seidel sweep within blocks convergent
    whatever lies between them, plus `1/relaxation − 1` of the diagonal, for successive over-relaxation; `inverse` is
    1 / (diagonal + excess); `most` is the largest `−a_ij`.
    """
    added = 1.0 / relaxation - 1.0
    for block in range(start, stop):
        lo, hi = bounds[block], bounds[block + 1]
        position = position_of[block]
        for i in range(lo, hi):
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
            last[i] = position
            if fresh:
                total = d + off
                surplus[i] = total if abs(total) > ROUNDINGS * (position - first[i] + ONE) * (d + magnitude) else 0.0
            else:
                d = surplus[i] - off
            diagonal[i] = d
            most[i] = largest
            more = 0.5 * away + added * d
            excess[i] = more
            inverse[i] = 1.0 / (d + more) if d > 0.0 else 0.0


@rows_kernel
def pair_rows(  # type: ignore[no-untyped-def]
    start, stop, bounds, first, last, c, v, weight, surplus, most, strength, dominated, anyone,
    group, heads, link, size, counts,
):  # fmt: skip
    """Match each row with its best partner in the block; rows that are left over join a group.

    Couplings `a_ij < 0` with `a_ij² ≥ strength · most[i] · most[j]` are strong. Rows whose off-diagonal magnitudes sum
    to at most `dominated` times their diagonal are left out, as smoothing alone is enough for them. With `anyone`, rows
    that are left over join groups to which they are slightly coupled. `group` gets numbers from `bounds[block]`,
    `heads[number]` is the first member, `link` the next one of each, −1 at the end; `counts[block]` is the number of
    groups.
    """
    for block in range(start, stop):
        lo, hi = bounds[block], bounds[block + 1]
        number = np.int32(lo)
        for i in range(lo, hi):
            group[i] = UNSET
            # Magnitudes are summed only where the row's sum, which is known, does not decide.
            if dominated >= 0 and abs(weight[i] - surplus[i]) <= (dominated + ROUNDED) * weight[i]:
                total = 0.0
                for k in range(first[i], last[i]):
                    total += abs(v[k])
                if total <= dominated * weight[i]:
                    group[i] = LEFT_OUT
        for i in range(lo, hi):
            if group[i] != UNSET:
                continue
            best, found = 0.0, np.int32(-1)
            own, row, wi = strength * most[i], max(surplus[i], 0.0), weight[i]
            k = last[i]
            while k > first[i]:  # backwards, so that the nearest of equally good partners comes first
                k -= ONE
                j, a = c[k], -v[k]
                if a > 0 and j >= lo and j < hi and group[j] == UNSET and a * a >= own * most[j]:
                    other = max(surplus[j], 0.0)
                    hold = row * other / (row + other) if row + other > 0.0 else 0.0
                    quality = (a + hold) * (1.0 / wi + 1.0 / weight[j])
                    if quality > BETTER * best:
                        best, found = quality, np.int32(j)
            if found >= 0:
                j = np.uint32(found)
                group[i] = group[j] = number
                heads[number], link[i], link[j] = i, found, -1
                size[number] = 2
                number += np.int32(1)
        for i in range(lo, hi):
            if group[i] != UNSET:
                continue
            most_coupled, found = 0.0, np.int32(-1)
            for k in range(first[i], last[i]):
                j, a = c[k], -v[k]
                if a > most_coupled and j >= lo and j < hi and group[j] >= 0:
                    strong = a * a >= strength * most[i] * most[j] and size[np.uint32(group[j])] < 3
                    if (anyone and SLIGHT * a >= weight[i]) or 4 * a >= weight[i] or strong:
                        most_coupled, found = a, group[j]
            if found >= 0:
                group[i] = found
                link[i], heads[found] = heads[found], i
                size[np.uint32(found)] += np.int32(1)
            else:
                group[i] = number
                heads[number], link[i] = i, -1
                size[number] = 1
                number += np.int32(1)
        counts[block] = number - np.int32(lo)


@rows_kernel
def number_groups(start, stop, bounds, offsets, group, heads, compact):  # type: ignore[no-untyped-def]
    """Number a block's groups from `offsets[block]`, and copy their first members to these places of `compact`."""
    for block in range(start, stop):
        lo = np.int32(bounds[block])
        shift = np.int32(offsets[block]) - lo
        for i in range(bounds[block], bounds[block + 1]):
            if group[i] >= 0:
                group[i] += shift
        for g in range(offsets[block], offsets[block + 1]):
            compact[g] = heads[np.uint32(np.int32(g) - shift)]


@rows_kernel
def merge_rows(  # type: ignore[no-untyped-def]
    start, stop, bounds, offsets, group, heads, link, first, last, c, v, surplus, weight, most,
    begin, end, columns, values, coarse_surplus, coarse_weight, coarse_most,
):  # fmt: skip
    """Sum the rows and columns of each group: `Pᵀ A P` without its diagonal, which follows from `coarse_surplus`.

    Row `I` of the result is `columns[begin[I]:end[I]]`, in the part of the arrays where its block's rows were.
    `coarse_most` is the strongest coupling of the members, those inside the group included: groups with strong inner
    couplings must not be joined by weak ones, as no smoothing could separate them again.
    """
    seen = np.zeros(len(heads), np.uint32)
    for block in range(start, stop):
        position = first[bounds[block]]
        for g in range(offsets[block], offsets[block + 1]):
            row = position
            total = 0.0
            held = 0.0
            largest = 0.0
            i = heads[g]
            while i >= 0:
                m = np.uint32(i)
                total += surplus[m]
                held += weight[m]
                largest = max(largest, most[m])
                for k in range(first[m], last[m]):
                    h = group[c[k]]
                    if h == LEFT_OUT:
                        total -= v[k]
                    elif h != g:
                        place = seen[np.uint32(h)]
                        if place > row:
                            values[place - ONE] += v[k]
                        else:
                            columns[position] = h
                            values[position] = v[k]
                            position += ONE
                            seen[np.uint32(h)] = position
                i = link[m]
            begin[g], end[g] = row, position
            coarse_surplus[g] = total
            coarse_weight[g] = held
            coarse_most[g] = largest


@rows_kernel
def compose_groups(start, stop, bounds, second, group):  # type: ignore[no-untyped-def]
    """Write `group ← second[group]`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            if group[i] >= 0:
                group[i] = second[np.uint32(group[i])]


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
