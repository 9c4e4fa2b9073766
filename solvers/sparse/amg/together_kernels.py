"""Kernels of four right-hand sides at once: what is read of the matrix is used four times.

Vectors are `(n, 4)`: the four numbers of a row stand side by side, so that one instruction does for all of them what
`cycle_kernels` does for one. Each column's numbers are those that it would get beside any others.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.compiled import plain
from relaxon.solvers.sparse.amg.levels_kernels import rows_kernel

ONE = np.uint32(1)
WIDTH = 4
"""Columns: 128 bits of float32, and 256 of float64."""


@rows_kernel
def forward(start, stop, bounds, begin, end, c, v, inverse, excess, b, x, left):  # type: ignore[no-untyped-def]
    """One sweep forwards from `x = 0`; `left ← b − A x`, but for what lies outside the block."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            s, t, u, w = b[i, 0], b[i, 1], b[i, 2], b[i, 3]
            for k in range(begin[i], end[i]):
                j, value = c[k], v[k]
                s -= value * x[j, 0]
                t -= value * x[j, 1]
                u -= value * x[j, 2]
                w -= value * x[j, 3]
            own, more = inverse[i], excess[i]
            s, t, u, w = s * own, t * own, u * own, w * own
            x[i, 0], x[i, 1], x[i, 2], x[i, 3] = s, t, u, w
            left[i, 0], left[i, 1], left[i, 2], left[i, 3] = more * s, more * t, more * u, more * w
            for k in range(begin[i], end[i]):
                j, value = c[k], v[k]
                left[j, 0] -= value * s
                left[j, 1] -= value * t
                left[j, 2] -= value * u
                left[j, 3] -= value * w


@rows_kernel
def backward(start, stop, bounds, begin, end, c, v, inverse, excess, b, x, beside):  # type: ignore[no-untyped-def]
    """One sweep backwards; `beside` begins as what lies outside the block makes of `x`, and is written to."""
    for block in range(start, stop):
        lo, i = bounds[block], bounds[block + 1]
        while i > lo:
            i -= ONE
            more, own = excess[i], inverse[i]
            s, t = b[i, 0] + more * x[i, 0], b[i, 1] + more * x[i, 1]
            u, w = b[i, 2] + more * x[i, 2], b[i, 3] + more * x[i, 3]
            for k in range(begin[i], end[i]):
                j, value = c[k], v[k]
                s -= value * x[j, 0]
                t -= value * x[j, 1]
                u -= value * x[j, 2]
                w -= value * x[j, 3]
            s, t = (s - beside[i, 0]) * own, (t - beside[i, 1]) * own
            u, w = (u - beside[i, 2]) * own, (w - beside[i, 3]) * own
            x[i, 0], x[i, 1], x[i, 2], x[i, 3] = s, t, u, w
            k = end[i]
            while k > begin[i]:
                k -= ONE
                j, value = c[k], v[k]
                beside[j, 0] += value * s
                beside[j, 1] += value * t
                beside[j, 2] += value * u
                beside[j, 3] += value * w


@rows_kernel
def image(start, stop, bounds, begin, end, c, v, sums, x, y):  # type: ignore[no-untyped-def]
    """`y ← A x`, but for what lies outside the block, by the row sums and `x_j − x_i`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            one, two, three, four = x[i, 0], x[i, 1], x[i, 2], x[i, 3]
            total = sums[i]
            s, t, u, w = total * one, total * two, total * three, total * four
            for k in range(begin[i], end[i]):
                j, value = c[k], v[k]
                a, b = value * (x[j, 0] - one), value * (x[j, 1] - two)
                d, e = value * (x[j, 2] - three), value * (x[j, 3] - four)
                s, t, u, w = s + a, t + b, u + d, w + e
                y[j, 0] -= a
                y[j, 1] -= b
                y[j, 2] -= d
                y[j, 3] -= e
            y[i, 0], y[i, 1], y[i, 2], y[i, 3] = s, t, u, w


@rows_kernel
def across(start, stop, bounds, rows, begin, end, c, v, factor, level, x, y):  # type: ignore[no-untyped-def]
    """`y ← y + factor·B x`, `B` the entries between blocks: `c[begin[m]:end[m]]` of row `rows[m]`. With `level` 1 of
    `x_j − x_i`, as `image` does, with 0 of `x_j`."""
    for block in range(start, stop):
        for m in range(bounds[block], bounds[block + 1]):
            i = rows[m]
            for k in range(begin[m], end[m]):
                j, value = c[k], v[k] * factor
                for q in range(4):
                    y[i, q] += value * (x[j, q] - level * x[i, q])


@rows_kernel
def summed(start, stop, bounds, offsets, left, group, coarse):  # type: ignore[no-untyped-def]
    """`coarse ← Pᵀ left` of aggregates."""
    for block in range(start, stop):
        for g in range(offsets[block], offsets[block + 1]):
            for q in range(4):
                coarse[g, q] = 0
        for i in range(bounds[block], bounds[block + 1]):
            if group[i] >= 0:
                for q in range(4):
                    coarse[np.uint32(group[i]), q] += left[i, q]


@rows_kernel
def spread(start, stop, bounds, group, factor, coarse, x, beside):  # type: ignore[no-untyped-def]
    """`x ← x + factor·P coarse` of aggregates, and `beside ← 0`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            for q in range(4):
                if group[i] >= 0:
                    x[i, q] += factor * coarse[np.uint32(group[i]), q]
                beside[i, q] = 0


