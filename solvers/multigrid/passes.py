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
F1 = np.float32(1.0)

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
    n1, n2 = out.shape
    for j in range(n1):
        a_row, b_row, o_row = a[j], b[j], out[j]
        for cell in range(n2):
            k = np.uint64(cell)
            o_row[k] = a_row[k] + b_row[k]


@plain
def _mix(centre, near, far, beside, near_beside, far_beside, c, out):  # type: ignore[no-untyped-def]
    """`out ← c₀ centre + c₁ (near + far) + c₂ beside + c₃ (near_beside + far_beside)`."""
    c0, c1, c2, c3 = c[0], c[1], c[2], c[3]
    for cell in range(out.size):
        k = np.uint64(cell)
        out[k] = c0 * centre[k] + c1 * (near[k] + far[k]) + c2 * beside[k] + c3 * (near_beside[k] + far_beside[k])


@plain
def _stencil_rows(y, pair, j, wrap1, zero, inner, outer, u, v):  # type: ignore[no-untyped-def]
    """`u`, `v` with `K y = u + v(k − 1) + v(k + 1)` along row `j`; `pair` is the sum of the planes beside `y`."""
    near, far = _row(y, j - 1, wrap1, zero), _row(y, j + 1, wrap1, zero)
    near_beside, far_beside = _row(pair, j - 1, wrap1, zero), _row(pair, j + 1, wrap1, zero)
    _mix(y[j], near, far, pair[j], near_beside, far_beside, inner, u)
    _mix(y[j], near, far, pair[j], near_beside, far_beside, outer, v)


@plain
def _smoothed_plane(r, pair, wrap1, wrap2, zero, inner, outer, m, m_unit, u, v, x):  # type: ignore[no-untyped-def]
    """`x ← m ⊙ (K r)` on a plane."""
    n1, n2 = x.shape
    last = n2 - 1
    for j in range(n1):
        _stencil_rows(r, pair, j, wrap1, zero, inner, outer, u, v)
        x_row, m_row = x[j], m[j]
        first_below = v[last] if wrap2 else F0
        last_above = v[0] if wrap2 else F0
        if n2 == 1:
            x_row[0] = m_unit * np.float32(m_row[0]) * (u[0] + first_below + last_above)
            continue
        x_row[0] = m_unit * np.float32(m_row[0]) * (u[0] + first_below + v[1])
        x_row[last] = m_unit * np.float32(m_row[last]) * (u[last] + v[last - 1] + last_above)
        for cell in range(n2 - 2):
            k = np.uint64(cell) + ONE
            x_row[k] = m_unit * np.float32(m_row[k]) * (u[k] + (v[k - ONE] + v[k + ONE]))


@plain
def _corrected_plane(x, t, pair, wrap1, wrap2, zero, inner, outer, d, u, v, z):  # type: ignore[no-untyped-def]
    """`z ← x + K t` where there are unknowns (`d ≠ 0`), on a plane; `x` is 0 elsewhere."""
    n1, n2 = x.shape
    last = n2 - 1
    for j in range(n1):
        _stencil_rows(t, pair, j, wrap1, zero, inner, outer, u, v)
        x_row, d_row, z_row = x[j], d[j], z[j]
        u[0] += v[last] if wrap2 else F0
        u[last] += v[0] if wrap2 else F0
        if n2 > 1:
            u[0] += v[1]
            u[last] += v[last - 1]
        for cell in range(n2 - 2):
            k = np.uint64(cell) + ONE
            u[k] += v[k - ONE] + v[k + ONE]
        for cell in range(n2):
            k = np.uint64(cell)
            z_row[k] = x_row[k] + u[k] if d_row[k] != 0 else F0


