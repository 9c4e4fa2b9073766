"""Kernels of a multifrontal Cholesky factor `A = UᵀU`, and of the solves with it.

The `k` columns of a supernode are stored as `k` rows of `U`, `(k, k + m)`, of which `m` columns belong to later
supernodes. Their contribution to those, `(m, m)`, is kept until it is added to the parent's. Only upper triangles are
used. A pivot that is not positive is counted, and `UᵀSU` is computed instead, with the signs `S` on `U`'s diagonal:
by Sylvester's law of inertia the count is that of the negative eigenvalues.

Source: J. W. H. Liu, "The multifrontal method for sparse matrix solution", SIAM Review 34 (1992).
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import part, plain
from relaxon.solvers.kernels.team_kernels import SIZE, meet, share

NONE = np.uint32(0xFFFFFFFF)
BLOCK = 32
"""Rows of `U` eliminated at a time."""
TILE = 64
"""Columns updated at a time: with `BLOCK` rows they fit into the first cache."""
ROUNDING = 1e-15
"""Pivots that are smaller than this fraction of the diagonal entry are taken for zero."""


@part
def subtract_products(target, base, stride, j0, j1, panel, b, width, k0, k1, c, w, tile):  # type: ignore[no-untyped-def]
    """Subtract `Σ_k U[k, j] U[k, i]` from the target's rows `j0 ≤ j < j1`, for the block's rows `k` and `w` columns `i`
    from `c` on; some of those with `i < j` are changed as well.

    The entry `(j, i)` of the target is at `base + j stride + i`.
    """
    rows = k1 - k0
    for k in range(rows):
        source = b + (k0 + k) * width + c
        into, row = tile[k], panel[source : source + w]
        sign = np.copysign(1.0, panel[b + (k0 + k) * width + k0 + k])
        for i in range(w):
            into[i] = sign * row[i]
    j, end = j0, min(j1, c + w)
    while j + 4 <= end:
        t = base + j * stride + c
        one, two = target[t : t + w], target[t + stride : t + stride + w]
        t += 2 * stride
        three, four = target[t : t + w], target[t + stride : t + stride + w]
        k = 0
        while k + 4 <= rows:
            u = b + (k0 + k) * width + j
            a0, e0, g0, h0 = panel[u], panel[u + 1], panel[u + 2], panel[u + 3]
            u += width
            a1, e1, g1, h1 = panel[u], panel[u + 1], panel[u + 2], panel[u + 3]
            u += width
            a2, e2, g2, h2 = panel[u], panel[u + 1], panel[u + 2], panel[u + 3]
            u += width
            a3, e3, g3, h3 = panel[u], panel[u + 1], panel[u + 2], panel[u + 3]
            x = tile[k : k + 4]
            for i in range(w):
                x0, x1, x2, x3 = x[0, i], x[1, i], x[2, i], x[3, i]
                one[i] -= a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                two[i] -= e0 * x0 + e1 * x1 + e2 * x2 + e3 * x3
                three[i] -= g0 * x0 + g1 * x1 + g2 * x2 + g3 * x3
                four[i] -= h0 * x0 + h1 * x1 + h2 * x2 + h3 * x3
            k += 4
        while k < rows:
            u = b + (k0 + k) * width + j
            a0, e0, g0, h0, last = panel[u], panel[u + 1], panel[u + 2], panel[u + 3], tile[k]
            for i in range(w):
                one[i] -= a0 * last[i]
                two[i] -= e0 * last[i]
                three[i] -= g0 * last[i]
                four[i] -= h0 * last[i]
            k += 1
        j += 4
    while j < end:
        t = base + j * stride + c
        one = target[t : t + w]
        for k in range(rows):
            a0, last = panel[b + (k0 + k) * width + j], tile[k]
            for i in range(w):
                one[i] -= a0 * last[i]
        j += 1


@part
def subtract_rows(panel, b, width, k, k0, c, w):  # type: ignore[no-untyped-def]
    """Subtract the multiples of the block's rows `k0 … k − 1` from row `k` of `U` in `w` columns from `c` on."""
    at = b + k * width + c
    row = panel[at : at + w]
    q = k0
    while q + 4 <= k:
        u, d = b + q * width + k, b + q * (width + 1)
        a0 = np.copysign(panel[u], panel[u] * panel[d])
        a1 = np.copysign(panel[u + width], panel[u + width] * panel[d + width + 1])
        a2 = np.copysign(panel[u + 2 * width], panel[u + 2 * width] * panel[d + 2 * width + 2])
        a3 = np.copysign(panel[u + 3 * width], panel[u + 3 * width] * panel[d + 3 * width + 3])
        at = b + q * width + c
        x0, x1 = panel[at : at + w], panel[at + width : at + width + w]
        at += 2 * width
        x2, x3 = panel[at : at + w], panel[at + width : at + width + w]
        for i in range(w):
            row[i] -= a0 * x0[i] + a1 * x1[i] + a2 * x2[i] + a3 * x3[i]
        q += 4
    while q < k:
        u, at = b + q * width + k, b + q * width + c
        a0, x = np.copysign(panel[u], panel[u] * panel[b + q * (width + 1)]), panel[at : at + w]
        for i in range(w):
            row[i] -= a0 * x[i]
        q += 1


