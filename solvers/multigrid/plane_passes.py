"""The steps of the fused V-cycle on one plane of a level: compiled parts of `passes`, which describes the arrays.

The rows of a plane stand end to end, `n1` rows of `n2` cells, so that one loop goes over several of them. What crosses
from one row to the next in such a loop is corrected at the ends of the rows.
"""

# Indices are unsigned in some loops (a signed one might count from the end) and signed in others.
# mypy: disable-error-code="assignment"
from __future__ import annotations

import numpy as np

from relaxon.solvers.grid.plane_kernels import row_of
from relaxon.solvers.kernels.compiled import ONE, part

F0 = np.float32(0.0)
FIRST = np.int64(0)
"""Not a literal, for which a function that is called with it would be compiled once more."""
BLOCK = 2048
"""Cells that are smoothed together: their two sums, 16 KiB, stay in a core's first-level cache."""


@part
def sum_planes(a, b, out):  # type: ignore[no-untyped-def]
    """`out ← a + b`."""
    for cell in range(out.size):
        k = np.uint64(cell)
        out[k] = a[k] + b[k]


@part
def rows_together(j, rows, n1):  # type: ignore[no-untyped-def]
    """Return how many rows from `j` on are worked on together: one at a side, else up to `rows`."""
    if j == 0 or j == n1 - 1:
        return 1
    return rows if rows < n1 - 1 - j else n1 - 1 - j


@part
def mix_rows(y, pair, j, taken, n1, n2, wrap, zero, stencil, u, v):  # type: ignore[no-untyped-def]
    """`u`, `v` with `K y = u + v(k − 1) + v(k + 1)` for `taken` rows from `j` on; one where a row is at a side.

    `pair` is the sum of the planes beside `y`; `v` is padded by one cell at either end. `stencil` (2, 4): the constants
    within a plane across the last axis, in the order centre, second axis, first axis, both; and those one step along
    the last axis. What crosses from one row to the next is put right by the caller.
    """
    c0, c1, c2, c3 = stencil[0, 0], stencil[0, 1], stencil[0, 2], stencil[0, 3]
    e0, e1, e2, e3 = stencil[1, 0], stencil[1, 1], stencil[1, 2], stencil[1, 3]
    length, first = np.uint64(n2), np.uint64(j * n2)
    if j == 0 or j == n1 - 1:
        near, far = row_of(y, j - 1, n1, n2, wrap[1], zero), row_of(y, j + 1, n1, n2, wrap[1], zero)
        near_pair, far_pair = row_of(pair, j - 1, n1, n2, wrap[1], zero), row_of(pair, j + 1, n1, n2, wrap[1], zero)
        for cell in range(n2):
            k = np.uint64(cell)
            q = first + k
            beside = near[k] + far[k]
            diagonal = near_pair[k] + far_pair[k]
            u[k] = c0 * y[q] + c1 * beside + c2 * pair[q] + c3 * diagonal
            v[k + ONE] = e0 * y[q] + e1 * beside + e2 * pair[q] + e3 * diagonal
        return
    for cell in range(taken * n2):
        k = np.uint64(cell)
        q = first + k
        beside = y[q - length] + y[q + length]
        diagonal = pair[q - length] + pair[q + length]
        u[k] = c0 * y[q] + c1 * beside + c2 * pair[q] + c3 * diagonal
        v[k + ONE] = e0 * y[q] + e1 * beside + e2 * pair[q] + e3 * diagonal


@part
def smoothed_plane(coded, r, pair, n1, n2, wrap, zero, stencil, codes, unit, m, ends, u, v, x):  # type: ignore[no-untyped-def]
    """`x ← m ⊙ (K r)` on a plane, `m` in whole `codes` times `unit` where `coded`; `u` has room for several rows, `v`
    for two cells more, `ends` for twice as many cells as rows.

    A cell of `x` is written once: another thread may be making the same plane, and the thread that asked for it be
    reading it already.
    """
    last = n2 - 1
    rows = u.size // n2
    j = FIRST
    while j < n1:
        taken = rows_together(j, rows, n1)
        count = taken * n2
        mix_rows(r, pair, j, taken, n1, n2, wrap, zero, stencil, u, v)
        for q in range(taken):
            low, high = q * n2, q * n2 + last
            below = v[high + 1] if wrap[2] else F0
            above = v[low + 1] if wrap[2] else F0
            ends[2 * q] = u[low] + (below + (v[low + 2] if n2 > 1 else above))
            ends[2 * q + 1] = u[high] + ((v[high] if n2 > 1 else below) + above)
        for cell in range(count):
            k = np.uint64(cell)
            u[k] += v[k] + v[k + ONE + ONE]
        for q in range(taken):
            u[q * n2], u[q * n2 + last] = ends[2 * q], ends[2 * q + 1]
        first = np.uint64(j * n2)
        if coded:
            for cell in range(count):
                k = np.uint64(cell)
                x[first + k] = unit * np.float32(codes[first + k]) * u[k]
        else:
            for cell in range(count):
                k = np.uint64(cell)
                x[first + k] = m[first + k] * u[k]
        j += taken


