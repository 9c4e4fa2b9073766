"""Compiled passes of the fused V-cycle: down a level and up again, each reading the level's arrays from memory once.

Arrays are C-contiguous, `(n0, n1, n2)`, float32. A thread takes a run of planes along the first axis and keeps the few
planes that it works on in buffers that stay in its cache; at the ends of its run it computes a plane or two that its
neighbour computes as well, to the same bits. Beyond a side that is not periodic there are zeros.

A level's operator: `(A x)ᵢ = dᵢ xᵢ − Σ (couplings · neighbours)`. Where it is `coded` (the finest level for κ = 1), the
couplings are `w_a` an axis, a neighbour that is no unknown holds 0, and `d`, the multiplier and the share are one byte
a cell, in units given with them; on the other levels they are float32 and the couplings are arrays: `lower_a` to the
cell below.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from relaxon.solvers.stencil_kernels import FAST, ONE, compiled

F0 = np.float32(0.0)
BLOCK = 2048
"""Cells that are smoothed together: their two sums, 16 KiB, stay in a core's first cache."""

plain = njit(nogil=True, cache=True, fastmath=FAST)
"""For parts that run inside one thread."""


@plain
def _plane(array, p, wrap, nothing):  # type: ignore[no-untyped-def]
    """Plane `p` of an array, counted on beyond the sides: around the edge where periodic, else zeros."""
    n = array.shape[0]
    if 0 <= p < n:
        return array[p]
    return array[p % n] if wrap else nothing


@plain
def _row(plane, j, wrap, nothing):  # type: ignore[no-untyped-def]
    n = plane.shape[0]
    if 0 <= j < n:
        return plane[j]
    return plane[j % n] if wrap else nothing


