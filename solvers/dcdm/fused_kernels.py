"""Compiled passes of the fused outer iteration: directions, images and residual in float32, sums and `x` in float64.

Arrays are planes put end to end, `(n0, n1 · n2)`, C-contiguous; a thread takes a run of planes. `A` and the cells
`owned` are as in `plane_kernels`. Sums are made plane by plane and added in order, so that they do not depend on the
number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.plane_kernels import applied_plane
from relaxon.solvers.kernels.compiled import divided_sums, part, plain, shared, threads_for

Single = NDArray[np.float32]
F0 = np.float32(0.0)


@shared("planes", of="x", sums=2)
def two_dots(start, stop, x, y, z, owned, parts):  # type: ignore[no-untyped-def]
    """`⟨x, y⟩` and `⟨x, z⟩`."""
    for i in range(start, stop):
        one, two = 0.0, 0.0
        if owned[0] <= i < owned[1]:
            a, b, c = x[i], y[i], z[i]
            for cell in range(owned[2], owned[3]):
                k = np.uint64(cell)
                one += float(a[k]) * float(b[k])
                two += float(a[k]) * float(c[k])
        parts[i, 0], parts[i, 1] = one, two


@shared("planes", of="x", sums=1)
def advance(start, stop, x, factor, d, r, step, q, owned, parts):  # type: ignore[no-untyped-def]
    """`x ← x + factor · d`, `r ← r − step · q`; returns `‖r‖²`. `x` float64, `step` float32."""
    size = x.shape[1]
    for i in range(start, stop):
        x_i, d_i, r_i, q_i = x[i], d[i], r[i], q[i]
        for cell in range(size):
            k = np.uint64(cell)
            x_i[k] += factor * float(d_i[k])
        low, high = (owned[2], owned[3]) if owned[0] <= i < owned[1] else (size, size)
        for cell in range(low):
            k = np.uint64(cell)
            r_i[k] -= step * q_i[k]
        total = 0.0
        for cell in range(low, high):
            k = np.uint64(cell)
            value = r_i[k] - step * q_i[k]
            r_i[k] = value
            total += float(value) * float(value)
        for cell in range(high, size):
            k = np.uint64(cell)
            r_i[k] -= step * q_i[k]
        parts[i, 0] = total


@part
def _combined_plane(z, c1, p, c2, q, out):  # type: ignore[no-untyped-def]
    for cell in range(out.size):
        k = np.uint64(cell)
        out[k] = z[k] - c1 * p[k] - c2 * q[k]


@plain
def _search_planes(  # type: ignore[no-untyped-def]
    start, stop, z, c1, p1, c2, p2, r, code, table, linear, w, wrap, d, q, owned, parts, edge, row
):
    n0, n2 = z.shape[0], row.size
    zero = edge[0][:n2]
    # The planes beside the run belong to others, who may not have made them yet: they are made here once more.
    for side in range(-1, 2, 2):
        i = start - 1 if side < 0 else stop
        if 0 <= i < n0 or wrap[0]:
            i = i % n0
            _combined_plane(z[i], c1, p1[i], c2, p2[i], edge[side])
    for i in range(start - 1, stop):
        if i + 1 < stop:
            _combined_plane(z[i + 1], c1, p1[i + 1], c2, p2[i + 1], d[i + 1])
        if i < start:
            continue
        below = d[i - 1] if i > start else edge[-1]
        above = d[i + 1] if i + 1 < stop else edge[1]
        a, b, c = d[i], q[i], r[i]
        applied_plane(below, a, above, code[i], table, linear, w, n2, wrap, zero, row, b)
        one, two = 0.0, 0.0
        if owned[0] <= i < owned[1]:
            for cell in range(owned[2], owned[3]):
                k = np.uint64(cell)
                one += float(a[k]) * float(b[k])
                two += float(a[k]) * float(c[k])
        parts[i, 0], parts[i, 1] = one, two


def search(z: Single, n2: int, c1: float, p1: Single, c2: float, p2: Single, *others: Any) -> tuple[float, ...]:
    """`d ← z − c1 p1 − c2 p2`, `q ← A d`; returns `⟨d, q⟩` and `⟨d, r⟩`.

    `others`: `r`, the matrix as `plane_kernels` take it, `d`, which must be none of the others, `q` and `owned`.
    """
    factors = (np.float32(c1), p1, np.float32(c2), p2)
    n0, size = z.shape
    return divided_sums(
        _search_planes, n0, 2, z, *factors, *others, chunks=threads_for(z.size),
        work=lambda: (np.zeros((3, size), np.float32), np.zeros(n2)),
    )  # fmt: skip


@shared("planes", of="r")
def scaled_by_diagonal(start, stop, r, code, table, z):  # type: ignore[no-untyped-def]
    """`z ← D⁻¹ r`, 0 where `D` is."""
    for i in range(start, stop):
        r_i, c_i, z_i = r[i], code[i], z[i]
        for k in range(r_i.size):
            z_i[k] = float(r_i[k]) / table[c_i[k]] if c_i[k] != 0 else F0
