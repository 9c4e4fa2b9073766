"""Compiled residuals of κ = 1 plane by plane, in float64: `A x` is not kept.

Kernels take a grid's arrays as planes put end to end, `(n0, n1 · n2)`, C-contiguous, and the length `n2` of a row; a
grid of two dimensions is `(nx, 1, ny)`. `A` is in units of the largest `1/h²`: `code` (uint8) an index into `table`
(float64), or itself the diagonal where `linear`; `w` (3,) float64; `wrap` (3,) bool. Sums are made plane by plane and
added in order, so that threads do not show; they are those of the cells `owned`: planes `owned[0] … owned[1] − 1`, and
of each the flat cells `owned[2] … owned[3] − 1`.
"""

# Indices are unsigned in some loops (a signed one might count from the end) and signed in others.
# mypy: disable-error-code="assignment"
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.compiled import ONE, divided_sums, part, plain, threads_for

ZERO = 0.0
NOTHING_KEPT = np.empty((0, 0), np.float32)


@part
def plane_of(array, p, wrap, nothing):  # type: ignore[no-untyped-def]
    """Return plane `p` of an array, counted on beyond the sides: around the edge where periodic, else zeros."""
    n = array.shape[0]
    if 0 <= p < n:
        return array[p]
    return array[p % n] if wrap else nothing


@part
def row_of(plane, j, n1, n2, wrap, zero):  # type: ignore[no-untyped-def]
    """Return row `j` of a plane, in the same way."""
    if j < 0 or j >= n1:
        if not wrap:
            return zero
        j = j % n1
    return plane[j * n2 : (j + 1) * n2]


@part
def applied_plane(below, x, above, code, table, linear, w, n2, wrap, zero, row, y):  # type: ignore[no-untyped-def]
    """`y ← A x` on a plane in float64 arithmetic, rounded to the dtype of `y`; `row` (n2,) float64 is work space."""
    n1 = x.size // n2
    last = n2 - 1
    w0, w1, w2 = w[0], w[1], w[2]
    length = np.uint64(n2)
    if linear:
        for cell in range((n1 - 2) * n2):
            q = length + np.uint64(cell)
            value = float(code[q]) * float(x[q]) - w0 * (float(below[q]) + float(above[q]))
            value -= w1 * (float(x[q - length]) + float(x[q + length]))
            value -= w2 * (float(x[q - ONE]) + float(x[q + ONE]))
            y[q] = value if code[q] != 0 else ZERO
    else:
        for cell in range((n1 - 2) * n2):
            q = length + np.uint64(cell)
            value = table[code[q]] * float(x[q]) - w0 * (float(below[q]) + float(above[q]))
            value -= w1 * (float(x[q - length]) + float(x[q + length]))
            value -= w2 * (float(x[q - ONE]) + float(x[q + ONE]))
            y[q] = value if code[q] != 0 else ZERO
    # The ends of these rows have taken a neighbour from another row.
    for j in range(1, n1 - 1):
        for end in range(2):
            q = np.uint64(j * n2 + end * last)
            if end == 0:
                low = float(x[q + np.uint64(last)]) if wrap[2] else ZERO
                high = float(x[q + ONE]) if n2 > 1 else low
            else:
                low = float(x[q - ONE]) if n2 > 1 else (float(x[q]) if wrap[2] else ZERO)
                high = float(x[q - np.uint64(last)]) if wrap[2] else ZERO
            value = table[code[q]] * float(x[q]) - w0 * (float(below[q]) + float(above[q]))
            value -= w1 * (float(x[q - length]) + float(x[q + length])) + w2 * (low + high)
            y[q] = value if code[q] != 0 else ZERO
    for j in range(0, n1, n1 - 1 if n1 > 1 else 1):
        first = np.uint64(j * n2)
        near, far = row_of(x, j - 1, n1, n2, wrap[1], zero), row_of(x, j + 1, n1, n2, wrap[1], zero)
        for cell in range(n2):
            k = np.uint64(cell)
            row[k] = w0 * (float(below[first + k]) + float(above[first + k])) + w1 * (float(near[k]) + float(far[k]))
        for cell in range(n2 - 2):
            k = np.uint64(cell) + ONE
            row[k] += w2 * (float(x[first + k - ONE]) + float(x[first + k + ONE]))
        end = first + np.uint64(last)
        if wrap[2]:
            row[0] += w2 * float(x[end])
            row[last] += w2 * float(x[first])
        if n2 > 1:
            row[0] += w2 * float(x[first + ONE])
            row[last] += w2 * float(x[end - ONE])
        for cell in range(n2):
            k = np.uint64(cell)
            y[first + k] = table[code[first + k]] * float(x[first + k]) - row[k] if code[first + k] != 0 else ZERO


