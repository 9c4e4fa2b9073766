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

NONE = np.uint32(0xFFFFFFFF)
BLOCK = 32
"""Rows of `U` eliminated at a time."""
TILE = 64
"""Columns updated at a time: with `BLOCK` rows they fit into the first cache."""
ROUNDING = 1e-15
"""Pivots that are smaller than this fraction of the diagonal entry are taken for zero."""


@part
def subtract_products(target, base, stride, j0, j1, panel, b, width, k0, k1, tile):  # type: ignore[no-untyped-def]
    """Subtract `Σ_k U[k, j] U[k, i]` from the target's rows `j0 ≤ j < j1`, `i ≥ j`, for the block's rows `k`.

    The entry `(j, i)` of the target is at `base + j stride + i`.
    """
    rows = k1 - k0
    for c in range(j0, width, TILE):
        w = min(TILE, width - c)
        for k in range(rows):
            source = b + (k0 + k) * width + c
            into, row = tile[k], panel[source : source + w]
            sign = np.copysign(1.0, panel[b + (k0 + k) * width + k0 + k])
            for i in range(w):
                into[i] = sign * row[i]
        end = min(j1, c + w)
        for j in range(j0, end - 1, 2):
            t = base + j * stride + c
            one, two = target[t : t + w], target[t + stride : t + stride + w]
            k = 0
            while k + 4 <= rows:
                u = b + (k0 + k) * width + j
                a0, a1, a2, a3 = panel[u], panel[u + width], panel[u + 2 * width], panel[u + 3 * width]
                u += 1
                e0, e1, e2, e3 = panel[u], panel[u + width], panel[u + 2 * width], panel[u + 3 * width]
                four = tile[k : k + 4]
                for i in range(w):
                    x0, x1, x2, x3 = four[0, i], four[1, i], four[2, i], four[3, i]
                    one[i] -= a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                    two[i] -= e0 * x0 + e1 * x1 + e2 * x2 + e3 * x3
                k += 4
            while k < rows:
                u = b + (k0 + k) * width + j
                a0, e0, last = panel[u], panel[u + 1], tile[k]
                for i in range(w):
                    one[i] -= a0 * last[i]
                    two[i] -= e0 * last[i]
                k += 1
        if (end - j0) % 2 == 1:
            j = end - 1
            t = base + j * stride + c
            one = target[t : t + w]
            for k in range(rows):
                a0, last = panel[b + (k0 + k) * width + j], tile[k]
                for i in range(w):
                    one[i] -= a0 * last[i]


@part
def eliminate_block(panel, b, width, k0, k1, diagonal):  # type: ignore[no-untyped-def]
    """Factor the block's rows of `U`; return how many pivots are not positive."""
    wrong = 0
    for k in range(k0, k1):
        row = panel[b + k * width + k : b + (k + 1) * width]
        for q in range(k0, k):
            other = panel[b + q * width + k : b + (q + 1) * width]
            a = np.copysign(other[0], other[0] * panel[b + q * width + q])
            for i in range(width - k):
                row[i] -= a * other[i]
        pivot = row[0]
        scale = 1 / np.sqrt(abs(pivot))
        if not pivot > ROUNDING * diagonal[k]:
            wrong += 1
            if not abs(pivot) > ROUNDING * diagonal[k]:
                scale = 0.0
        for i in range(width - k):
            row[i] *= scale
    return wrong


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
    start, stop, bins, listed, first, begin, rows, places, child, sibling, positions, building, indptr, indices, values,
    order, place, diagonal, panel, fronts, wrong, locals_, tos, tiles,
):  # fmt: skip
    """Factor the supernodes of the lists `start … stop − 1`, children first.

    `wrong` gets the number of each list's pivots that are not positive. The last three are work space.
    """
    for one in range(start, stop):
        local, to, tile = locals_[one], tos[one], tiles[one]
        wrong[one] = 0
        for at in range(bins[one], bins[one + 1]):
            s = listed[at]
            c0, own, m = first[s], first[s + 1] - first[s], begin[s + 1] - begin[s]
            width, b, f = own + m, places[s], building[s]
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
                wrong[one] += eliminate_block(panel, b, width, k0, k1, diagonal[c0 : c0 + own])
                subtract_products(panel, b, width, k1, own, panel, b, width, k0, k1, tile)
                subtract_products(fronts, f - own * m - own, m, own, width, panel, b, width, k0, k1, tile)
            position = positions[s]
            if position != f:
                for j in range(m):
                    row = fronts[f + j * m + j : f + (j + 1) * m]
                    kept = fronts[position + j * m + j : position + (j + 1) * m]
                    for i in range(m - j):
                        kept[i] = row[i]


@plain
def solve_columns(start, stop, first, begin, rows, places, panel, order, b, x, works):  # type: ignore[no-untyped-def]
    """Solve for the right-hand sides `b[start:stop]`, a row each; `works` are two rows of work space for each."""
    count, n = len(first) - 1, len(order)
    for c in range(start, stop):
        right, found, y, below = b[c], x[c], works[2 * c], works[2 * c + 1]
        for i in range(n):
            y[i] = right[order[i]]
        for s in range(count):
            own, m = first[s + 1] - first[s], begin[s + 1] - begin[s]
            mine, theirs, w = y[first[s] : first[s + 1]], rows[begin[s] : begin[s + 1]], below[:m]
            for q in range(m):
                w[q] = 0.0
            for k in range(own):
                row = places[s] + k * (own + m)
                inner, outer = panel[row : row + own], panel[row + own : row + own + m]
                known = mine[k] / inner[k]
                mine[k] = known
                for i in range(k + 1, own):
                    mine[i] -= inner[i] * known
                for q in range(m):
                    w[q] += outer[q] * known
            for q in range(m):
                y[theirs[q]] -= w[q]
        for back in range(count):
            s = count - 1 - back
            own, m = first[s + 1] - first[s], begin[s + 1] - begin[s]
            mine, theirs, w = y[first[s] : first[s + 1]], rows[begin[s] : begin[s + 1]], below[:m]
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
        for i in range(n):
            found[order[i]] = y[i]
