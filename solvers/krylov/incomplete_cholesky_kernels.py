"""Compiled incomplete Cholesky for the 5/7-point stencil: the factor's pivots and the two triangular sweeps.

The factor is `(D̃ + L) D̃⁻¹ (D̃ + Lᵀ)` with `L` the lower couplings of `A`, so that one array of pivots is all there is
to store. Cells are eliminated in C order inside slabs of planes; couplings between slabs are left out of the factor,
which is what lets threads sweep slabs side by side (block Jacobi of incomplete factors, a slab a block).
"""

from __future__ import annotations

from relaxon.solvers.kernels.lean import lean


@lean
def pivots(start, stop, diagonal, lower0, lower1, lower2, starts, modified, safety, inverse):  # type: ignore[no-untyped-def]
    """`inverse ← 1/D̃` in slabs `start … stop − 1`; 0 where the row is zero.

    The dropped fill is added to the pivot, times `modified`. A pivot below `safety · diagonal` becomes the diagonal.
    """
    _, n1, n2 = diagonal.shape
    for slab in range(start, stop):
        for i in range(starts[slab], starts[slab + 1]):
            for j in range(n1):
                for k in range(n2):
                    d = diagonal[i, j, k]
                    if d == 0.0:
                        inverse[i, j, k] = 0.0
                        continue
                    pivot = d
                    if i > starts[slab]:
                        c = lower0[i, j, k]
                        fill = (lower1[i - 1, j + 1, k] if j + 1 < n1 else 0.0) + (
                            lower2[i - 1, j, k + 1] if k + 1 < n2 else 0.0
                        )
                        pivot -= c * (c + modified * fill) * inverse[i - 1, j, k]
                    if j > 0:
                        c = lower1[i, j, k]
                        fill = (lower0[i + 1, j - 1, k] if i + 1 < starts[slab + 1] else 0.0) + (
                            lower2[i, j - 1, k + 1] if k + 1 < n2 else 0.0
                        )
                        pivot -= c * (c + modified * fill) * inverse[i, j - 1, k]
                    if k > 0:
                        c = lower2[i, j, k]
                        fill = (lower0[i + 1, j, k - 1] if i + 1 < starts[slab + 1] else 0.0) + (
                            lower1[i, j + 1, k - 1] if j + 1 < n1 else 0.0
                        )
                        pivot -= c * (c + modified * fill) * inverse[i, j, k - 1]
                    if pivot < safety * d:
                        pivot = d
                    inverse[i, j, k] = 1.0 / pivot


@lean
def sweeps(start, stop, inverse, lower0, lower1, lower2, starts, r, z):  # type: ignore[no-untyped-def]
    """`z ← (D̃ + Lᵀ)⁻¹ D̃ (D̃ + L)⁻¹ r`, forward then backward, in slabs `start … stop − 1`; `L` holds `−lower`."""
    _, n1, n2 = r.shape
    for slab in range(start, stop):
        first, past = starts[slab], starts[slab + 1]
        for i in range(first, past):
            for j in range(n1):
                z_row, r_row, d_row, c2 = z[i, j], r[i, j], inverse[i, j], lower2[i, j]
                for k in range(n2):
                    z_row[k] = r_row[k]
                if i > first:
                    c0, before = lower0[i, j], z[i - 1, j]
                    for k in range(n2):
                        z_row[k] += c0[k] * before[k]
                if j > 0:
                    c1, beside = lower1[i, j], z[i, j - 1]
                    for k in range(n2):
                        z_row[k] += c1[k] * beside[k]
                value = z_row[0] * d_row[0]
                z_row[0] = value
                for k in range(1, n2):
                    value = (z_row[k] + c2[k] * value) * d_row[k]
                    z_row[k] = value
        for back in range(past - first):
            i = past - 1 - back
            for under in range(n1):
                j = n1 - 1 - under
                z_row, d_row, c2 = z[i, j], inverse[i, j], lower2[i, j]
                if i + 1 < past:
                    c0, after = lower0[i + 1, j], z[i + 1, j]
                    for k in range(n2):
                        z_row[k] += d_row[k] * c0[k] * after[k]
                if j + 1 < n1:
                    c1, beside = lower1[i, j + 1], z[i, j + 1]
                    for k in range(n2):
                        z_row[k] += d_row[k] * c1[k] * beside[k]
                value = z_row[n2 - 1]
                for under2 in range(1, n2):
                    k = n2 - 1 - under2
                    value = z_row[k] + d_row[k] * c2[k + 1] * value
                    z_row[k] = value