@plain
def _residuals(start, stop, b, x, n2, unit, scale, code, table, linear, w, wrap, r, owned, parts, work):  # type: ignore[no-untyped-def]
    """`‖b − unit · A x‖²`; where `r` has planes, `r ← scale · (b − unit · A x)`. `work` (3, n1 · n2) of zeros."""
    size = x.shape[1]
    nothing, y, row = work[0], work[1], work[2]
    zero = nothing[:n2]
    for i in range(start, stop):
        parts[i, 0] = ZERO
        inside = owned[0] <= i < owned[1]
        if not inside and r.shape[0] == 0:
            continue
        below, above = plane_of(x, i - 1, wrap[0], nothing), plane_of(x, i + 1, wrap[0], nothing)
        applied_plane(below, x[i], above, code[i], table, linear, w, n2, wrap, zero, row, y)
        given = b[i]
        if inside:
            total = 0.0
            for cell in range(owned[2], owned[3]):
                k = np.uint64(cell)
                value = given[k] - unit * y[k]
                total += value * value
            parts[i, 0] = total
        if r.shape[0] > 0:
            out = r[i]
            for cell in range(size):
                k = np.uint64(cell)
                out[k] = scale * (given[k] - unit * y[k])


def true_residual(
    b: NDArray[np.float64],
    x: NDArray[np.float64],
    unit: float,
    scale: float,
    matrix: tuple[Any, ...],
    r: NDArray[np.float32],
    owned: tuple[int, int, int, int],
) -> float:
    """`r ← scale · (b − unit · A x)` (float32) and `‖b − unit · A x‖²`, all in float64 before the rounding.

    Arrays `(n0, n1, n2)`; `matrix` is `Planes.matrix`.
    """
    return _residual(b, x, unit, scale, matrix, planes_of(r), owned)


def residual_square(
    b: NDArray[np.float64],
    x: NDArray[np.float64],
    unit: float,
    matrix: tuple[Any, ...],
    owned: tuple[int, int, int, int],
) -> float:
    """`‖b − unit · A x‖²`, as `true_residual`."""
    return _residual(b, x, unit, 0.0, matrix, NOTHING_KEPT, owned)


def _residual(
    b: Any, x: Any, unit: float, scale: float, matrix: tuple[Any, ...], r: Any, owned: tuple[int, int, int, int]
) -> float:
    code, table, linear, w, wrap = matrix
    planes = planes_of(x)
    (square,) = divided_sums(
        _residuals, len(x), 1, planes_of(b), planes, x.shape[2], unit, scale, planes_of(code), table, linear, w, wrap,
        r, owned, chunks=threads_for(x.size), work=lambda: (np.zeros((3, planes.shape[1])),),
    )  # fmt: skip
    return square


def planes_of(array: Any) -> NDArray[Any]:
    """Return the same memory with each plane put end to end: `(n0, n1, n2)` → `(n0, n1 · n2)`."""
    flat: NDArray[Any] = array.reshape(array.shape[0], -1)
    return flat