@rows_kernel
def added(start, stop, bounds, begin, end, c, v, factor, keep, x, y):  # type: ignore[no-untyped-def]
    """`y ← keep·y + factor·C x` of a matrix's rows `c[begin[i]:end[i]]`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            s, t, u, w = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for k in range(begin[i], end[i]):
                j, value = c[k], v[k]
                s += value * x[j, 0]
                t += value * x[j, 1]
                u += value * x[j, 2]
                w += value * x[j, 3]
            y[i, 0] = keep * y[i, 0] + factor * s
            y[i, 1] = keep * y[i, 1] + factor * t
            y[i, 2] = keep * y[i, 2] + factor * u
            y[i, 3] = keep * y[i, 3] + factor * w


@rows_kernel
def dense_product(inverse, b, x):  # type: ignore[no-untyped-def]
    """`x ← inverse @ b`."""
    for i in range(len(x)):
        s, t, u, w = 0.0, 0.0, 0.0, 0.0
        for k in range(len(b)):
            value = inverse[i, k]
            s += value * b[k, 0]
            t += value * b[k, 1]
            u += value * b[k, 2]
            w += value * b[k, 3]
        x[i, 0], x[i, 1], x[i, 2], x[i, 3] = s, t, u, w


@rows_kernel
def searched(start, stop, bounds, indptr, indices, data, d, y, r, parts):  # type: ignore[no-untyped-def]
    """`y ← A d` in float64; `parts[block]` gets `⟨d, y⟩` of each column, then `⟨d, r⟩`."""
    for block in range(start, stop):
        for q in range(8):
            parts[block, q] = 0.0
        for i in range(bounds[block], bounds[block + 1]):
            s, t, u, w = 0.0, 0.0, 0.0, 0.0
            for k in range(indptr[i], indptr[i + ONE]):
                j, value = indices[k], data[k]
                s += value * d[j, 0]
                t += value * d[j, 1]
                u += value * d[j, 2]
                w += value * d[j, 3]
            y[i, 0], y[i, 1], y[i, 2], y[i, 3] = s, t, u, w
            for q in range(4):
                parts[block, q] += y[i, q] * d[i, q]
                parts[block, 4 + q] += d[i, q] * r[i, q]


@plain
def conjugated(start, stop, bounds, z, one, two, parts):  # type: ignore[no-untyped-def]
    """`parts[block]` gets `⟨z, one⟩` of each column, then `⟨z, two⟩`: the images of the last two directions."""
    for block in range(start, stop):
        for q in range(8):
            parts[block, q] = 0.0
        for i in range(bounds[block], bounds[block + 1]):
            for q in range(4):
                parts[block, q] += z[i, q] * one[i, q]
                parts[block, 4 + q] += z[i, q] * two[i, q]


@plain
def directed(start, stop, bounds, z, one, p, two, d):  # type: ignore[no-untyped-def]
    """`d ← z − one·p − two·d`, a factor for each column."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            for q in range(4):
                d[i, q] = z[i, q] - one[q] * p[i, q] - two[q] * d[i, q]


@plain
def stepped(start, stop, bounds, alpha, d, y, x, r, scale, short, parts):  # type: ignore[no-untyped-def]
    """`x ← x + alpha·d`, `r ← r − alpha·y`, `short ← scale·r` by columns; `parts[block]` gets `⟨r, r⟩` of each."""
    for block in range(start, stop):
        for q in range(4):
            parts[block, q] = 0.0
        for i in range(bounds[block], bounds[block + 1]):
            for q in range(4):
                x[i, q] += alpha[q] * d[i, q]
                value = r[i, q] - alpha[q] * y[i, q]
                r[i, q] = value
                short[i, q] = scale[q] * value
                parts[block, q] += value * value