@plain
def _sum_planes(a, b, out):  # type: ignore[no-untyped-def]
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
    near, far = _row(y, j - 1, wrap1, zero), _row(y, j + 1, wrap1, zero)
    near_beside, far_beside = _row(pair, j - 1, wrap1, zero), _row(pair, j + 1, wrap1, zero)
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
def _smoothed_plane(r, pair, wrap1, wrap2, zero, inner, outer, m, m_unit, u, v, x):  # type: ignore[no-untyped-def]
    """`x ← m ⊙ (K r)` on a plane; `u` has room for several rows, `v` for two cells more."""
    n1, n2 = x.shape
    last = n2 - 1
    rows = max(u.size // n2, 1)
    r_flat, pair_flat, m_flat, x_flat = r.reshape(-1), pair.reshape(-1), m.reshape(-1), x.reshape(-1)
    j = 0
    while j < n1:
        taken = _block(j, rows, n1, n2)
        start, count = j * n2, taken * n2
        if j == 0 or j == n1 - 1:
            _mixed_edge_row(r, pair, j, wrap1, zero, inner, outer, u, v)
        else:
            _mixed_rows(r_flat, pair_flat, start, count, n2, inner, outer, u, v)
        first = np.uint64(start)
        for cell in range(count):
            k = np.uint64(cell)
            x_flat[first + k] = m_unit * np.float32(m_flat[first + k]) * (u[k] + (v[k] + v[k + ONE + ONE]))
        for q in range(taken):
            low, high = q * n2, q * n2 + last
            below = v[high + 1] if wrap2 else F0
            above = v[low + 1] if wrap2 else F0
            at_low = below + (v[low + 2] if n2 > 1 else above)
            at_high = (v[high] if n2 > 1 else below) + above
            x_flat[start + low] = m_unit * np.float32(m_flat[start + low]) * (u[low] + at_low)
            x_flat[start + high] = m_unit * np.float32(m_flat[start + high]) * (u[high] + at_high)
        j += taken


@plain
def _corrected_plane(x, t, pair, wrap1, wrap2, zero, inner, outer, d, u, v, z):  # type: ignore[no-untyped-def]
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
def _coded_residual_plane(below, x, above, r, d, d_unit, w, wrap1, wrap2, zero, factor, unit, t):  # type: ignore[no-untyped-def]
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
        x_row, near, far = x[j], _row(x, j - 1, wrap1, zero), _row(x, j + 1, wrap1, zero)
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
def _residual_plane(  # type: ignore[no-untyped-def]
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
def _gathered_plane(planes, slots, weights, base, table, halved2, pads, gain, line, mixed, out):  # type: ignore[no-untyped-def]
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


@plain
def _descend_planes(  # type: ignore[no-untyped-def]
    start, stop, r, x, operator, smoother, wrap, transfer, share, share_unit, gain, coarse
):
    """Coarse planes `start … stop − 1` of `descend`."""
    d, d_unit, w, coded, lower0, lower1, lower2 = operator
    m, m_unit, inner, outer = smoother
    base0, table0, base1, table1, halved2, pads = transfer
    n0, n1, n2 = r.shape
    nothing, zero = np.zeros((n1, n2), np.float32), np.zeros(n2, np.float32)
    ring, mixed = np.zeros((4, n1, n2), np.float32), np.empty((n1, n2), np.float32)
    room = n2 * max(BLOCK // n2, 1)
    pair, u, v = np.empty((n1, n2), np.float32), np.empty(room, np.float32), np.zeros(room + 2, np.float32)
    line = np.zeros(n2 + 4, np.float32)
    slots = np.zeros(4, np.int64)
    none = -(2**62)
    next_t, next_x = none, none
    for coarse_plane in range(start, stop):
        first = base0[coarse_plane]
        for q in range(4):
            slots[q] = (first + q) % 4
            if table0[coarse_plane, q] == F0:
                continue
            p = first + q
            next_t = max(next_t, p) if next_t != none else p
            while next_t <= p:
                for s in range(next_t - 1 if next_x == none else next_x, next_t + 2):
                    next_x = s + 1
                    if 0 <= s < n0 or wrap[0]:
                        i = s % n0
                        _sum_planes(_plane(r, i - 1, wrap[0], nothing), _plane(r, i + 1, wrap[0], nothing), pair)
                        _smoothed_plane(r[i], pair, wrap[1], wrap[2], zero, inner, outer, m[i], m_unit, u, v, x[i])
                i = next_t % n0
                below, above = _plane(x, i - 1, wrap[0], nothing), _plane(x, i + 1, wrap[0], nothing)
                if coded:
                    _coded_residual_plane(
                        below, x[i], above, r[i], d[i], d_unit, w, wrap[1], wrap[2], zero, share[i], share_unit,
                        ring[next_t % 4],
                    )  # fmt: skip
                else:
                    _residual_plane(
                        below, x[i], above, r[i], d[i], d_unit, lower0[i], _plane(lower0, i + 1, wrap[0], nothing),
                        lower1[i], lower2[i], wrap[1], wrap[2], zero, share[i], share_unit, ring[next_t % 4],
                    )  # fmt: skip
                next_t += 1
        _gathered_plane(
            ring, slots, table0[coarse_plane], base1, table1, halved2, pads, gain[coarse_plane], line, mixed,
            coarse[coarse_plane],
        )  # fmt: skip


@plain
def _ascend_planes(  # type: ignore[no-untyped-def]
    start, stop, r, x, operator, smoother, wrap, axis0, axis1, halved2, share, share_unit, gain, coarse, z
):
    """Planes `start … stop − 1` of `ascend`."""
    d, d_unit, w, coded, lower0, lower1, lower2 = operator
    m, m_unit, inner, outer = smoother
    n0, n1, n2 = r.shape
    m1, m2 = coarse.shape[1], coarse.shape[2]
    nothing, zero = np.zeros((n1, n2), np.float32), np.zeros(n2, np.float32)
    corrected, weighted = np.zeros((3, n1, n2), np.float32), np.zeros((3, n1, n2), np.float32)
    room = n2 * max(BLOCK // n2, 1)
    pair, u, v = np.empty((n1, n2), np.float32), np.empty(room, np.float32), np.zeros(room + 2, np.float32)
    mixed, line, row = np.empty((m1, m2), np.float32), np.empty(m2 + 2, np.float32), np.empty(n2, np.float32)
    for step in range(start - 2, stop + 2):
        # Plane `step` is corrected, `step − 1` has its residual taken, `step − 2` is finished.
        if 0 <= step < n0 or wrap[0]:
            i = step % n0
            spread_plane(
                i, coarse, gain, axis0, axis1, halved2, wrap[2], mixed, line, row, share[i], share_unit, x[i],
                corrected[step % 3],
            )  # fmt: skip
        else:
            corrected[step % 3] = F0
        s = step - 1
        if s < start - 1:
            continue
        if 0 <= s < n0 or wrap[0]:
            i = s % n0
            below, here, above = corrected[(s - 1) % 3], corrected[s % 3], corrected[(s + 1) % 3]
            if coded:
                _coded_residual_plane(
                    below, here, above, r[i], d[i], d_unit, w, wrap[1], wrap[2], zero, m[i], m_unit, weighted[s % 3]
                )
            else:
                _residual_plane(
                    below, here, above, r[i], d[i], d_unit, lower0[i], _plane(lower0, i + 1, wrap[0], nothing),
                    lower1[i], lower2[i], wrap[1], wrap[2], zero, m[i], m_unit, weighted[s % 3],
                )  # fmt: skip
        else:
            weighted[s % 3] = F0
        s = step - 2
        if s < start:
            continue
        _sum_planes(weighted[(s - 1) % 3], weighted[(s + 1) % 3], pair)
        _corrected_plane(
            corrected[s % 3], weighted[s % 3], pair, wrap[1], wrap[2], zero, inner, outer, d[s], u, v, z[s]
        )


@compiled()
def descend(chunks, r, x, operator, smoother, wrap, transfer, share, share_unit, gain, coarse):  # type: ignore[no-untyped-def]
    """`x ← m ⊙ (K r)`, then `coarse ← gain ⊙ Pᵀ share ⊙ (r − A x)`.

    Parameters
    ----------
    operator : `(d, unit of d, w (3), coded, lower0, lower1, lower2)`; where coded, `lower_a` is not looked at.
    smoother : `(m, unit of m, inner (4), outer (4))`; `inner` are the stencil's constants within a plane across the
        last axis, in the order centre, second axis, first axis, both; `outer` those one step along the last axis.
    transfer : see `TransferTables.gather`.
    """
    m0 = coarse.shape[0]
    for c in prange(chunks):
        _descend_planes(
            m0 * c // chunks, m0 * (c + 1) // chunks, r, x, operator, smoother, wrap, transfer, share, share_unit, gain,
            coarse,
        )  # fmt: skip


@compiled()
def residual(chunks, r, x, operator, wrap, out):  # type: ignore[no-untyped-def]
    """`out ← r − A x` on a level whose couplings are arrays."""
    d, d_unit, _w, _coded, lower0, lower1, lower2 = operator
    n0, n1, n2 = r.shape
    for c in prange(chunks):
        nothing, zero = np.zeros((n1, n2), np.float32), np.zeros(n2, np.float32)
        ones = np.ones((n1, n2), np.float32)
        for i in range(n0 * c // chunks, n0 * (c + 1) // chunks):
            _residual_plane(
                _plane(x, i - 1, wrap[0], nothing), x[i], _plane(x, i + 1, wrap[0], nothing), r[i], d[i], d_unit,
                lower0[i], _plane(lower0, i + 1, wrap[0], nothing), lower1[i], lower2[i], wrap[1], wrap[2], zero, ones,
                np.float32(1), out[i],
            )  # fmt: skip


@compiled()
def ascend(  # type: ignore[no-untyped-def]
    chunks, r, x, operator, smoother, wrap, axis0, axis1, halved2, share, share_unit, gain, coarse, z
):
    """`y = x + share ⊙ P (gain ⊙ coarse)`, then `z ← y + K (m ⊙ (r − A y))`; `z` must not be `x`."""
    n0 = r.shape[0]
    for c in prange(chunks):
        _ascend_planes(
            n0 * c // chunks, n0 * (c + 1) // chunks, r, x, operator, smoother, wrap, axis0, axis1, halved2, share,
            share_unit, gain, coarse, z,
        )  # fmt: skip


@plain
def descend_serial(chunks, r, x, operator, smoother, wrap, transfer, share, share_unit, gain, coarse):  # type: ignore[no-untyped-def]
    """As `descend`, in the calling thread."""
    _descend_planes(0, coarse.shape[0], r, x, operator, smoother, wrap, transfer, share, share_unit, gain, coarse)


@plain
def ascend_serial(  # type: ignore[no-untyped-def]
    chunks, r, x, operator, smoother, wrap, axis0, axis1, halved2, share, share_unit, gain, coarse, z
):
    """As `ascend`, in the calling thread."""
    _ascend_planes(
        0, r.shape[0], r, x, operator, smoother, wrap, axis0, axis1, halved2, share, share_unit, gain, coarse, z
    )
