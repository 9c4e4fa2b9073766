"""Compiled passes of the fused outer iteration: directions, images and residual in float32, sums and `x` in float64.

Arrays are C-contiguous `(n0, n1, n2)`; a thread takes a run of planes. `A` is that of κ = 1 in units of the largest
`1/h²`: `code` (uint8) an index into `table` (float64), or itself the diagonal where `linear`; `w` (3,) float64; `wrap`
(3,) bool. Sums are made plane by plane and added in order, so that they do not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from relaxon.solvers.multigrid.passes import F0, _plane, _row, plain
from relaxon.solvers.stencil_kernels import ONE, compiled, ordered_sum

ZERO = 0.0


@compiled()
def two_dots(x, y, z, sums):  # type: ignore[no-untyped-def]
    """`⟨x, y⟩` and `⟨x, z⟩`; `sums` (n0, 2) is work space."""
    n0 = x.shape[0]
    for i in prange(n0):
        a, b, c = x[i].reshape(-1), y[i].reshape(-1), z[i].reshape(-1)
        one, two = 0.0, 0.0
        for cell in range(a.size):
            k = np.uint64(cell)
            one += float(a[k]) * float(b[k])
            two += float(a[k]) * float(c[k])
        sums[i, 0], sums[i, 1] = one, two
    return ordered_sum(sums[:, 0]), ordered_sum(sums[:, 1])


@compiled()
def advance(x, factor, d, r, alpha, q, sums):  # type: ignore[no-untyped-def]
    """`x ← x + factor · d`, `r ← r − alpha · q`; returns `‖r‖²`. `x` float64."""
    n0 = x.shape[0]
    step = np.float32(alpha)
    for i in prange(n0):
        x_flat, d_flat, r_flat, q_flat = x[i].reshape(-1), d[i].reshape(-1), r[i].reshape(-1), q[i].reshape(-1)
        total = 0.0
        for cell in range(x_flat.size):
            k = np.uint64(cell)
            x_flat[k] += factor * float(d_flat[k])
        for cell in range(x_flat.size):
            k = np.uint64(cell)
            value = r_flat[k] - step * q_flat[k]
            r_flat[k] = value
            total += float(value) * float(value)
        sums[i, 0] = total
    return ordered_sum(sums[:, 0])


@plain
def _applied_plane(below, x, above, code, table, linear, w, wrap1, wrap2, zero, y):  # type: ignore[no-untyped-def]
    """`y ← A x` on a plane in float64 arithmetic, rounded to the dtype of `y`."""
    n1, n2 = x.shape
    last = n2 - 1
    w0, w1, w2 = w[0], w[1], w[2]
    a_flat, b_flat, x_flat = below.reshape(-1), above.reshape(-1), x.reshape(-1)
    c_flat, y_flat = code.reshape(-1), y.reshape(-1)
    length = np.uint64(n2)
    if linear:
        for cell in range((n1 - 2) * n2):
            q = length + np.uint64(cell)
            value = float(c_flat[q]) * float(x_flat[q]) - w0 * (float(a_flat[q]) + float(b_flat[q]))
            value -= w1 * (float(x_flat[q - length]) + float(x_flat[q + length]))
            value -= w2 * (float(x_flat[q - ONE]) + float(x_flat[q + ONE]))
            y_flat[q] = value if c_flat[q] != 0 else ZERO
    else:
        for cell in range((n1 - 2) * n2):
            q = length + np.uint64(cell)
            value = table[c_flat[q]] * float(x_flat[q]) - w0 * (float(a_flat[q]) + float(b_flat[q]))
            value -= w1 * (float(x_flat[q - length]) + float(x_flat[q + length]))
            value -= w2 * (float(x_flat[q - ONE]) + float(x_flat[q + ONE]))
            y_flat[q] = value if c_flat[q] != 0 else ZERO
    # The ends of these rows have taken a neighbour from another row.
    for j in range(1, n1 - 1):
        for end in range(2):
            q = j * n2 + end * last
            if end == 0:
                low = float(x_flat[q + last]) if wrap2 else ZERO
                high = float(x_flat[q + 1]) if n2 > 1 else low
            else:
                low = float(x_flat[q - 1]) if n2 > 1 else (float(x_flat[q]) if wrap2 else ZERO)
                high = float(x_flat[q - last]) if wrap2 else ZERO
            value = table[c_flat[q]] * float(x_flat[q]) - w0 * (float(a_flat[q]) + float(b_flat[q]))
            value -= w1 * (float(x_flat[q - n2]) + float(x_flat[q + n2])) + w2 * (low + high)
            y_flat[q] = value if c_flat[q] != 0 else ZERO
    row = np.empty(n2)
    for j in range(0, n1, max(n1 - 1, 1)):
        x_row, near, far = x[j], _row(x, j - 1, wrap1, zero), _row(x, j + 1, wrap1, zero)
        y_row, c_row, a, b = y[j], code[j], below[j], above[j]
        for cell in range(n2):
            k = np.uint64(cell)
            row[k] = w0 * (float(a[k]) + float(b[k])) + w1 * (float(near[k]) + float(far[k]))
        for cell in range(n2 - 2):
            k = np.uint64(cell) + ONE
            row[k] += w2 * (float(x_row[k - ONE]) + float(x_row[k + ONE]))
        if wrap2:
            row[0] += w2 * float(x_row[last])
            row[last] += w2 * float(x_row[0])
        if n2 > 1:
            row[0] += w2 * float(x_row[1])
            row[last] += w2 * float(x_row[last - 1])
        for cell in range(n2):
            k = np.uint64(cell)
            y_row[k] = table[c_row[k]] * float(x_row[k]) - row[k] if c_row[k] != 0 else ZERO


@plain
def _combined_plane(z, c1, p, c2, q, out):  # type: ignore[no-untyped-def]
    a, b, c, o = z.reshape(-1), p.reshape(-1), q.reshape(-1), out.reshape(-1)
    for cell in range(o.size):
        k = np.uint64(cell)
        o[k] = a[k] - c1 * b[k] - c2 * c[k]


@plain
def _search_planes(start, stop, z, c1, p1, c2, p2, r, code, table, linear, w, wrap, d, q, sums):  # type: ignore[no-untyped-def]
    n0, n1, n2 = z.shape
    nothing, zero = np.zeros((n1, n2), np.float32), np.zeros(n2, np.float32)
    edge = np.zeros((2, n1, n2), np.float32)
    low, high = nothing, nothing
    # The planes beside the run belong to others, who may not have made them yet: they are made here once more.
    if start > 0 or wrap[0]:
        i = (start - 1) % n0
        low = edge[0]
        _combined_plane(z[i], c1, p1[i], c2, p2[i], low)
    if stop < n0 or wrap[0]:
        i = stop % n0
        high = edge[1]
        _combined_plane(z[i], c1, p1[i], c2, p2[i], high)
    if start < stop:
        _combined_plane(z[start], c1, p1[start], c2, p2[start], d[start])
    for i in range(start, stop):
        if i + 1 < stop:
            _combined_plane(z[i + 1], c1, p1[i + 1], c2, p2[i + 1], d[i + 1])
        below = d[i - 1] if i > start else low
        above = d[i + 1] if i + 1 < stop else high
        _applied_plane(below, d[i], above, code[i], table, linear, w, wrap[1], wrap[2], zero, q[i])
        a, b, c = d[i].reshape(-1), q[i].reshape(-1), r[i].reshape(-1)
        one, two = 0.0, 0.0
        for cell in range(a.size):
            k = np.uint64(cell)
            one += float(a[k]) * float(b[k])
            two += float(a[k]) * float(c[k])
        sums[i, 0], sums[i, 1] = one, two


@compiled()
def search(chunks, z, c1, p1, c2, p2, r, code, table, linear, w, wrap, d, q, sums):  # type: ignore[no-untyped-def]
    """`d ← z − c1 p1 − c2 p2`, `q ← A d`; returns `⟨d, q⟩` and `⟨d, r⟩`. `d` must be none of the others."""
    n0 = z.shape[0]
    f1, f2 = np.float32(c1), np.float32(c2)
    for c in prange(chunks):
        _search_planes(
            n0 * c // chunks, n0 * (c + 1) // chunks, z, f1, p1, f2, p2, r, code, table, linear, w, wrap, d, q, sums
        )
    return ordered_sum(sums[:, 0]), ordered_sum(sums[:, 1])


@compiled()
def true_residual(b, x, unit, scale, code, table, linear, w, wrap, r, sums):  # type: ignore[no-untyped-def]
    """`r ← scale · (b − unit · A x)` (float32) and `‖b − unit · A x‖²`, all in float64 before the rounding."""
    n0, n1, n2 = x.shape
    for i in prange(n0):
        nothing, zero, y = np.zeros((n1, n2)), np.zeros(n2), np.empty((n1, n2))
        below, above = _plane(x, i - 1, wrap[0], nothing), _plane(x, i + 1, wrap[0], nothing)
        _applied_plane(below, x[i], above, code[i], table, linear, w, wrap[1], wrap[2], zero, y)
        b_flat, y_flat, r_flat = b[i].reshape(-1), y.reshape(-1), r[i].reshape(-1)
        total = 0.0
        for cell in range(y_flat.size):
            k = np.uint64(cell)
            value = b_flat[k] - unit * y_flat[k]
            r_flat[k] = scale * value
            total += value * value
        sums[i, 0] = total
    return ordered_sum(sums[:, 0])


@compiled()
def scaled_by_diagonal(r, code, table, z):  # type: ignore[no-untyped-def]
    """`z ← D⁻¹ r`, 0 where `D` is."""
    n0 = r.shape[0]
    for i in prange(n0):
        r_flat, c_flat, z_flat = r[i].reshape(-1), code[i].reshape(-1), z[i].reshape(-1)
        for k in range(r_flat.size):
            z_flat[k] = float(r_flat[k]) / table[c_flat[k]] if c_flat[k] != 0 else F0
