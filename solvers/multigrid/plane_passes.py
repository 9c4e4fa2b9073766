"""What the fused V-cycle does to one plane of a level: compiled parts of `passes`, which says what the arrays are.

Rows are put end to end where one loop can go over several of them; what then crosses from one row to the next is put
right at the rows' ends.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.plane_kernels import row_of
from relaxon.solvers.stencil_kernels import ONE, plain

F0 = np.float32(0.0)
BLOCK = 2048
"""Cells that are smoothed together: their two sums, 16 KiB, stay in a core's first cache."""


@plain
def sum_planes(a, b, out):  # type: ignore[no-untyped-def]
    """`out ← a + b`."""
    a_flat, b_flat, o_flat = a.reshape(-1), b.reshape(-1), out.reshape(-1)
    for cell in range(o_flat.size):
        k = np.uint64(cell)
        o_flat[k] = a_flat[k] + b_flat[k]


@plain
def _mixed_rows(y, pair, start, count, n2, inner, outer, u, v):  # type: ignore[no-untyped-def]
    """`u`, `v` with `K y = u + v(k − 1) + v(k + 1)` for `count` cells from `start` on in rows with both neighbours.

    `y` and `pair`, the sum of the planes beside it, are flat, so that one loop goes over several rows; `v` is padded by
    one cell at either end. What crosses from one row to the next is put right by the caller.
    """
    c0, c1, c2, c3 = inner[0], inner[1], inner[2], inner[3]
    e0, e1, e2, e3 = outer[0], outer[1], outer[2], outer[3]
    length, first = np.uint64(n2), np.uint64(start)
    for cell in range(count):
        k = np.uint64(cell)
        q = first + k
        beside = y[q - length] + y[q + length]
        diagonal = pair[q - length] + pair[q + length]
        u[k] = c0 * y[q] + c1 * beside + c2 * pair[q] + c3 * diagonal
        v[k + ONE] = e0 * y[q] + e1 * beside + e2 * pair[q] + e3 * diagonal


@plain
def _mixed_edge_row(y, pair, j, wrap1, zero, inner, outer, u, v):  # type: ignore[no-untyped-def]
    """`_mixed_rows` for one row at a side of the domain."""
    n2 = zero.size
    near, far = row_of(y, j - 1, wrap1, zero), row_of(y, j + 1, wrap1, zero)
    near_beside, far_beside = row_of(pair, j - 1, wrap1, zero), row_of(pair, j + 1, wrap1, zero)
    centre, beside = y[j], pair[j]
    for k in range(n2):
        one, two = near[k] + far[k], near_beside[k] + far_beside[k]
        u[k] = inner[0] * centre[k] + inner[1] * one + inner[2] * beside[k] + inner[3] * two
        v[k + 1] = outer[0] * centre[k] + outer[1] * one + outer[2] * beside[k] + outer[3] * two


@plain
def _block(j, rows, n1, n2):  # type: ignore[no-untyped-def]
    """How many rows from `j` on are worked on together: one at a side, else up to `rows`."""
    if j == 0 or j == n1 - 1:
        return 1
    return min(rows, n1 - 1 - j)


