"""Compiled passes that judge an `x` on a grid: the residual in float64, and the largest part of a row that it is.

`|r|/(|A||x| + |b|)` is divided only where it exceeds what has been found so far: counting such cells vectorises, and
there are none in most planes and rows.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.grid.plane_kernels import applied_plane, plane_of
from relaxon.solvers.grid.stencil_kernels import row_beside
from relaxon.solvers.kernels.compiled import part, plain
from relaxon.solvers.kernels.lean import lean


@part
def _magnitudes(x, out):  # type: ignore[no-untyped-def]
    """`out ← |x|` on a plane."""
    for cell in range(x.size):
        k = np.uint64(cell)
        out[k] = abs(x[k])


@part
def largest_ratio(r, m, first, last, held):  # type: ignore[no-untyped-def]
    """Return the largest of `held` and `r/m` over entries `first … last − 1`; neither `r` nor `m` is negative."""
    above = 0
    for cell in range(first, last):
        k = np.uint64(cell)
        above += r[k] > held * m[k]
    if above > 0:
        for cell in range(first, last):
            if r[cell] > held * m[cell]:
                held = r[cell] / m[cell]
    return held


@plain
def constant_figures(start, stop, b, x, n2, unit, code, table, linear, w, away, wrap, owned, worst, parts, work):  # type: ignore[no-untyped-def]
    """`‖b − unit · A x‖²` for κ = 1, arrays as in `plane_kernels`; `worst` (n0,) has the backward errors.

    `away` is `−w`: with it `applied_plane` gives `|A||x|` from `|x|`. `worst` is the largest of the planes of a run so
    far, 0 where `owned` leaves a plane out. `work` (7, n1 · n2) of zeros.
    """
    nothing, y, row, m = work[0], work[1], work[2], work[3]
    zero = nothing[:n2]
    held, fresh = 0.0, True
    for i in range(start, stop):
        parts[i, 0] = 0.0
        worst[i] = 0.0
        if i < owned[0] or i >= owned[1]:
            continue
        below, above = plane_of(x, i - 1, wrap[0], nothing), plane_of(x, i + 1, wrap[0], nothing)
        low, middle, high = work[4 + (i + 2) % 3], work[4 + i % 3], work[4 + (i + 1) % 3]
        if fresh:
            _magnitudes(below, low)
            _magnitudes(x[i], middle)
            fresh = False
        _magnitudes(above, high)
        for turn in range(2):  # a loop, as two calls would be compiled twice
            one, two, three, weights, out = (below, x[i], above, w, y) if turn == 0 else (low, middle, high, away, m)
            applied_plane(one, two, three, code[i], table, linear, weights, n2, wrap, zero, row, out)
        given = b[i]
        total = 0.0
        for cell in range(owned[2], owned[3]):
            k = np.uint64(cell)
            value = given[k] - unit * y[k]
            total += value * value
        for cell in range(owned[2], owned[3]):
            k = np.uint64(cell)
            y[k] = abs(given[k] - unit * y[k])
            m[k] = unit * m[k] + abs(given[k])
        held = largest_ratio(y, m, owned[2], owned[3], held)
        parts[i, 0] = total
        worst[i] = held


@part
def _add_row(coupling, x, r, m):  # type: ignore[no-untyped-def]
    """`r ← r + c x`, `m ← m + |c x|`."""
    for cell in range(len(r)):
        k = np.uint64(cell)
        value = coupling[k] * x[k]
        r[k] += value
        m[k] += abs(value)


@lean
def variable_figures(start, stop, b, given, x, diagonal, lower0, lower1, lower2, wrap, gone, worst, parts, work):  # type: ignore[no-untyped-def]
    """`‖r‖²`, then of the rows that are left, where `gone` is false, `‖D^−½ r‖²`, `‖D^−½ given‖²`, `‖r‖²` and
    `‖given‖²`, with `r = b − A x` and a coefficient on each face. `worst` (rows,) has the largest backward error of a
    run so far. `work` (2, n2).
    """
    n0, n1, n2 = x.shape
    r, m = work[0], work[1]
    held = 0.0
    for row in range(start, stop):
        i, j = row // n1, row % n1
        xc, dr, br, sr, gr = x[i, j], diagonal[i, j], b[i, j], given[i, j], gone[i, j]
        for cell in range(n2):
            k = np.uint64(cell)
            value = dr[k] * xc[k]
            r[k] = br[k] - value
            m[k] = abs(value) + abs(br[k])
        for side in range(4):  # one loop, as four would be compiled one by one
            p, q, above, across = row_beside(side, i, j, n0, n1, wrap)
            if p < 0:
                continue
            xr = x[p, q]
            cr = lower0[above, across] if side < 2 else lower1[above, across]
            _add_row(cr, xr, r, m)
        cr = lower2[i, j]
        _add_row(cr[1:], xc[:-1], r[1:], m[1:])
        _add_row(cr[1:], xc[1:], r[:-1], m[:-1])
        if wrap[2]:
            first, last = cr[0] * xc[n2 - 1], cr[0] * xc[0]
            r[0] += first
            m[0] += abs(first)
            r[n2 - 1] += last
            m[n2 - 1] += abs(last)
        square, scaled, scaled_side, left, left_side = 0.0, 0.0, 0.0, 0.0, 0.0
        for cell in range(n2):
            k = np.uint64(cell)
            square += r[k] * r[k]
            weight = 0.0 if gr[k] else 1.0
            inverse = weight / dr[k] if dr[k] > 0.0 else 0.0
            left += weight * (r[k] * r[k])
            left_side += weight * (sr[k] * sr[k])
            scaled += inverse * (r[k] * r[k])
            scaled_side += inverse * (sr[k] * sr[k])
            r[k] = abs(r[k])
        held = largest_ratio(r, m, 0, n2, held)
        worst[row] = held
        parts[row, 0] = square
        parts[row, 1] = scaled
        parts[row, 2] = scaled_side
        parts[row, 3] = left
        parts[row, 4] = left_side