@part
def corrected_plane(coded, x, t, pair, n1, n2, wrap, zero, stencil, codes, d, u, v, z):  # type: ignore[no-untyped-def]
    """`z ← x + K t` where there are unknowns (`codes ≠ 0` where `coded`, else `d ≠ 0`); `x` is 0 elsewhere."""
    last = n2 - 1
    rows = u.size // n2
    j = FIRST
    while j < n1:
        taken = rows_together(j, rows, n1)
        start, count = j * n2, taken * n2
        mix_rows(t, pair, j, taken, n1, n2, wrap, zero, stencil, u, v)
        first = np.uint64(start)
        if coded:
            for cell in range(count):
                k = np.uint64(cell)
                value = x[first + k] + (u[k] + (v[k] + v[k + ONE + ONE]))
                z[first + k] = value if codes[first + k] != 0 else F0
        else:
            for cell in range(count):
                k = np.uint64(cell)
                value = x[first + k] + (u[k] + (v[k] + v[k + ONE + ONE]))
                z[first + k] = value if d[first + k] != 0 else F0
        for q in range(taken):
            low, high = q * n2, q * n2 + last
            below = v[high + 1] if wrap[2] else F0
            above = v[low + 1] if wrap[2] else F0
            at_low = below + (v[low + 2] if n2 > 1 else above)
            at_high = (v[high] if n2 > 1 else below) + above
            # A cell that is no unknown holds 0 by now.
            if codes[start + low] != 0 if coded else d[start + low] != 0:
                z[start + low] = x[start + low] + (u[low] + at_low)
            if codes[start + high] != 0 if coded else d[start + high] != 0:
                z[start + high] = x[start + high] + (u[high] + at_high)
        j += taken


@part
def coded_residual_plane(below, x, above, r, d, w, n1, n2, wrap, zero, factor, unit, t):  # type: ignore[no-untyped-def]
    """`t ← factor ⊙ (r − A x)` on a plane of a coded level, `factor` in whole multiples of `unit`."""
    last = n2 - 1
    w0, w1, w2 = w[0], w[1], w[2]
    length = np.uint64(n2)
    for cell in range((n1 - 2) * n2):
        q = length + np.uint64(cell)
        value = r[q] - np.float32(d[q]) * x[q] + w0 * (below[q] + above[q])
        value += w1 * (x[q - length] + x[q + length]) + w2 * (x[q - ONE] + x[q + ONE])
        t[q] = unit * np.float32(factor[q]) * value
    # The ends of these rows have taken a neighbour from another row.
    for j in range(1, n1 - 1):
        for end in range(2):
            q = np.uint64(j * n2 + end * last)
            if end == 0:
                low = x[q + np.uint64(last)] if wrap[2] else F0
                high = x[q + ONE] if n2 > 1 else low
            else:
                low = x[q - ONE] if n2 > 1 else (x[q] if wrap[2] else F0)
                high = x[q - np.uint64(last)] if wrap[2] else F0
            value = r[q] - np.float32(d[q]) * x[q] + w0 * (below[q] + above[q])
            value += w1 * (x[q - length] + x[q + length]) + w2 * (low + high)
            t[q] = unit * np.float32(factor[q]) * value
    for j in range(0, n1, n1 - 1 if n1 > 1 else 1):
        first = np.uint64(j * n2)
        near, far = row_of(x, j - 1, n1, n2, wrap[1], zero), row_of(x, j + 1, n1, n2, wrap[1], zero)
        for cell in range(n2):
            k = np.uint64(cell)
            q = first + k
            t[q] = w0 * (below[q] + above[q]) + w1 * (near[k] + far[k])
        for cell in range(n2 - 2):
            q = first + np.uint64(cell) + ONE
            t[q] += w2 * (x[q - ONE] + x[q + ONE])
        end = first + np.uint64(last)
        around_low, around_high = (x[end], x[first]) if wrap[2] else (F0, F0)
        t[first] += w2 * around_low
        t[end] += w2 * around_high
        if n2 > 1:
            t[first] += w2 * x[first + ONE]
            t[end] += w2 * x[end - ONE]
        for cell in range(n2):
            q = first + np.uint64(cell)
            t[q] = unit * np.float32(factor[q]) * (t[q] + r[q] - np.float32(d[q]) * x[q])