@part
def eliminate_block(panel, b, width, k0, k1, diagonal, scales):  # type: ignore[no-untyped-def]
    """Factor the block's rows of `U` in its own columns; return how many pivots are not positive.

    `scales` gets the factors of the rows, 0 where a pivot is taken for zero.
    """
    wrong = 0
    for k in range(k0, k1):
        subtract_rows(panel, b, width, k, k0, k, k1 - k)
        at = b + k * width + k
        pivot = panel[at]
        scale = 1 / np.sqrt(abs(pivot))
        if not pivot > ROUNDING * diagonal[k]:
            wrong += 1
            if not abs(pivot) > ROUNDING * diagonal[k]:
                scale = 0.0
        row = panel[at : at + k1 - k]
        for i in range(k1 - k):
            row[i] *= scale
        scales[k - k0] = scale
    return wrong


@part
def continue_block(panel, b, width, k0, k1, c, w, scales):  # type: ignore[no-untyped-def]
    """Compute the block's rows of `U` in `w` columns from `c` on."""
    for k in range(k0, k1):
        subtract_rows(panel, b, width, k, k0, c, w)
        at = b + k * width + c
        row, scale = panel[at : at + w], scales[k - k0]
        for i in range(w):
            row[i] *= scale


@part
def add_contribution(source, size, position, rows, c0, own, local, width, panel, b, fronts, f, to):  # type: ignore[no-untyped-def]
    """Add a child's contribution, of `size` rows, to its parent's rows of `U` and to its parent's contribution."""
    m = width - own
    inside = 0
    for q in range(size):
        i = rows[q]
        if i < c0 + own:
            to[q] = np.uint32(i - c0)
            inside += 1
        else:
            to[q] = local[i]
    for p in range(inside):
        row = b + np.int64(to[p]) * width
        target, given = panel[row : row + width], source[position + p * size : position + (p + 1) * size]
        for q in range(p, size):
            target[to[q]] += given[q]
    for q in range(inside, size):
        to[q] -= np.uint32(own)
    for p in range(inside, size):
        row = f + np.int64(to[p]) * m
        target, given = fronts[row : row + m], source[position + p * size : position + (p + 1) * size]
        for q in range(p, size):
            target[to[q]] += given[q]


@part
def add_entries(row, k, order, indptr, indices, values, place, c0, own, local):  # type: ignore[no-untyped-def]
    """Write the matrix's entries of column `c0 + k` to its row of `U`."""
    for i in range(len(row)):
        row[i] = 0.0
    line = order[c0 + k]
    for p in range(indptr[line], indptr[line + np.uint32(1)]):
        i = place[indices[p]]
        if i >= c0 + own:
            row[local[i]] = values[p]
        elif i >= c0 + k:
            row[np.uint32(i - c0)] = values[p]


@plain
def factor_supernodes(  # type: ignore[no-untyped-def]
    first, last, team, bins, listed, begins, begin, rows, places, child, sibling, positions, building, indptr, indices,
    values, order, place, diagonal, panel, fronts, wrong, locals_, tos, tiles, scales,
):  # fmt: skip
    """Factor all supernodes, children first: each member its share of the lists, and together the last list.

    `wrong` gets the number of each list's pivots that are not positive. The last four are work space, of which each
    list has its own, and in the last list each member has tiles of its own.
    """
    lists, size = len(bins) - 1, team[SIZE]
    start, stop = share(first, last, team, lists - 1)
    for one in range(lists):
        together = one == lists - 1
        if together:
            meet(first, last, team)
        elif not start <= one < stop:
            continue
        leads = first == 0 or not together
        local, to = locals_[one], tos[one]
        tile, scale = tiles[one + first] if together else tiles[one], scales[one]
        if leads:
            wrong[one] = 0
        for at in range(bins[one], bins[one + 1]):
            s = listed[at]
            c0, own, m = begins[s], begins[s + 1] - begins[s], begin[s + 1] - begin[s]
            width, b, f = own + m, places[s], building[s]
            if leads:
                mine = rows[begin[s] : begin[s + 1]]
                for q in range(m):
                    local[mine[q]] = np.uint32(own + q)
                for k in range(own):
                    row = panel[b + k * width : b + (k + 1) * width]
                    add_entries(row, k, order, indptr, indices, values, place, c0, own, local)
                for j in range(m):
                    row = fronts[f + j * m + j : f + (j + 1) * m]
                    for i in range(m - j):
                        row[i] = 0.0
                below = child[s]
                while below != NONE:
                    theirs = rows[begin[below] : begin[below + np.uint32(1)]]
                    add_contribution(
                        fronts, len(theirs), positions[below], theirs, c0, own, local, width, panel, b, fronts, f, to
                    )
                    below = sibling[below]
            for k0 in range(0, own, BLOCK):
                k1 = min(k0 + BLOCK, own)
                if leads:
                    wrong[one] += eliminate_block(panel, b, width, k0, k1, diagonal[c0 : c0 + own], scale)
                for step in range(2):
                    if together:
                        meet(first, last, team)
                    turn, c = 0, k1
                    while c < width:
                        w = min(TILE, (own if c < own else width) - c)
                        if not together or first <= turn < last:
                            if step == 0:
                                continue_block(panel, b, width, k0, k1, c, w, scale)
                            else:
                                subtract_products(panel, b, width, k1, own, panel, b, width, k0, k1, c, w, tile)
                                if c >= own:
                                    base = f - own * m - own
                                    subtract_products(fronts, base, m, own, width, panel, b, width, k0, k1, c, w, tile)
                        c += w
                        turn = turn + 1 if turn + 1 < size else 0
                if together:
                    meet(first, last, team)
            position = positions[s]
            if leads and position != f:
                for j in range(m):
                    row = fronts[f + j * m + j : f + (j + 1) * m]
                    kept = fronts[position + j * m + j : position + (j + 1) * m]
                    for i in range(m - j):
                        kept[i] = row[i]


