"""Kernels of the set-up of nonsymmetric multigrid: the downstream order, pairs, and the matrices between them.

Indices of rows and entries are uint32: with signed ones Numba tests every access for a negative index.

Sources: Y. Notay, "Aggregation-based algebraic multigrid for convection-diffusion equations", SIAM J. Sci. Comput. 34
(2012), for pairs by the quality of the symmetric part; J. Bey, G. Wittum, "Downwind numbering: robust multigrid for
convection-diffusion problems", Appl. Numer. Math. 23 (1997), for the order.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import kernel

IN_ORDER = {"contract", "nsz"}
rows_kernel = kernel(fastmath=IN_ORDER, error_model="numpy", counted=False)
"""The decorator of these kernels: sums are not reordered, as vectorising rows of seven entries makes them slower."""
ONE = np.uint32(1)
UNSET, LEFT_OUT = np.int32(-2), np.int32(-1)
BETTER = 1.15
"""A partner must be better than an earlier one by this factor, so that regular grids give regular aggregates, even
along a wind that varies. Measured at 99,856 unknowns and a cell Péclet number of 0.1 in a recirculating wind: 23
iterations with 1.001, 8 with 1.15."""
HELD = 1e-3
"""A coarse row whose diagonal is below this fraction of its other magnitudes gets their sum as its diagonal, so that
sweeps are possible."""
DIRECTED = 1.25
"""A coupling of at least this many times its mirror image has a direction, which tells the unknown downstream."""


@rows_kernel
def find_facing(indptr, indices, data, cursor, back):  # type: ignore[no-untyped-def]
    """Write `a_ji` to `back` at the place of each `a_ij`; rows are sorted, `cursor` begins as a copy of their starts.

    Returns the number of entries found without a mirror image; unless it is 0, `back` is useless.
    """
    lost = 0
    for i in range(len(cursor)):
        for k in range(indptr[i], indptr[i + 1]):
            j = indices[k]
            place = cursor[j]
            if place < indptr[j + ONE] and indices[place] == i:
                back[k] = data[place]
                cursor[j] = place + ONE
            else:
                lost += 1
                break
    return lost


@rows_kernel
def order_downstream(indptr, indices, data, back, order, place, stack, cursor):  # type: ignore[no-untyped-def]
    """Number the rows so that each follows those upstream of it, unless there is a cycle; return how many couplings
    have a direction.

    This is a depth-first search against the flow: a row is numbered when all rows upstream of it are.
    """
    n = len(order)
    unseen, open_ = np.uint32(0xFFFFFFFF), np.uint32(0xFFFFFFFE)
    place[:] = unseen
    filled = 0
    directed = 0
    for s in range(n):
        if place[s] != unseen:
            continue
        stack[0] = s
        depth = 1
        place[s] = open_
        cursor[s] = indptr[s]
        while depth > 0:
            i = stack[depth - 1]
            k = cursor[i]
            end = indptr[i + ONE]
            found = False
            while k < end:
                j = indices[k]
                if abs(data[k]) > DIRECTED * abs(back[k]):
                    directed += 1
                    if place[j] == unseen:
                        found = True
                        stack[depth] = j
                        place[j] = open_
                        cursor[j] = indptr[j]
                        break
                k += ONE
            if found:
                cursor[i] = k + ONE
                depth += 1
            else:
                place[i] = filled
                order[filled] = i
                filled += 1
                depth -= 1
    return directed


@rows_kernel
def fill_finest(  # type: ignore[no-untyped-def]
    order, place, indptr, indices, data, back, scale, first, middle, last, c, v, s, diagonal, surplus, symmetric
):  # fmt: skip
    """Fill the first level's rows in order: entries before the diagonal, then those after it, without the diagonal.

    `v` gets the entries of the matrix, `s` those of its symmetric part; `surplus` and `symmetric` get both row sums.
    """
    position = np.uint32(0)
    for i in range(len(order)):
        o = order[i]
        first[i] = position
        total, mean, d = 0.0, 0.0, 0.0
        for k in range(indptr[o], indptr[o + ONE]):
            j = place[indices[k]]
            a = data[k] * scale
            both = 0.5 * (a + back[k] * scale)
            total += a
            mean += both
            if j == i:
                d = a
            elif j < i:
                c[position] = j
                v[position] = a
                s[position] = both
                position += ONE
        middle[i] = position
        for k in range(indptr[o], indptr[o + ONE]):
            j = place[indices[k]]
            if j > i:
                c[position] = j
                v[position] = data[k] * scale
                s[position] = 0.5 * (data[k] + back[k]) * scale
                position += ONE
        last[i] = position
        diagonal[i] = d
        surplus[i] = total
        symmetric[i] = mean


@rows_kernel
def pair_rows(  # type: ignore[no-untyped-def]
    first, last, c, s, weight, symmetric, most, strength, dominated, group, heads, link, size
):  # fmt: skip
    """Match each row with its best partner; rows that are left over join a group. Returns the number of groups.

    `s` are the couplings of the symmetric part. Rows whose off-diagonal magnitudes sum to at most `dominated` times
    their diagonal are left to smoothing.
    """
    n = len(group)
    number = np.int32(0)
    for i in range(n):
        largest, total = 0.0, 0.0
        for k in range(first[i], last[i]):
            largest = max(largest, -s[k])
            total += abs(s[k])
        if dominated >= 0.0:
            most[i] = largest
        group[i] = LEFT_OUT if total <= dominated * weight[i] or not weight[i] > 0.0 else UNSET
    for i in range(n):
        if group[i] != UNSET:
            continue
        best, found = 0.0, np.int32(-1)
        own, row = strength * most[i], max(symmetric[i], 0.0)
        for k in range(first[i], last[i]):
            j, a = c[k], -s[k]
            if a > 0.0 and group[j] == UNSET and a * a >= own * most[j]:
                other = max(symmetric[j], 0.0)
                hold = row * other / (row + other) if row + other > 0.0 else 0.0
                quality = (a + hold) * (1.0 / weight[i] + 1.0 / weight[j])
                if quality > BETTER * best:
                    best, found = quality, np.int32(j)
        if found >= 0:
            j = np.uint32(found)
            group[i] = group[j] = number
            heads[number], link[i], link[j] = i, found, -1
            size[number] = 2
            number += np.int32(1)
    for i in range(n):
        if group[i] != UNSET:
            continue
        most_coupled, found = 0.0, np.int32(-1)
        for k in range(first[i], last[i]):
            j, a = c[k], -s[k]
            coupled = 8.0 * a >= weight[i] or a * a >= strength * most[i] * most[j]
            if a > most_coupled and coupled and group[j] >= 0 and size[np.uint32(group[j])] < 3:
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
    return number


@rows_kernel
def merge_rows(  # type: ignore[no-untyped-def]
    count, group, heads, link, first, last, c, v, s, surplus, symmetric, weight, most, seen,
    out_first, out_last, out_c, out_v, out_s, out_surplus, out_symmetric, out_weight, out_most,
):  # fmt: skip
    """Sum the rows and columns of each group: `Pᵀ A P` without its diagonal, which follows from the row sums."""
    position = np.uint32(0)
    seen[:] = np.uint32(0)
    for g in range(count):
        row = position
        total, mean, held, largest = 0.0, 0.0, 0.0, 0.0
        i = heads[g]
        while i >= 0:
            m = np.uint32(i)
            total += surplus[m]
            mean += symmetric[m]
            held += weight[m]
            largest = max(largest, most[m])
            for k in range(first[m], last[m]):
                h = group[c[k]]
                if h == LEFT_OUT:
                    total -= v[k]
                    mean -= s[k]
                elif h != g:
                    at = seen[np.uint32(h)]
                    if at > row:
                        out_v[at - ONE] += v[k]
                        out_s[at - ONE] += s[k]
                    else:
                        out_c[position] = h
                        out_v[position] = v[k]
                        out_s[position] = s[k]
                        position += ONE
                        seen[np.uint32(h)] = position
            i = link[m]
        out_first[g], out_last[g] = row, position
        out_surplus[g], out_symmetric[g] = total, mean
        out_weight[g] = held
        out_most[g] = largest
    return position


@rows_kernel
def compose_groups(second, group):  # type: ignore[no-untyped-def]
    """Write `group ← second[group]`."""
    for i in range(len(group)):
        if group[i] >= 0:
            group[i] = second[np.uint32(group[i])]


@rows_kernel
def split_halves(  # type: ignore[no-untyped-def]
    first, middle, last, c, v, s, spare_c, spare_v, spare_s, surplus, diagonal, theta
):  # fmt: skip
    """Put each row's entries before the diagonal first, in place, and compute the diagonal from the row sum.

    Before that the symmetric part of each pair of couplings is multiplied by `theta`, as far as the weaker one stays
    negative: sums over aggregates overestimate diffusion by a factor of about two a level but not convection, so that
    no scaling of the correction suits both.
    """
    for i in range(len(first)):
        total, magnitude = 0.0, 0.0
        low, high = first[i], np.uint32(0)
        for k in range(first[i], last[i]):
            less = max(-s[k] - max(-theta * s[k], abs(v[k] - s[k])), 0.0)
            v[k] += less
            s[k] += less
            total += v[k]
            magnitude += abs(v[k])
            if c[k] < i:
                c[low], v[low], s[low] = c[k], v[k], s[k]
                low += ONE
            else:
                spare_c[high], spare_v[high], spare_s[high] = c[k], v[k], s[k]
                high += ONE
        middle[i] = low
        for k in range(high):
            c[low], v[low], s[low] = spare_c[k], spare_v[k], spare_s[k]
            low += ONE
        own = surplus[i] - total
        diagonal[i] = own if own > HELD * magnitude else magnitude
