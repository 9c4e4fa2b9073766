"""Compiled smoothing sweeps over one level, in float32 on C-contiguous arrays with three axes.

`x` is zero where there is no unknown. Rows along the last axis are shared among threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.stencil_kernels import row_beside
from relaxon.solvers.kernels.compiled import shared
from relaxon.solvers.kernels.lean import inlined, lean_shared
from relaxon.solvers.multigrid.cycle import Single

CACHED = 500_000
"""Up to so many cells a level's arrays stay in the processor's last cache."""
LONG, SHORT = 512, 128
"""Cells that a sweep goes through at a time: short runs, where all is read from memory, as each run waits anew."""


class FaceOperator(NamedTuple):
    """`(A x)ᵢ = dᵢ xᵢ − Σ (couplings · neighbours)`, with arrays for all of it."""

    diagonal: Single
    lower0: Single
    """The coupling to the cell below along the first axis, zero unless both are unknowns."""
    lower1: Single
    lower2: Single
    wrap: NDArray[np.bool_]
    """Which axes are periodic, `(3,)`."""


@inlined
def residual_row(i, j, x, r, operator, out):  # type: ignore[no-untyped-def]
    """`out ← r − A x` along the row `(i, j)`; a pass for each neighbour, as each then vectorises."""
    n0, n1, n2 = x.shape
    wrap = operator.wrap
    xc, rr, dr = x[i, j], r[i, j], operator.diagonal[i, j]
    for k in range(n2):
        out[k] = rr[k] - dr[k] * xc[k]
    for side in range(4):  # one loop, as four would be compiled one by one
        p, q, above, across = row_beside(side, i, j, n0, n1, wrap)
        if p < 0:
            continue
        xr = x[p, q]
        cr = operator.lower0[above, across] if side < 2 else operator.lower1[above, across]
        for k in range(n2):
            out[k] += cr[k] * xr[k]
    cr = operator.lower2[i, j]
    for k in range(1, n2):
        out[k] += cr[k] * xc[k - 1]
    for k in range(n2 - 1):
        out[k] += cr[k + 1] * xc[k + 1]
    if wrap[2]:
        out[0] += cr[0] * xc[n2 - 1]
        out[n2 - 1] += cr[0] * xc[0]


@lean_shared("rows", of="r")
def first_sweep(start, stop, r, omega, inverse, x):  # type: ignore[no-untyped-def]
    """`x ← ωD⁻¹ r`, a damped Jacobi sweep from zero; `inverse` is `D⁻¹`, zero where there is no unknown."""
    _, n1, n2 = r.shape
    for row in range(start, stop):
        i, j = row // n1, row % n1
        x_row, r_row, d_row = x[i, j], r[i, j], inverse[i, j]
        for k in range(n2):
            x_row[k] = omega * d_row[k] * r_row[k]


def jacobi_sweep(x: Single, r: Single, omega: np.float32, inverse: Single, operator: FaceOperator, y: Single) -> None:
    """`y ← x + ωD⁻¹ (r − A x)`; `inverse` is `D⁻¹`."""
    _sweep(x, r, omega, inverse, True, operator, y)


def weighted_residual(x: Single, r: Single, weight: Single, operator: FaceOperator, t: Single) -> None:
    """`t ← weight · (r − A x)`."""
    _sweep(x, r, np.float32(1), weight, False, operator, t)


def _sweep(
    x: Single, r: Single, factor: np.float32, weight: Single, added: bool, operator: FaceOperator, y: Single
) -> None:
    """`y ← factor · weight · (r − A x)`, plus `x` where `added`; in two kernels, of which a grid needs one."""
    if operator.wrap.any():
        _weighted_residual(x, r, factor, weight, added, tuple(operator), y)
        return
    flat = tuple(array.reshape(-1) for array in (r, weight, *operator[:4], y))
    lengths = (x.shape[1] * x.shape[2], x.shape[2], LONG if x.size <= CACHED else SHORT)
    _flat_residual(x.reshape(-1), factor, added, *lengths, *flat)


@lean_shared("entries", of="x")
def _flat_residual(  # type: ignore[no-untyped-def]
    start, stop, x, factor, added, plane, row, block, r, weight, diagonal, lower0, lower1, lower2, y
):
    """`y ← factor · weight · (r − A x)`, plus `x` where `added`, on arrays put end to end: loops over rows are short.

    No axis is periodic: the couplings of the first cells along an axis, to those before them, are 0.
    """
    size = len(x)
    for begin in range(start, stop, block):
        end = min(begin + block, stop)
        first, count = np.uint64(begin), end - begin
        for cell in range(count):
            k = np.uint64(cell) + first
            y[k] = r[k] - diagonal[k] * x[k]
        for axis in range(3):
            lower = lower0 if axis == 0 else (lower1 if axis == 1 else lower2)
            step = plane if axis == 0 else (row if axis == 1 else 1)
            low, high, far = max(begin, step), min(end, size - step), np.uint64(step)
            # All but the first and the last planes, rows or cells have both neighbours.
            for cell in range(high - low):
                k = np.uint64(cell) + np.uint64(low)
                y[k] += lower[k] * x[k - far] + lower[k + far] * x[k + far]
            for cell in range(begin, min(low, high)):
                y[cell] += lower[cell + step] * x[cell + step]
            for cell in range(max(low, high), end):
                y[cell] += lower[cell] * x[cell - step]
        for cell in range(count):
            k = np.uint64(cell) + first
            y[k] = x[k] + factor * weight[k] * y[k] if added else weight[k] * y[k]


@lean_shared("rows", of="x")
def _weighted_residual(start, stop, x, r, factor, weight, added, operator, y):  # type: ignore[no-untyped-def]
    """`y ← factor · weight · (r − A x)`, plus `x` where `added`: one kernel for both, as it is long to compile."""
    operator = FaceOperator(*operator)
    _, n1, n2 = x.shape
    for row in range(start, stop):
        i, j = row // n1, row % n1
        y_row, x_row, w_row = y[i, j], x[i, j], weight[i, j]
        residual_row(i, j, x, r, operator, y_row)
        if added:
            for k in range(n2):
                y_row[k] = x_row[k] + factor * w_row[k] * y_row[k]
        else:
            for k in range(n2):
                y_row[k] *= w_row[k]


def colour_sweep(x: Single, r: Single, inverse: Single, colour: int, operator: FaceOperator) -> None:
    """Sweep by Gauss–Seidel in place over the cells with `i + j + k ≡ colour (mod 2)`, none of which are neighbours.

    `inverse` is `D⁻¹`. Needs an even number of cells along each periodic axis.
    """
    _colour_sweep(x, r, inverse, colour, tuple(operator))


@shared("rows", of="x")
def _colour_sweep(start, stop, x, r, inverse, colour, operator):  # type: ignore[no-untyped-def]
    operator = FaceOperator(*operator)
    _, n1, n2 = x.shape
    change = np.empty(n2, np.float32)
    for row in range(start, stop):
        i, j = row // n1, row % n1
        residual_row(i, j, x, r, operator, change)
        x_row, d_row = x[i, j], inverse[i, j]
        for k in range((i + j + colour) % 2, n2, 2):
            x_row[k] += d_row[k] * change[k]