@part
def residual_plane(below, x, above, r, d, lower0, upper0, lower1, lower2, n1, n2, wrap, factor, t):  # type: ignore[no-untyped-def]
    """`t ← factor ⊙ (r − A x)` on a plane; `lower0`, `upper0` are the couplings to the planes below and above."""
    last = n2 - 1
    size, length = n1 * n2, np.uint64(n2)
    for cell in range(size):
        q = np.uint64(cell)
        t[q] = r[q] - d[q] * x[q]
    for cell in range(size):
        q = np.uint64(cell)
        t[q] += lower0[q] * below[q] + upper0[q] * above[q]
    for cell in range(size - n2):
        q = np.uint64(cell)
        t[q] += lower1[q + length] * x[q + length]
    for cell in range(size - n2):
        q = np.uint64(cell)
        t[q + length] += lower1[q + length] * x[q]
    # `lower2` is 0 at the start of a row unless the axis is periodic, which is then put right.
    for cell in range(size - 1):
        q = np.uint64(cell)
        t[q] += lower2[q + ONE] * x[q + ONE]
    for cell in range(size - 1):
        q = np.uint64(cell)
        t[q + ONE] += lower2[q + ONE] * x[q]
    if wrap[1]:
        end = np.uint64(size - n2)
        for cell in range(n2):
            k = np.uint64(cell)
            t[k] += lower1[k] * x[end + k]
            t[end + k] += lower1[k] * x[k]
    if wrap[2]:
        for j in range(n1):
            low = j * n2
            around = lower2[low]
            t[low] += around * (x[low + last] - (x[low - 1] if j > 0 else F0))
            t[low + last] += around * x[low]
            if j > 0:
                t[low - 1] -= around * x[low]
    for cell in range(size):
        q = np.uint64(cell)
        t[q] *= factor[q]


@part
def gathered_plane(planes, first, weights, base, table, n1, n2, m2, halved2, pads, gain, line, mixed, out):  # type: ignore[no-untyped-def]
    """`out ← gain ⊙ Pᵀ t`: a coarse plane from up to four fine ones, plane `p` of which is `planes[p % 4]`.

    `base` (m1,), `table` (m1, 4): the first of the fine rows that a coarse row gathers, and their weights. `line` is a
    row with one cell more at the front and two at the back; `pads` says what those hold (see `TransferTables`).
    """
    a, b = planes[first % 4], planes[(first + 1) % 4]
    c, e = planes[(first + 2) % 4], planes[(first + 3) % 4]
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    for cell in range(n1 * n2):
        k = np.uint64(cell)
        mixed[k] = w0 * a[k] + w1 * b[k] + w2 * c[k] + w3 * e[k]
    quarter, most = np.float32(0.25), np.float32(0.75)
    two, three = np.uint64(2), np.uint64(3)
    for j in range(base.size):
        w0, w1, w2, w3 = table[j, 0], table[j, 1], table[j, 2], table[j, 3]
        row = base[j]
        a0, b0 = np.uint64(row % n1 * n2), np.uint64((row + 1) % n1 * n2)
        c0, e0 = np.uint64((row + 2) % n1 * n2), np.uint64((row + 3) % n1 * n2)
        for cell in range(n2):
            k = np.uint64(cell)
            line[k + ONE] = w0 * mixed[a0 + k] + w1 * mixed[b0 + k] + w2 * mixed[c0 + k] + w3 * mixed[e0 + k]
        to = np.uint64(j * m2)
        if halved2:
            line[0] = pads[0] * line[n2]
            line[n2 + 1] = pads[1] * line[1]
            line[n2 + 2] = F0
            for cell in range(m2):
                k = np.uint64(cell)
                q = k + k
                ends = line[q] + line[q + three]
                out[to + k] = gain[to + k] * (quarter * ends + most * (line[q + ONE] + line[q + two]))
        else:
            for cell in range(m2):
                k = np.uint64(cell)
                out[to + k] = gain[to + k] * line[k + ONE]


@part
def mix_coarse_planes(p, coarse, gain, targets, weights, mixed):  # type: ignore[no-untyped-def]
    """`mixed ← ` fine plane `p` of `gain ⊙ coarse` interpolated along the first axis.

    `targets` (2, n): the coarse plane that holds each fine one and the other that it takes from; `weights` (2, n) what
    it takes of each.
    """
    own, other = targets[0, p], targets[1, p]
    a, b, g, h = coarse[own], coarse[other], gain[own], gain[other]
    near, far = weights[0, p], weights[1, p]
    for cell in range(mixed.size):
        k = np.uint64(cell)
        mixed[k] = near * (g[k] * a[k]) + far * (h[k] * b[k])


@part
def spread_row(j, mixed, targets, weights, halved2, wrap2, m2, line, row):  # type: ignore[no-untyped-def]
    """`row ← ` fine row `j` of the coarse plane `mixed`, interpolated along the other two axes; `line` (m2 + 2,)."""
    n2 = row.size
    a0, b0 = np.uint64(targets[0, j] * m2), np.uint64(targets[1, j] * m2)
    near, far = weights[0, j], weights[1, j]
    for cell in range(m2):
        k = np.uint64(cell)
        line[k + ONE] = near * mixed[a0 + k] + far * mixed[b0 + k]
    if not halved2:
        for cell in range(n2):
            k = np.uint64(cell)
            row[k] = line[k + ONE]
        return
    line[0] = line[m2] if wrap2 else F0
    line[m2 + 1] = line[1] if wrap2 else F0
    quarter, most = np.float32(0.25), np.float32(0.75)
    for cell in range(n2 // 2):
        k = np.uint64(cell)
        own = most * line[k + ONE]
        row[k + k] = own + quarter * line[k]
        row[k + k + ONE] = own + quarter * line[k + np.uint64(2)]
    if n2 % 2 == 1:
        half = n2 // 2
        row[n2 - 1] = most * line[half + 1] + quarter * line[half]
