"""Kernels of eight right-hand sides at once: what is read of the matrix is used eight times.

Vectors are `(n, 8)`: the eight numbers of a row stand side by side, so that one instruction does for all of them what
`cycle_kernels` does for one. Each column's numbers are those that it would get beside any others.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.sparse.amg.lane_kernels import load, nothing, plus, short, store, times, wide
from relaxon.solvers.sparse.amg.levels_kernels import rows_kernel

ONE = np.uint32(1)


@rows_kernel
def forward(start, stop, bounds, begin, end, c, v, inverse, excess, b, x, left):  # type: ignore[no-untyped-def]
    """One sweep forwards from `x = 0`; `left ← b − A x`, but for what lies outside the block."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            total = load(b, i)
            for k in range(begin[i], end[i]):
                total = plus(total, -v[k], load(x, c[k]))
            own = times(total, inverse[i])
            store(x, i, own)
            store(left, i, times(own, excess[i]))
            for k in range(begin[i], end[i]):
                store(left, c[k], plus(load(left, c[k]), -v[k], own))


@rows_kernel
def backward(start, stop, bounds, begin, end, c, v, inverse, excess, b, x, beside):  # type: ignore[no-untyped-def]
    """One sweep backwards; `beside` begins as what lies outside the block makes of `x`, and is written to."""
    for block in range(start, stop):
        lo, i = bounds[block], bounds[block + 1]
        while i > lo:
            i -= ONE
            total = plus(load(b, i), excess[i], load(x, i))
            for k in range(begin[i], end[i]):
                total = plus(total, -v[k], load(x, c[k]))
            own = times(plus(total, np.float32(-1), load(beside, i)), inverse[i])
            store(x, i, own)
            k = end[i]
            while k > begin[i]:
                k -= ONE
                store(beside, c[k], plus(load(beside, c[k]), v[k], own))


@rows_kernel
def image(start, stop, bounds, begin, end, c, v, sums, x, y):  # type: ignore[no-untyped-def]
    """`y ← A x`, but for what lies outside the block, by the row sums and `x_j − x_i`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            own = load(x, i)
            total = times(own, sums[i])
            for k in range(begin[i], end[i]):
                difference = plus(load(x, c[k]), np.float32(-1), own)
                total = plus(total, v[k], difference)
                store(y, c[k], plus(load(y, c[k]), -v[k], difference))
            store(y, i, total)


@rows_kernel
def across(start, stop, bounds, rows, begin, end, c, v, factor, level, x, y):  # type: ignore[no-untyped-def]
    """`y ← y + factor·B x`, `B` the entries between blocks: `c[begin[m]:end[m]]` of row `rows[m]`. With `level` 1 of
    `x_j − x_i`, as `image` does, with 0 of `x_j`."""
    for block in range(start, stop):
        for m in range(bounds[block], bounds[block + 1]):
            own = load(x, rows[m])
            total = nothing(x)
            for k in range(begin[m], end[m]):
                total = plus(total, v[k], plus(load(x, c[k]), -level, own))
            store(y, rows[m], plus(load(y, rows[m]), factor, total))


@rows_kernel
def summed(start, stop, bounds, offsets, left, group, coarse):  # type: ignore[no-untyped-def]
    """`coarse ← Pᵀ left` of aggregates."""
    for block in range(start, stop):
        for g in range(offsets[block], offsets[block + 1]):
            store(coarse, g, nothing(coarse))
        for i in range(bounds[block], bounds[block + 1]):
            if group[i] >= 0:
                own = np.uint32(group[i])
                store(coarse, own, plus(load(coarse, own), np.float32(1), load(left, i)))


@rows_kernel
def spread(start, stop, bounds, group, factor, coarse, x, beside):  # type: ignore[no-untyped-def]
    """`x ← x + factor·P coarse` of aggregates, and `beside ← 0`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            if group[i] >= 0:
                store(x, i, plus(load(x, i), factor, load(coarse, np.uint32(group[i]))))
            store(beside, i, nothing(beside))


@rows_kernel
def added(start, stop, bounds, begin, end, c, v, factor, x, y):  # type: ignore[no-untyped-def]
    """`y ← y + factor·C x` of a matrix's rows `c[begin[i]:end[i]]`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            total = nothing(x)
            for k in range(begin[i], end[i]):
                total = plus(total, v[k], load(x, c[k]))
            store(y, i, plus(load(y, i), factor, total))


@rows_kernel
def combined(start, stop, bounds, one, z, two, w, x):  # type: ignore[no-untyped-def]
    """`x ← one·z + two·w`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            store(x, i, plus(times(load(z, i), one), two, load(w, i)))


@rows_kernel
def dense_product(inverse, b, x):  # type: ignore[no-untyped-def]
    """`x ← inverse @ b`."""
    for i in range(len(x)):
        total = nothing(b)
        for k in range(len(b)):
            total = plus(total, inverse[i, k], load(b, k))
        store(x, i, total)


@rows_kernel
def searched(start, stop, bounds, indptr, indices, data, d, y, r, one, two):  # type: ignore[no-untyped-def]
    """`y ← A d` in float64; `one[block]` gets `⟨d, y⟩` of each column, `two[block]` gets `⟨d, r⟩`."""
    for block in range(start, stop):
        curvature, projection = nothing(r), nothing(r)
        for i in range(bounds[block], bounds[block + 1]):
            total = nothing(r)
            for k in range(indptr[i], indptr[i + ONE]):
                total = plus(total, data[k], wide(load(d, indices[k])))
            store(y, i, total)
            own = wide(load(d, i))
            curvature = plus(curvature, total, own)
            projection = plus(projection, own, load(r, i))
        store(one, block, curvature)
        store(two, block, projection)


@rows_kernel
def conjugated(start, stop, bounds, z, first, second, one, two):  # type: ignore[no-untyped-def]
    """`one[block]` gets `⟨z, first⟩` of each column, `two[block]` gets `⟨z, second⟩`."""
    for block in range(start, stop):
        along, before = nothing(one), nothing(one)
        for i in range(bounds[block], bounds[block + 1]):
            own = wide(load(z, i))
            along = plus(along, own, load(first, i))
            before = plus(before, own, load(second, i))
        store(one, block, along)
        store(two, block, before)


@rows_kernel
def directed(start, stop, bounds, z, factors, p, d):  # type: ignore[no-untyped-def]
    """`d ← z + factors[0]·p + factors[1]·d`, factors for each column, float32."""
    one, two = load(factors, 0), load(factors, 1)
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            store(d, i, plus(plus(load(z, i), one, load(p, i)), two, load(d, i)))


@rows_kernel
def stepped(start, stop, bounds, factors, d, y, x, r, shortened, one, two):  # type: ignore[no-untyped-def]
    """`x ← x + α d`, `r ← r − α y`, `shortened ← β r` by columns, `factors` being α, −α and β; `one[block]` gets
    `⟨r, r⟩` of each."""
    alpha, less, scale = load(factors, 0), load(factors, 1), load(factors, 2)
    for block in range(start, stop):
        square = nothing(r)
        for i in range(bounds[block], bounds[block + 1]):
            store(x, i, plus(load(x, i), alpha, wide(load(d, i))))
            value = plus(load(r, i), less, load(y, i))
            store(r, i, value)
            store(shortened, i, short(times(value, scale)))
            square = plus(square, value, value)
        store(one, block, square)
        store(two, block, square)