@plain
def _residual_plane(  # type: ignore[no-untyped-def]
    below, x, above, r, d, d_unit, w, coded, lower0, upper0, lower1, lower2, wrap1, wrap2, zero, factor, unit, t
):
    """`t ← factor ⊙ (r − A x)` on a plane; `lower0`, `upper0` are the couplings to the planes below and above."""
    n1, n2 = x.shape
    last = n2 - 1
    w0, w1, w2 = w[0], w[1], w[2]
    for j in range(n1):
        t_row, x_row, r_row, d_row, f_row = t[j], x[j], r[j], d[j], factor[j]
        a, b = below[j], above[j]
        e, f = _row(x, j - 1, wrap1, zero), _row(x, j + 1, wrap1, zero)
        if coded:
            t_row[0] = r_row[0] - d_unit * np.float32(d_row[0]) * x_row[0]
            t_row[last] = r_row[last] - d_unit * np.float32(d_row[last]) * x_row[last]
            for cell in range(n2 - 2):
                k = np.uint64(cell) + ONE
                t_row[k] = r_row[k] - d_unit * np.float32(d_row[k]) * x_row[k] + w2 * (x_row[k - ONE] + x_row[k + ONE])
            if n2 > 1:
                t_row[0] += w2 * x_row[1]
                t_row[last] += w2 * x_row[last - 1]
            if wrap2:
                t_row[0] += w2 * x_row[last]
                t_row[last] += w2 * x_row[0]
            for cell in range(n2):
                k = np.uint64(cell)
                value = t_row[k] + w0 * (a[k] + b[k]) + w1 * (e[k] + f[k])
                t_row[k] = unit * np.float32(f_row[k]) * value
        else:
            l0, u0, l1, l2 = lower0[j], upper0[j], lower1[j], lower2[j]
            u1 = _row(lower1, j + 1, wrap1, zero)
            for cell in range(n2):
                k = np.uint64(cell)
                t_row[k] = r_row[k] - d_unit * np.float32(d_row[k]) * x_row[k]
            for cell in range(n2):
                k = np.uint64(cell)
                t_row[k] += l0[k] * a[k] + u0[k] * b[k]
            for cell in range(n2):
                k = np.uint64(cell)
                t_row[k] += l1[k] * e[k] + u1[k] * f[k]
            for cell in range(n2 - 1):
                k = np.uint64(cell)
                t_row[k] += l2[k + ONE] * x_row[k + ONE]
            for cell in range(n2 - 1):
                k = np.uint64(cell)
                t_row[k + ONE] += l2[k + ONE] * x_row[k]
            if wrap2:
                t_row[0] += l2[0] * x_row[last]
                t_row[last] += l2[0] * x_row[0]
            for cell in range(n2):
                k = np.uint64(cell)
                t_row[k] *= unit * np.float32(f_row[k])


@plain
def _gathered_plane(planes, slots, weights, base, table, halved2, pads, gain, line, mixed, out):  # type: ignore[no-untyped-def]
    """`out ← gain ⊙ Pᵀ t`: a coarse plane from up to four fine ones.

    `base` (m1,), `table` (m1, 4): the first of the fine rows that a coarse row gathers, and their weights. `line` is one
    row with two cells more at the front and three at the back; `pads` says what those hold (see `transfer_pads`).
    """
    m1, m2 = out.shape
    n1, n2 = mixed.shape
    a, b, c, e = planes[slots[0]], planes[slots[1]], planes[slots[2]], planes[slots[3]]
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    for j in range(n1):
        a_row, b_row, c_row, e_row, o_row = a[j], b[j], c[j], e[j], mixed[j]
        for cell in range(n2):
            k = np.uint64(cell)
            o_row[k] = w0 * a_row[k] + w1 * b_row[k] + w2 * c_row[k] + w3 * e_row[k]
    quarter, most = np.float32(0.25), np.float32(0.75)
    for j in range(m1):
        inner = line[1 : n2 + 1]
        inner[:] = F0
        for q in range(4):
            weight = table[j, q]
            if weight != F0:
                row = mixed[(base[j] + q) % n1]
                for cell in range(n2):
                    k = np.uint64(cell)
                    inner[k] += weight * row[k]
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
    for j in range(m1):
        a_row, b_row, g_row, h_row, o_row = a[j], b[j], g[j], h[j], mixed[j]
        for cell in range(m2):
            k = np.uint64(cell)
            o_row[k] = near * (g_row[k] * a_row[k]) + far * (h_row[k] * b_row[k])
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
    pair, u, v = np.empty((n1, n2), np.float32), np.empty(n2, np.float32), np.empty(n2, np.float32)
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
                j = i if not coded else 0
                upper0 = _plane(lower0, j + 1, wrap[0], nothing)
                _residual_plane(
                    below, x[i], above, r[i], d[i], d_unit, w, coded, lower0[j], upper0, lower1[j], lower2[j],
                    wrap[1], wrap[2], zero, share[i], share_unit, ring[next_t % 4],
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
    pair, u, v = np.empty((n1, n2), np.float32), np.empty(n2, np.float32), np.empty(n2, np.float32)
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
            j = i if not coded else 0
            upper0 = _plane(lower0, j + 1, wrap[0], nothing)
            _residual_plane(
                corrected[(s - 1) % 3], corrected[s % 3], corrected[(s + 1) % 3], r[i], d[i], d_unit, w, coded,
                lower0[j], upper0, lower1[j], lower2[j], wrap[1], wrap[2], zero, m[i], m_unit, weighted[s % 3],
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