@part
def solve_forward(s, begins, begin, rows, places, child, sibling, panel, y, sums, local):  # type: ignore[no-untyped-def]
    """Solve with the rows of `Uᵀ` of a supernode; `sums` gets what it contributes to later ones, as its children's
    have."""
    c0, own, m = begins[s], begins[s + 1] - begins[s], begin[s + 1] - begin[s]
    theirs, w, mine = rows[begin[s] : begin[s + 1]], sums[begin[s] : begin[s + 1]], y[c0 : c0 + own]
    for q in range(m):
        local[theirs[q]] = np.uint32(q)
        w[q] = 0.0
    below = child[s]
    while below != NONE:
        for p in range(begin[below], begin[below + np.uint32(1)]):
            i = rows[p]
            if i < c0 + own:
                y[i] -= sums[p]
            else:
                w[local[i]] += sums[p]
        below = sibling[below]
    for k in range(own):
        row = places[s] + k * (own + m)
        inner, outer = panel[row : row + own], panel[row + own : row + own + m]
        known = mine[k] / inner[k]
        mine[k] = known
        for i in range(k + 1, own):
            mine[i] -= inner[i] * known
        for q in range(m):
            w[q] += outer[q] * known


@part
def solve_backward(s, begins, begin, rows, places, panel, y, sums):  # type: ignore[no-untyped-def]
    """Solve with the rows of `U` of a supernode, after all those above it; what `sums` holds for it is overwritten."""
    c0, own, m = begins[s], begins[s + 1] - begins[s], begin[s + 1] - begin[s]
    theirs, w, mine = rows[begin[s] : begin[s + 1]], sums[begin[s] : begin[s + 1]], y[c0 : c0 + own]
    for q in range(m):
        w[q] = y[theirs[q]]
    for up in range(own):
        k = own - 1 - up
        row = places[s] + k * (own + m)
        inner, outer = panel[row : row + own], panel[row + own : row + own + m]
        total = mine[k]
        for i in range(k + 1, own):
            total -= inner[i] * mine[i]
        for q in range(m):
            total -= outer[q] * w[q]
        mine[k] = total / inner[k]


@plain
def solve_columns(  # type: ignore[no-untyped-def]
    first, last, team, bins, listed, begins, begin, rows, places, child, sibling, panel, order, b, x, y, sums, locals_
):
    """Solve for the right-hand sides `b`, a row each: each member for its share of them, or all together for one after
    the other where there are fewer than members. The last three are work space."""
    n, lists = len(order), len(bins) - 1
    apart = len(b) >= team[SIZE]
    from_column, to_column = share(first, last, team, len(b)) if apart else (0, len(b))
    start, stop = (0, lists) if apart else share(first, last, team, lists - 1)
    leads, local = apart or first == 0, locals_[first]
    low, high = (0, n) if apart else share(first, last, team, n)
    for c in range(from_column, to_column):
        one, right, found = y[c], b[c], x[c]
        for i in range(low, high):
            one[i] = right[order[i]]
        if not apart:
            meet(first, last, team)
        for group in range(lists):
            if not apart and group == lists - 1:
                meet(first, last, team)
            if start <= group < stop or (group == lists - 1 and leads):
                for at in range(bins[group], bins[group + 1]):
                    solve_forward(listed[at], begins, begin, rows, places, child, sibling, panel, one, sums[c], local)
        for back in range(lists):
            group = lists - 1 - back
            if start <= group < stop or (group == lists - 1 and leads):
                for at in range(bins[group + 1] - 1, bins[group] - 1, -1):
                    solve_backward(listed[at], begins, begin, rows, places, panel, one, sums[c])
            if not apart and group == lists - 1:
                meet(first, last, team)
        if not apart:
            meet(first, last, team)
        for i in range(low, high):
            found[order[i]] = one[i]
