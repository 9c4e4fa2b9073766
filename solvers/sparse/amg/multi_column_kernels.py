"""Kernels for eight right-hand sides at once, which use each entry of the matrix eight times.

Vectors are `(n, 8)`: the eight numbers of a row are adjacent, so that one instruction does for all of them what
`cycle_kernels` does for one. The results of a column do not depend on the other columns.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.sparse.amg.lane_kernels import add_scaled, load, multiply, narrow, store, widen, zeros
from relaxon.solvers.sparse.amg.levels_kernels import rows_kernel

ONE = np.uint32(1)


@rows_kernel
def sweep_forward(start, stop, bounds, begin, end, c, v, inverse, excess, b, x, left):  # type: ignore[no-untyped-def]
    """Sweep forwards from `x = 0`, and write `left ← b − A x` without the entries outside the block."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            total = load(b, i)
            for k in range(begin[i], end[i]):
                total = add_scaled(total, -v[k], load(x, c[k]))
            own = multiply(total, inverse[i])
            store(x, i, own)
            store(left, i, multiply(own, excess[i]))
            for k in range(begin[i], end[i]):
                store(left, c[k], add_scaled(load(left, c[k]), -v[k], own))


@rows_kernel
def sweep_backward(start, stop, bounds, begin, end, c, v, inverse, excess, b, x, beside):  # type: ignore[no-untyped-def]
    """Sweep backwards; `beside` begins as the product of `x` with the entries outside the block, and is overwritten."""
    for block in range(start, stop):
        lo, i = bounds[block], bounds[block + 1]
        while i > lo:
            i -= ONE
            total = add_scaled(load(b, i), excess[i], load(x, i))
            for k in range(begin[i], end[i]):
                total = add_scaled(total, -v[k], load(x, c[k]))
            own = multiply(add_scaled(total, np.float32(-1), load(beside, i)), inverse[i])
            store(x, i, own)
            k = end[i]
            while k > begin[i]:
                k -= ONE
                store(beside, c[k], add_scaled(load(beside, c[k]), v[k], own))


@rows_kernel
def apply_matrix(start, stop, bounds, begin, end, c, v, sums, x, y):  # type: ignore[no-untyped-def]
    """Write `y ← A x` without the entries outside the block, by row sums and differences `x_j − x_i`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            own = load(x, i)
            total = multiply(own, sums[i])
            for k in range(begin[i], end[i]):
                difference = add_scaled(load(x, c[k]), np.float32(-1), own)
                total = add_scaled(total, v[k], difference)
                store(y, c[k], add_scaled(load(y, c[k]), -v[k], difference))
            store(y, i, total)


@rows_kernel
def add_across(start, stop, bounds, rows, begin, end, c, v, factor, level, x, y):  # type: ignore[no-untyped-def]
    """Write `y ← y + factor·B x`, where `B` are the entries between blocks, `c[begin[m]:end[m]]` of row `rows[m]`,
    applied to `x_j − level·x_i`: with `level` 1 as in `apply_matrix`."""
    for block in range(start, stop):
        for m in range(bounds[block], bounds[block + 1]):
            own = load(x, rows[m])
            total = zeros(x)
            for k in range(begin[m], end[m]):
                total = add_scaled(total, v[k], add_scaled(load(x, c[k]), -level, own))
            store(y, rows[m], add_scaled(load(y, rows[m]), factor, total))


@rows_kernel
def restrict(start, stop, bounds, offsets, left, group, coarse):  # type: ignore[no-untyped-def]
    """Write `coarse ← Pᵀ left`, summing over aggregates."""
    for block in range(start, stop):
        for g in range(offsets[block], offsets[block + 1]):
            store(coarse, g, zeros(coarse))
        for i in range(bounds[block], bounds[block + 1]):
            if group[i] >= 0:
                own = np.uint32(group[i])
                store(coarse, own, add_scaled(load(coarse, own), np.float32(1), load(left, i)))


@rows_kernel
def prolong(start, stop, bounds, group, factor, coarse, x, beside):  # type: ignore[no-untyped-def]
    """Write `x ← x + factor·P coarse`, constant on aggregates, and `beside ← 0`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            if group[i] >= 0:
                store(x, i, add_scaled(load(x, i), factor, load(coarse, np.uint32(group[i]))))
            store(beside, i, zeros(beside))