@plain
def smoothed_plane(r, pair, wrap1, wrap2, zero, inner, outer, m, m_unit, u, v, x):  # type: ignore[no-untyped-def]
    """`x ← m ⊙ (K r)` on a plane; `u` has room for several rows, `v` for two cells more.

    A cell of `x` is written once: another thread may be making the same plane, and the thread that asked for it be
    reading it already.
    """
    n1, n2 = x.shape
    last = n2 - 1
    rows = max(u.size // n2, 1)
    r_flat, pair_flat, m_flat, x_flat = r.reshape(-1), pair.reshape(-1), m.reshape(-1), x.reshape(-1)
    ends = np.empty((rows, 2), np.float32)
    j = 0
    while j < n1:
        taken = _block(j, rows, n1, n2)
        start, count = j * n2, taken * n2
        if j == 0 or j == n1 - 1:
            _mixed_edge_row(r, pair, j, wrap1, zero, inner, outer, u, v)
        else:
            _mixed_rows(r_flat, pair_flat, start, count, n2, inner, outer, u, v)
        for q in range(taken):
            low, high = q * n2, q * n2 + last
            below = v[high + 1] if wrap2 else F0
            above = v[low + 1] if wrap2 else F0
            ends[q, 0] = u[low] + (below + (v[low + 2] if n2 > 1 else above))
            ends[q, 1] = u[high] + ((v[high] if n2 > 1 else below) + above)
        for cell in range(count):
            k = np.uint64(cell)
            u[k] += v[k] + v[k + ONE + ONE]
        for q in range(taken):
            u[q * n2], u[q * n2 + last] = ends[q, 0], ends[q, 1]
        first = np.uint64(start)
        for cell in range(count):
            k = np.uint64(cell)
            x_flat[first + k] = m_unit * np.float32(m_flat[first + k]) * u[k]
        j += taken


@plain
def corrected_plane(x, t, pair, wrap1, wrap2, zero, inner, outer, d, u, v, z):  # type: ignore[no-untyped-def]
    """`z ← x + K t` where there are unknowns (`d ≠ 0`), on a plane; `x` is 0 elsewhere."""
    n1, n2 = x.shape
    last = n2 - 1
    rows = max(u.size // n2, 1)
    t_flat, pair_flat, d_flat, x_flat, z_flat = (
        t.reshape(-1), pair.reshape(-1), d.reshape(-1), x.reshape(-1), z.reshape(-1)
    )  # fmt: skip
    j = 0
    while j < n1:
        taken = _block(j, rows, n1, n2)
        start, count = j * n2, taken * n2
        if j == 0 or j == n1 - 1:
            _mixed_edge_row(t, pair, j, wrap1, zero, inner, outer, u, v)
        else:
            _mixed_rows(t_flat, pair_flat, start, count, n2, inner, outer, u, v)
        first = np.uint64(start)
        for cell in range(count):
            k = np.uint64(cell)
            value = x_flat[first + k] + (u[k] + (v[k] + v[k + ONE + ONE]))
            z_flat[first + k] = value if d_flat[first + k] != 0 else F0
        for q in range(taken):
            low, high = q * n2, q * n2 + last
            below = v[high + 1] if wrap2 else F0
            above = v[low + 1] if wrap2 else F0
            at_low = below + (v[low + 2] if n2 > 1 else above)
            at_high = (v[high] if n2 > 1 else below) + above
            z_flat[start + low] = x_flat[start + low] + (u[low] + at_low) if d_flat[start + low] != 0 else F0
            z_flat[start + high] = x_flat[start + high] + (u[high] + at_high) if d_flat[start + high] != 0 else F0
        j += taken


@plain
def coded_residual_plane(below, x, above, r, d, d_unit, w, wrap1, wrap2, zero, factor, unit, t):  # type: ignore[no-untyped-def]
    """`t ← factor ⊙ (r − A x)` on a plane of a coded level."""
    n1, n2 = x.shape
    last = n2 - 1
    w0, w1, w2 = w[0], w[1], w[2]
    a_flat, b_flat, x_flat, r_flat = below.reshape(-1), above.reshape(-1), x.reshape(-1), r.reshape(-1)
    d_flat, f_flat, t_flat = d.reshape(-1), factor.reshape(-1), t.reshape(-1)
    length = np.uint64(n2)
    for cell in range((n1 - 2) * n2):
        q = length + np.uint64(cell)
        value = r_flat[q] - d_unit * np.float32(d_flat[q]) * x_flat[q] + w0 * (a_flat[q] + b_flat[q])
        value += w1 * (x_flat[q - length] + x_flat[q + length]) + w2 * (x_flat[q - ONE] + x_flat[q + ONE])
        t_flat[q] = unit * np.float32(f_flat[q]) * value
    # The ends of these rows have taken a neighbour from another row.
    for j in range(1, n1 - 1):
        for end in range(2):
            q = j * n2 + end * last
            if end == 0:
                low = x_flat[q + last] if wrap2 else F0
                high = x_flat[q + 1] if n2 > 1 else low
            else:
                low = x_flat[q - 1] if n2 > 1 else (x_flat[q] if wrap2 else F0)
                high = x_flat[q - last] if wrap2 else F0
            value = r_flat[q] - d_unit * np.float32(d_flat[q]) * x_flat[q] + w0 * (a_flat[q] + b_flat[q])
            value += w1 * (x_flat[q - n2] + x_flat[q + n2]) + w2 * (low + high)
            t_flat[q] = unit * np.float32(f_flat[q]) * value
    for j in range(0, n1, max(n1 - 1, 1)):
        x_row, near, far = x[j], row_of(x, j - 1, wrap1, zero), row_of(x, j + 1, wrap1, zero)
        t_row, r_row, d_row, f_row, a, b = t[j], r[j], d[j], factor[j], below[j], above[j]
        for cell in range(n2):
            k = np.uint64(cell)
            t_row[k] = w0 * (a[k] + b[k]) + w1 * (near[k] + far[k])
        for cell in range(n2 - 2):
            k = np.uint64(cell) + ONE
            t_row[k] += w2 * (x_row[k - ONE] + x_row[k + ONE])
        around_low, around_high = (x_row[last], x_row[0]) if wrap2 else (F0, F0)
        t_row[0] += w2 * around_low
        t_row[last] += w2 * around_high
        if n2 > 1:
            t_row[0] += w2 * x_row[1]
            t_row[last] += w2 * x_row[last - 1]
        for cell in range(n2):
            k = np.uint64(cell)
            t_row[k] = unit * np.float32(f_row[k]) * (t_row[k] + r_row[k] - d_unit * np.float32(d_row[k]) * x_row[k])


@plain
def residual_plane(  # type: ignore[no-untyped-def]
    below, x, above, r, d, d_unit, lower0, upper0, lower1, lower2, wrap1, wrap2, zero, factor, unit, t
):
    """`t ← factor ⊙ (r − A x)` on a plane; `lower0`, `upper0` are the couplings to the planes below and above."""
    n1, n2 = x.shape
    last = n2 - 1
    a_flat, b_flat, x_flat, r_flat = below.reshape(-1), above.reshape(-1), x.reshape(-1), r.reshape(-1)
    d_flat, f_flat, t_flat = d.reshape(-1), factor.reshape(-1), t.reshape(-1)
    l0, u0, l1, l2 = lower0.reshape(-1), upper0.reshape(-1), lower1.reshape(-1), lower2.reshape(-1)
    size, length = n1 * n2, np.uint64(n2)
    for cell in range(size):
        q = np.uint64(cell)
        t_flat[q] = r_flat[q] - d_unit * np.float32(d_flat[q]) * x_flat[q]
    for cell in range(size):
        q = np.uint64(cell)
        t_flat[q] += l0[q] * a_flat[q] + u0[q] * b_flat[q]
    for cell in range(size - n2):
        q = np.uint64(cell)
        t_flat[q] += l1[q + length] * x_flat[q + length]
    for cell in range(size - n2):
        q = np.uint64(cell)
        t_flat[q + length] += l1[q + length] * x_flat[q]
    # `lower2` is 0 at the start of a row unless the axis is periodic, which is then put right.
    for cell in range(size - 1):
        q = np.uint64(cell)
        t_flat[q] += l2[q + ONE] * x_flat[q + ONE]
    for cell in range(size - 1):
        q = np.uint64(cell)
        t_flat[q + ONE] += l2[q + ONE] * x_flat[q]
    if wrap1:
        t_first, t_last, x_first, x_last, l_first = t[0], t[n1 - 1], x[0], x[n1 - 1], lower1[0]
        for k in range(n2):
            t_first[k] += l_first[k] * x_last[k]
            t_last[k] += l_first[k] * x_first[k]
    if wrap2:
        for j in range(n1):
            around = lower2[j, 0]
            t[j, 0] += around * (x[j, last] - (x[j - 1, last] if j > 0 else F0))
            t[j, last] += around * x[j, 0]
            if j > 0:
                t[j - 1, last] -= around * x[j, 0]
    for cell in range(size):
        q = np.uint64(cell)
        t_flat[q] *= unit * np.float32(f_flat[q])


@plain
def gathered_plane(planes, slots, weights, base, table, halved2, pads, gain, line, mixed, out):  # type: ignore[no-untyped-def]
    """`out ← gain ⊙ Pᵀ t`: a coarse plane from up to four fine ones.

    `base` (m1,), `table` (m1, 4): the first of the fine rows that a coarse row gathers, and their weights. `line` is a
    row with one cell more at the front and two at the back; `pads` says what those hold (see `TransferTables`).
    """
    m1, m2 = out.shape
    n1, n2 = mixed.shape
    a, b = planes[slots[0]].reshape(-1), planes[slots[1]].reshape(-1)
    c, e = planes[slots[2]].reshape(-1), planes[slots[3]].reshape(-1)
    flat = mixed.reshape(-1)
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    for cell in range(n1 * n2):
        k = np.uint64(cell)
        flat[k] = w0 * a[k] + w1 * b[k] + w2 * c[k] + w3 * e[k]
    quarter, most = np.float32(0.25), np.float32(0.75)
    inner = line[1 : n2 + 1]
    for j in range(m1):
        w0, w1, w2, w3 = table[j, 0], table[j, 1], table[j, 2], table[j, 3]
        first = base[j]
        a, b = mixed[first % n1], mixed[(first + 1) % n1]
        c, e = mixed[(first + 2) % n1], mixed[(first + 3) % n1]
        for cell in range(n2):
            k = np.uint64(cell)
            inner[k] = w0 * a[k] + w1 * b[k] + w2 * c[k] + w3 * e[k]
        o_row, g_row = out[j], gain[j]
        if halved2:
            line[0] = pads[0] * inner[n2 - 1]
            line[n2 + 1] = pads[1] * inner[0]
            line[n2 + 2] = F0
            for cell in range(m2):
                k = np.uint64(cell)
                two = k + k
                ends = line[two] + line[two + np.uint64(3)]
                o_row[k] = g_row[k] * (quarter * ends + most * (line[two + ONE] + line[two + np.uint64(2)]))
        else:
            for cell in range(m2):
                k = np.uint64(cell)
                o_row[k] = g_row[k] * inner[k]


@plain
def _spread_row(line, halved2, out):  # type: ignore[no-untyped-def]
    """Interpolate a coarse row, padded with one cell at either end, along itself to the fine row `out`."""
    n2 = out.size
    if not halved2:
        for cell in range(n2):
            k = np.uint64(cell)
            out[k] = line[k + ONE]
        return
    quarter, most = np.float32(0.25), np.float32(0.75)
    for cell in range(n2 // 2):
        k = np.uint64(cell)
        own = most * line[k + ONE]
        out[k + k] = own + quarter * line[k]
        out[k + k + ONE] = own + quarter * line[k + np.uint64(2)]
    if n2 % 2 == 1:
        half = n2 // 2
        out[n2 - 1] = most * line[half + 1] + quarter * line[half]


@plain
def spread_plane(p, coarse, gain, axis0, axis1, halved2, wrap2, mixed, line, row, share, unit, x, out):  # type: ignore[no-untyped-def]
    """`out ← x + share ⊙ P (gain ⊙ coarse)` on fine plane `p`. `axis_a`: own, other, near, far of each fine index."""
    own0, other0, near0, far0 = axis0
    own1, other1, near1, far1 = axis1
    m1, m2 = mixed.shape
    n1, n2 = out.shape
    a, b = coarse[own0[p]], coarse[other0[p]]
    g, h = gain[own0[p]], gain[other0[p]]
    near, far = near0[p], far0[p]
    a_flat, b_flat, g_flat, h_flat, flat = a.reshape(-1), b.reshape(-1), g.reshape(-1), h.reshape(-1), mixed.reshape(-1)
    for cell in range(m1 * m2):
        k = np.uint64(cell)
        flat[k] = near * (g_flat[k] * a_flat[k]) + far * (h_flat[k] * b_flat[k])
    for j in range(n1):
        a_row, b_row, inner = mixed[own1[j]], mixed[other1[j]], line[1 : m2 + 1]
        near, far = near1[j], far1[j]
        for cell in range(m2):
            k = np.uint64(cell)
            inner[k] = near * a_row[k] + far * b_row[k]
        line[0] = inner[m2 - 1] if wrap2 else F0
        line[m2 + 1] = inner[0] if wrap2 else F0
        _spread_row(line, halved2, row)
        s_row, x_row, o_row = share[j], x[j], out[j]
        for cell in range(n2):
            k = np.uint64(cell)
            o_row[k] = x_row[k] + unit * np.float32(s_row[k]) * row[k]
