"""Compiled passes of the outer iteration where couplings vary: directions and images in float32, sums in float64.

Arrays are put end to end, of rows of `n2` cells and planes of `plane`, as loops over single rows are short. No axis is
periodic: the couplings of the first cells along an axis, to those before them, are 0.
"""

# Indices are unsigned in some loops (a signed one might count from the end) and signed in others.
# mypy: disable-error-code="assignment"
from __future__ import annotations

from typing import Any

import numpy as np

from relaxon.solvers.kernels.compiled import divided_sums, threads_for
from relaxon.solvers.kernels.lean import lean, lean_shared

BLOCK = 512
"""Cells, in whole rows, that are gone through at a time; a longer row is a block by itself."""


@lean_shared("entries", of="d")
def conjugate(start, stop, z, fluid, factor, p, d):  # type: ignore[no-untyped-def]
    """`d ← z − factor · p` in the fluid, 0 outside; float32."""
    for cell in range(stop - start):
        k = np.uint64(cell) + np.uint64(start)
        d[k] = z[k] - factor * p[k] if fluid[k] else np.float32(0)


@lean
def _image_rows(  # type: ignore[no-untyped-def]
    start, stop, n2, plane, diagonal, lower0, lower1, lower2, unit, d, r, q, parts, total
):
    size, per = len(d), max(1, BLOCK // n2)
    for row in range(start, stop, per):
        begin, end = row * n2, min(row + per, stop) * n2
        first = np.uint64(begin)
        for cell in range(end - begin):
            k = np.uint64(cell)
            total[k] = diagonal[k + first] * float(d[k + first])
        for axis in range(3):
            lower = lower0 if axis == 0 else (lower1 if axis == 1 else lower2)
            step = plane if axis == 0 else (n2 if axis == 1 else 1)
            low, high, far = max(begin, step), min(end, size - step), np.uint64(step)
            # All but the first and the last planes, rows or cells have both neighbours.
            for cell in range(high - low):
                k = np.uint64(cell) + np.uint64(low)
                total[k - first] -= lower[k] * float(d[k - far]) + lower[k + far] * float(d[k + far])
            for cell in range(begin, min(low, high)):
                total[cell - begin] -= lower[cell + step] * float(d[cell + step])
            for cell in range(max(low, high), end):
                total[cell - begin] -= lower[cell] * float(d[cell - step])
        for own in range(row, min(row + per, stop)):
            one, two = 0.0, 0.0
            for cell in range(n2):
                k = np.uint64(cell) + np.uint64(own * n2)
                value = total[k - first] * unit
                q[k] = value
                one += value * float(d[k])
                two += float(r[k]) * float(d[k])
            parts[own, 0], parts[own, 1] = one, two


def image(n2: int, plane: int, *args: Any) -> tuple[float, ...]:
    """`q ← unit · A d`; returns `⟨d, q⟩` and `⟨d, r⟩`.

    `args`: `diagonal, lower0, lower1, lower2` (float64), `unit`, and `d, r, q` (float32).
    """
    count, longest = len(args[5]) // n2, max(BLOCK, n2)
    return divided_sums(
        _image_rows, count, 2, n2, plane, *args, chunks=threads_for(len(args[5])), work=lambda: (np.empty(longest),)
    )


@lean_shared("planes", of="x", sums=1)
def multiply(start, stop, x, y, parts):  # type: ignore[no-untyped-def]
    """`⟨x, y⟩` of float32 planes, in float64."""
    for i in range(start, stop):
        a, b, total = x[i], y[i], 0.0
        for cell in range(a.size):
            k = np.uint64(cell)
            total += float(a[k]) * float(b[k])
        parts[i, 0] = total


@lean_shared("planes", of="x", sums=1)
def advance(start, stop, x, factor, d, r, step, q, parts):  # type: ignore[no-untyped-def]
    """`x ← x + factor · d`, `r ← r − step · q`; returns `‖r‖²`. `x` float64, `step` float32."""
    for i in range(start, stop):
        x_i, d_i, r_i, q_i, total = x[i], d[i], r[i], q[i], 0.0
        for cell in range(x_i.size):
            k = np.uint64(cell)
            x_i[k] += factor * float(d_i[k])
            value = r_i[k] - step * q_i[k]
            r_i[k] = value
            total += float(value) * float(value)
        parts[i, 0] = total