@rows_kernel
def add_product(start, stop, bounds, begin, end, c, v, factor, x, y):  # type: ignore[no-untyped-def]
    """Write `y ← y + factor·C x` for a matrix with the rows `c[begin[i]:end[i]]`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            total = zeros(x)
            for k in range(begin[i], end[i]):
                total = add_scaled(total, v[k], load(x, c[k]))
            store(y, i, add_scaled(load(y, i), factor, total))


@rows_kernel
def combine(start, stop, bounds, one, z, two, w, x):  # type: ignore[no-untyped-def]
    """Write `x ← one·z + two·w`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            store(x, i, add_scaled(multiply(load(z, i), one), two, load(w, i)))


@rows_kernel
def multiply_dense(inverse, b, x):  # type: ignore[no-untyped-def]
    """Write `x ← inverse @ b`."""
    for i in range(len(x)):
        total = zeros(b)
        for k in range(len(b)):
            total = add_scaled(total, inverse[i, k], load(b, k))
        store(x, i, total)


@rows_kernel
def apply_direction(start, stop, bounds, indptr, indices, data, d, y, r, one, two):  # type: ignore[no-untyped-def]
    """Write `y ← A d` in float64; `one[block]` gets `⟨d, y⟩` of each column, `two[block]` gets `⟨d, r⟩`."""
    for block in range(start, stop):
        curvature, projection = zeros(r), zeros(r)
        for i in range(bounds[block], bounds[block + 1]):
            total = zeros(r)
            for k in range(indptr[i], indptr[i + ONE]):
                total = add_scaled(total, data[k], widen(load(d, indices[k])))
            store(y, i, total)
            own = widen(load(d, i))
            curvature = add_scaled(curvature, total, own)
            projection = add_scaled(projection, own, load(r, i))
        store(one, block, curvature)
        store(two, block, projection)


@rows_kernel
def sum_conjugations(start, stop, bounds, z, first, second, one, two):  # type: ignore[no-untyped-def]
    """Write `⟨z, first⟩` of each column to `one[block]` and `⟨z, second⟩` to `two[block]`."""
    for block in range(start, stop):
        along, before = zeros(one), zeros(one)
        for i in range(bounds[block], bounds[block + 1]):
            own = widen(load(z, i))
            along = add_scaled(along, own, load(first, i))
            before = add_scaled(before, own, load(second, i))
        store(one, block, along)
        store(two, block, before)


@rows_kernel
def make_conjugate(start, stop, bounds, z, factors, p, d):  # type: ignore[no-untyped-def]
    """Write `d ← z + factors[0]·p + factors[1]·d`, with factors for each column, float32."""
    one, two = load(factors, 0), load(factors, 1)
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            store(d, i, add_scaled(add_scaled(load(z, i), one, load(p, i)), two, load(d, i)))


@rows_kernel
def take_step(start, stop, bounds, factors, d, y, x, r, shortened, one, two):  # type: ignore[no-untyped-def]
    """Write `x ← x + α d`, `r ← r − α y`, `shortened ← β r` by columns, with `factors` α, −α and β; `one[block]` gets
    `⟨r, r⟩` of each column."""
    alpha, less, scale = load(factors, 0), load(factors, 1), load(factors, 2)
    for block in range(start, stop):
        square = zeros(r)
        for i in range(bounds[block], bounds[block + 1]):
            store(x, i, add_scaled(load(x, i), alpha, widen(load(d, i))))
            value = add_scaled(load(r, i), less, load(y, i))
            store(r, i, value)
            store(shortened, i, narrow(multiply(value, scale)))
            square = add_scaled(square, value, value)
        store(one, block, square)
        store(two, block, square)
