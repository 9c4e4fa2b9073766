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
    _weighted_residual(x, r, omega, inverse, True, tuple(operator), y)


def weighted_residual(x: Single, r: Single, weight: Single | None, operator: FaceOperator, t: Single) -> None:
    """`t ← weight · (r − A x)`."""
    _weighted_residual(x, r, np.float32(1), weight, False, tuple(operator), t)


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
