"""Compiled passes of the fused outer iteration: directions, images and residual in float32, sums and `x` in float64.

Arrays are C-contiguous `(n0, n1, n2)`; a thread takes a run of planes. `A` is that of κ = 1 in units of the largest
`1/h²`: `code` (uint8) an index into `table` (float64), or itself the diagonal where `linear`; `w` (3,) float64; `wrap`
(3,) bool. Sums are made plane by plane and added in order, so that they do not depend on the number of threads; they
are those of the cells `owned`: planes `owned[0] … owned[1] − 1`, and of each the flat cells `owned[2] … owned[3] − 1`.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from relaxon.solvers.multigrid.plane_passes import F0
from relaxon.solvers.plane_kernels import applied_plane
from relaxon.solvers.stencil_kernels import compiled, ordered_sum, plain


@compiled()
def two_dots(x, y, z, owned, sums):  # type: ignore[no-untyped-def]
    """`⟨x, y⟩` and `⟨x, z⟩`; `sums` (n0, 2) is work space."""
    for i in prange(owned[0], owned[1]):
        a, b, c = x[i].reshape(-1), y[i].reshape(-1), z[i].reshape(-1)
        one, two = 0.0, 0.0
        for cell in range(owned[2], owned[3]):
            k = np.uint64(cell)
            one += float(a[k]) * float(b[k])
            two += float(a[k]) * float(c[k])
        sums[i, 0], sums[i, 1] = one, two
    return ordered_sum(sums[owned[0] : owned[1], 0]), ordered_sum(sums[owned[0] : owned[1], 1])


@compiled()
def advance(x, factor, d, r, alpha, q, owned, sums):  # type: ignore[no-untyped-def]
    """`x ← x + factor · d`, `r ← r − alpha · q`; returns `‖r‖²`. `x` float64."""
    n0 = x.shape[0]
    step = np.float32(alpha)
    for i in prange(n0):
        x_flat, d_flat, r_flat, q_flat = x[i].reshape(-1), d[i].reshape(-1), r[i].reshape(-1), q[i].reshape(-1)
        total = 0.0
        for cell in range(x_flat.size):
            k = np.uint64(cell)
            x_flat[k] += factor * float(d_flat[k])
        for cell in range(owned[2]):
            k = np.uint64(cell)
            r_flat[k] -= step * q_flat[k]
        for cell in range(owned[2], owned[3]):
            k = np.uint64(cell)
            value = r_flat[k] - step * q_flat[k]
            r_flat[k] = value
            total += float(value) * float(value)
        for cell in range(owned[3], r_flat.size):
            k = np.uint64(cell)
            r_flat[k] -= step * q_flat[k]
        sums[i, 0] = total
    return ordered_sum(sums[owned[0] : owned[1], 0])


@plain
def _combined_plane(z, c1, p, c2, q, out):  # type: ignore[no-untyped-def]
    a, b, c, o = z.reshape(-1), p.reshape(-1), q.reshape(-1), out.reshape(-1)
    for cell in range(o.size):
        k = np.uint64(cell)
        o[k] = a[k] - c1 * b[k] - c2 * c[k]


@plain
def _search_planes(start, stop, z, c1, p1, c2, p2, r, code, table, linear, w, wrap, d, q, owned, sums):  # type: ignore[no-untyped-def]
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
        applied_plane(below, d[i], above, code[i], table, linear, w, wrap[1], wrap[2], zero, q[i])
        a, b, c = d[i].reshape(-1), q[i].reshape(-1), r[i].reshape(-1)
        one, two = 0.0, 0.0
        for cell in range(owned[2], owned[3]):
            k = np.uint64(cell)
            one += float(a[k]) * float(b[k])
            two += float(a[k]) * float(c[k])
        sums[i, 0], sums[i, 1] = one, two


@compiled()
def search(chunks, z, c1, p1, c2, p2, r, code, table, linear, w, wrap, d, q, owned, sums):  # type: ignore[no-untyped-def]
    """`d ← z − c1 p1 − c2 p2`, `q ← A d`; returns `⟨d, q⟩` and `⟨d, r⟩`. `d` must be none of the others."""
    n0 = z.shape[0]
    f1, f2 = np.float32(c1), np.float32(c2)
    for c in prange(chunks):
        _search_planes(
            n0 * c // chunks, n0 * (c + 1) // chunks, z, f1, p1, f2, p2, r, code, table, linear, w, wrap, d, q, owned,
            sums,
        )  # fmt: skip
    return ordered_sum(sums[owned[0] : owned[1], 0]), ordered_sum(sums[owned[0] : owned[1], 1])


@compiled()
def scaled_by_diagonal(r, code, table, z):  # type: ignore[no-untyped-def]
    """`z ← D⁻¹ r`, 0 where `D` is."""
    n0 = r.shape[0]
    for i in prange(n0):
        r_flat, c_flat, z_flat = r[i].reshape(-1), code[i].reshape(-1), z[i].reshape(-1)
        for k in range(r_flat.size):
            z_flat[k] = float(r_flat[k]) / table[c_flat[k]] if c_flat[k] != 0 else F0
