"""Compiled residuals of κ = 1 plane by plane, in float64: `A x` is not kept.

Arrays are C-contiguous `(n0, n1, n2)`; a grid of two dimensions is `(nx, 1, ny)`. `A` is in units of the largest
`1/h²`: `code` (uint8) an index into `table` (float64), or itself the diagonal where `linear`; `w` (3,) float64; `wrap`
(3,) bool. `sums` is work space for sums made plane by plane and added in order, so that threads do not show; they are
those of the cells `owned`: planes `owned[0] … owned[1] − 1`, and of each the flat cells `owned[2] … owned[3] − 1`.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from relaxon.solvers.stencil_kernels import ONE, compiled, ordered_sum, plain

ZERO = 0.0


@plain
def plane_of(array, p, wrap, nothing):  # type: ignore[no-untyped-def]
    """Plane `p` of an array, counted on beyond the sides: around the edge where periodic, else zeros."""
    n = array.shape[0]
    if 0 <= p < n:
        return array[p]
    return array[p % n] if wrap else nothing


@plain
def row_of(plane, j, wrap, nothing):  # type: ignore[no-untyped-def]
    """Row `j` of a plane, in the same way."""
    n = plane.shape[0]
    if 0 <= j < n:
        return plane[j]
    return plane[j % n] if wrap else nothing


@plain
def applied_plane(below, x, above, code, table, linear, w, wrap1, wrap2, zero, y):  # type: ignore[no-untyped-def]
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
        x_row, near, far = x[j], row_of(x, j - 1, wrap1, zero), row_of(x, j + 1, wrap1, zero)
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


@compiled()
def true_residual(b, x, unit, scale, code, table, linear, w, wrap, r, owned, sums):  # type: ignore[no-untyped-def]
    """`r ← scale · (b − unit · A x)` (float32) and `‖b − unit · A x‖²`, all in float64 before the rounding."""
    n0, n1, n2 = x.shape
    for i in prange(n0):
        nothing, zero, y = np.zeros((n1, n2)), np.zeros(n2), np.empty((n1, n2))
        below, above = plane_of(x, i - 1, wrap[0], nothing), plane_of(x, i + 1, wrap[0], nothing)
        applied_plane(below, x[i], above, code[i], table, linear, w, wrap[1], wrap[2], zero, y)
        b_flat, y_flat, r_flat = b[i].reshape(-1), y.reshape(-1), r[i].reshape(-1)
        total = 0.0
        for cell in range(owned[2]):
            k = np.uint64(cell)
            r_flat[k] = scale * (b_flat[k] - unit * y_flat[k])
        for cell in range(owned[2], owned[3]):
            k = np.uint64(cell)
            value = b_flat[k] - unit * y_flat[k]
            r_flat[k] = scale * value
            total += value * value
        for cell in range(owned[3], y_flat.size):
            k = np.uint64(cell)
            r_flat[k] = scale * (b_flat[k] - unit * y_flat[k])
        sums[i, 0] = total
    return ordered_sum(sums[owned[0] : owned[1], 0])


@compiled()
def residual_square(b, x, unit, code, table, linear, w, wrap, owned, sums):  # type: ignore[no-untyped-def]
    """`‖b − unit · A x‖²`."""
    _n0, n1, n2 = x.shape
    for i in prange(owned[0], owned[1]):
        nothing, zero, y = np.zeros((n1, n2)), np.zeros(n2), np.empty((n1, n2))
        below, above = plane_of(x, i - 1, wrap[0], nothing), plane_of(x, i + 1, wrap[0], nothing)
        applied_plane(below, x[i], above, code[i], table, linear, w, wrap[1], wrap[2], zero, y)
        b_flat, y_flat = b[i].reshape(-1), y.reshape(-1)
        total = 0.0
        for cell in range(owned[2], owned[3]):
            k = np.uint64(cell)
            value = b_flat[k] - unit * y_flat[k]
            total += value * value
        sums[i, 0] = total
    return ordered_sum(sums[owned[0] : owned[1], 0])
