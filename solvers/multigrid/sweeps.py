"""Compiled smoothing sweeps over one level, in float32 on C-contiguous arrays with three axes.

A level's operator is `diagonal`, per axis the coupling `lower` to the cell below (zero unless both are unknowns), and
`wrap`; `x` is zero where there is no unknown. Rows along the last axis are shared among threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from relaxon.solvers.grid.stencil_kernels import row_beside
from relaxon.solvers.kernels.compiled import shared
from relaxon.solvers.kernels.lean import inlined, lean_shared
from relaxon.solvers.multigrid.single import Single


@inlined
def residual_row(i, j, x, r, diagonal, lower0, lower1, lower2, wrap, out):  # type: ignore[no-untyped-def]
    """`out ← r − A x` along the row `(i, j)`; a pass for each neighbour, as each then vectorises."""
    n0, n1, n2 = x.shape
    xc, rr, dr = x[i, j], r[i, j], diagonal[i, j]
    for k in range(n2):
        out[k] = rr[k] - dr[k] * xc[k]
    for side in range(4):  # one loop, as four would be compiled one by one
        p, q, above, across = row_beside(side, i, j, n0, n1, wrap)
        if p < 0:
            continue
        xr = x[p, q]
        cr = lower0[above, across] if side < 2 else lower1[above, across]
        for k in range(n2):
            out[k] += cr[k] * xr[k]
    cr = lower2[i, j]
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


def jacobi_sweep(x: Single, r: Single, omega: np.float32, inverse: Single, *operator: Any) -> None:
    """`y ← x + ωD⁻¹ (r − A x)`; `operator` is `diagonal, lower0, lower1, lower2, wrap`, then `y`."""
    _weighted_residual(x, r, omega, inverse, True, *operator)


def shared_residual(x: Single, r: Single, share: Single | None, *operator: Any) -> None:
    """`t ← share · (r − A x)`, ready to be restricted; `operator` as in `jacobi_sweep`, then `t`."""
    _weighted_residual(x, r, np.float32(1), share, False, *operator)


@lean_shared("rows", of="x")
def _weighted_residual(start, stop, x, r, factor, weight, added, diagonal, lower0, lower1, lower2, wrap, y):  # type: ignore[no-untyped-def]
    """`y ← factor · weight · (r − A x)`, plus `x` where `added`: one kernel for both, as it is long to compile."""
    _, n1, n2 = x.shape
    for row in range(start, stop):
        i, j = row // n1, row % n1
        y_row, x_row, w_row = y[i, j], x[i, j], weight[i, j]
        residual_row(i, j, x, r, diagonal, lower0, lower1, lower2, wrap, y_row)
        if added:
            for k in range(n2):
                y_row[k] = x_row[k] + factor * w_row[k] * y_row[k]
        else:
            for k in range(n2):
                y_row[k] *= w_row[k]


@inlined
def _colour_row(i, j, x, r, inverse, colour, diagonal, lower0, lower1, lower2, wrap, change):  # type: ignore[no-untyped-def]
    residual_row(i, j, x, r, diagonal, lower0, lower1, lower2, wrap, change)
    x_row, d_row = x[i, j], inverse[i, j]
    for k in range((i + j + colour) % 2, len(x_row), 2):
        x_row[k] += d_row[k] * change[k]


@shared("rows", of="x")
def colour_sweep(start, stop, x, r, inverse, colour, diagonal, lower0, lower1, lower2, wrap):  # type: ignore[no-untyped-def]
    """Gauss–Seidel in place on the cells with `i + j + k ≡ colour (mod 2)`, none of which are neighbours.

    `inverse` is `D⁻¹`. Needs an even number of cells along each periodic axis.
    """
    _, n1, n2 = x.shape
    change = np.empty(n2, np.float32)
    for row in range(start, stop):
        i, j = row // n1, row % n1
        _colour_row(i, j, x, r, inverse, colour, diagonal, lower0, lower1, lower2, wrap, change)
