"""Compiled passes of the V-cycle over one level, in float32 on C-contiguous arrays with three axes.

A level's operator is `diagonal`, per axis the coupling `lower` to the cell below (zero unless both are unknowns), and
`wrap`; `x` is zero where there is no unknown. Rows along the last axis are shared among threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from relaxon.solvers.stencil_kernels import FAST, compiled


@njit(nogil=True, cache=True, fastmath=FAST, inline="always")
def residual_row(i, j, x, r, diagonal, lower0, lower1, lower2, wrap, out):  # type: ignore[no-untyped-def]
    """`out ← r − A x` along the row `(i, j)`; a loop for each neighbour, as each then vectorises."""
    n0, n1, n2 = x.shape
    xc, rr, dr = x[i, j], r[i, j], diagonal[i, j]
    for k in range(n2):
        out[k] = rr[k] - dr[k] * xc[k]
    if i > 0 or wrap[0]:
        xr, cr = x[i - 1 if i > 0 else n0 - 1, j], lower0[i, j]
        for k in range(n2):
            out[k] += cr[k] * xr[k]
    if i < n0 - 1 or wrap[0]:
        above = i + 1 if i < n0 - 1 else 0
        xr, cr = x[above, j], lower0[above, j]
        for k in range(n2):
            out[k] += cr[k] * xr[k]
    if j > 0 or wrap[1]:
        xr, cr = x[i, j - 1 if j > 0 else n1 - 1], lower1[i, j]
        for k in range(n2):
            out[k] += cr[k] * xr[k]
    if j < n1 - 1 or wrap[1]:
        above = j + 1 if j < n1 - 1 else 0
        xr, cr = x[i, above], lower1[i, above]
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


@compiled()
def first_sweep(r, omega, inverse, x):  # type: ignore[no-untyped-def]
    """`x ← ωD⁻¹ r`, a damped Jacobi sweep from zero; `inverse` is `D⁻¹`, zero where there is no unknown."""
    n0, n1, n2 = r.shape
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        x_row, r_row, d_row = x[i, j], r[i, j], inverse[i, j]
        for k in range(n2):
            x_row[k] = omega * d_row[k] * r_row[k]


@compiled()
def jacobi_sweep(x, r, omega, inverse, diagonal, lower0, lower1, lower2, wrap, y):  # type: ignore[no-untyped-def]
    """`y ← x + ωD⁻¹ (r − A x)`."""
    n0, n1, n2 = x.shape
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        y_row, x_row, d_row = y[i, j], x[i, j], inverse[i, j]
        residual_row(i, j, x, r, diagonal, lower0, lower1, lower2, wrap, y_row)
        for k in range(n2):
            y_row[k] = x_row[k] + omega * d_row[k] * y_row[k]


@compiled()
def colour_sweep(x, r, inverse, colour, diagonal, lower0, lower1, lower2, wrap):  # type: ignore[no-untyped-def]
    """Gauss–Seidel in place on the cells with `i + j + k ≡ colour (mod 2)`, none of which are neighbours.

    `inverse` is `D⁻¹`. Needs an even number of cells along each periodic axis.
    """
    n0, n1, n2 = x.shape
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        change = np.empty(n2, np.float32)
        residual_row(i, j, x, r, diagonal, lower0, lower1, lower2, wrap, change)
        x_row, d_row = x[i, j], inverse[i, j]
        for k in range((i + j + colour) % 2, n2, 2):
            x_row[k] += d_row[k] * change[k]


@compiled()
def shared_residual(x, r, share, diagonal, lower0, lower1, lower2, wrap, t):  # type: ignore[no-untyped-def]
    """`t ← share · (r − A x)`: the residual, ready to be restricted."""
    n0, n1, n2 = x.shape
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        t_row, s_row = t[i, j], share[i, j]
        residual_row(i, j, x, r, diagonal, lower0, lower1, lower2, wrap, t_row)
        for k in range(n2):
            t_row[k] *= s_row[k]


@compiled()
def restrict(t, index0, weight0, index1, weight1, index2, weight2, active, coarse):  # type: ignore[no-untyped-def]
    """`coarse ← Pᵀ t` without the share; `index_a`, `weight_a` (m_a, 4): the fine cells a coarse one gathers."""
    m0, m1, m2 = coarse.shape
    n2 = t.shape[2]
    for row in prange(m0 * m1):
        i, j = row // m1, row % m1
        line = np.zeros(n2, np.float32)
        for a in range(4):
            for b in range(4):
                factor = weight0[i, a] * weight1[j, b]
                if factor != 0.0:
                    t_row = t[index0[i, a], index1[j, b]]
                    for k in range(n2):
                        line[k] += factor * t_row[k]
        c_row, a_row = coarse[i, j], active[i, j]
        for k in range(m2):
            value = np.float32(0.0)
            for c in range(4):
                value += weight2[k, c] * line[index2[k, c]]
            c_row[k] = value if a_row[k] else np.float32(0.0)


@compiled()
def prolong_add(coarse, over, share, own, other, near, far, own1, other1, near1, far1, own2, other2, near2, far2, x):  # type: ignore[no-untyped-def]
    """`x ← x + over · share · P coarse`; per axis each fine cell's own and other coarse cell with their weights."""
    n0, n1, n2 = x.shape
    m2 = coarse.shape[2]
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        line = np.zeros(m2, np.float32)
        for a in range(2):
            ci, wi = (own[i], near[i]) if a == 0 else (other[i], far[i])
            for b in range(2):
                cj, wj = (own1[j], near1[j]) if b == 0 else (other1[j], far1[j])
                factor = over * wi * wj
                if factor != 0.0:
                    c_row = coarse[ci, cj]
                    for k in range(m2):
                        line[k] += factor * c_row[k]
        x_row, s_row = x[i, j], share[i, j]
        for k in range(n2):
            x_row[k] += s_row[k] * (near2[k] * line[own2[k]] + far2[k] * line[other2[k]])


@compiled()
def coarsen(lower0, lower1, lower2, boundary, steps, wrap, half, c0, c1, c2, cb):  # type: ignore[no-untyped-def]
    """Couplings and boundary terms of the coarse level: sums over the faces between aggregates of `steps` cells.

    The sum over a face of a coarsened axis is halved (`half_a` = ½), which makes the coarse operator the
    discretisation with the doubled width, times the number of cells in an aggregate.
    """
    n0, n1, n2 = boundary.shape
    m0, m1, m2 = cb.shape
    softer = min(half[0], min(half[1], half[2]))
    for row in prange(m0 * m1):
        i, j = row // m1, row % m1
        for k in range(m2):
            s0, s1, s2, sb = 0.0, 0.0, 0.0, 0.0
            for a in range(i * steps[0], min((i + 1) * steps[0], n0)):
                for b in range(j * steps[1], min((j + 1) * steps[1], n1)):
                    for c in range(k * steps[2], min((k + 1) * steps[2], n2)):
                        sb += boundary[a, b, c]
                        if a == i * steps[0]:
                            s0 += lower0[a, b, c]
                        if b == j * steps[1]:
                            s1 += lower1[a, b, c]
                        if c == k * steps[2]:
                            s2 += lower2[a, b, c]
            # A coarse cell that is its own neighbour around a periodic axis has no coupling along it.
            c0[i, j, k] = half[0] * s0 if i > 0 or (wrap[0] and m0 > 1) else 0.0
            c1[i, j, k] = half[1] * s1 if j > 0 or (wrap[1] and m1 > 1) else 0.0
            c2[i, j, k] = half[2] * s2 if k > 0 or (wrap[2] and m2 > 1) else 0.0
            cb[i, j, k] = softer * sb


@compiled()
def coarsen_states(states, steps, coarse):  # type: ignore[no-untyped-def]
    """A coarse cell holds an unknown (1) if a child does, else a known value (2) if a child does, else nothing (0)."""
    n0, n1, n2 = states.shape
    m0, m1, m2 = coarse.shape
    for row in prange(m0 * m1):
        i, j = row // m1, row % m1
        for k in range(m2):
            unknown, known = False, False
            for a in range(i * steps[0], min((i + 1) * steps[0], n0)):
                for b in range(j * steps[1], min((j + 1) * steps[1], n1)):
                    for c in range(k * steps[2], min((k + 1) * steps[2], n2)):
                        unknown |= states[a, b, c] == 1
                        known |= states[a, b, c] == 2
            coarse[i, j, k] = 1 if unknown else (2 if known else 0)


@compiled()
def diagonals(lower0, lower1, lower2, boundary, wrap, out):  # type: ignore[no-untyped-def]
    """The diagonal: the couplings to all six neighbours and the boundary term."""
    n0, n1, n2 = boundary.shape
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        for k in range(n2):
            d = boundary[i, j, k] + lower0[i, j, k] + lower1[i, j, k] + lower2[i, j, k]
            if i < n0 - 1 or wrap[0]:
                d += lower0[i + 1 if i < n0 - 1 else 0, j, k]
            if j < n1 - 1 or wrap[1]:
                d += lower1[i, j + 1 if j < n1 - 1 else 0, k]
            if k < n2 - 1 or wrap[2]:
                d += lower2[i, j, k + 1 if k < n2 - 1 else 0]
            out[i, j, k] = d


@compiled()
def shares(  # type: ignore[no-untyped-def]
    states,
    coarse_states,
    own0,
    other0,
    near0,
    far0,
    own1,
    other1,
    near1,
    far1,
    own2,
    other2,
    near2,
    far2,
    beyond0,
    beyond1,
    beyond2,
    out,
):
    """1 over the weights that a fine unknown's interpolation finds in the domain; 0 where there is no unknown.

    Walls are left out and the rest makes up for them; known values and Dirichlet sides (`beyond_a`, the weight that
    falls beyond one) count as the zeros they are.
    """
    n0, n1, n2 = states.shape
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        for k in range(n2):
            if states[i, j, k] != 1:
                out[i, j, k] = 0.0
                continue
            inside = 0.0
            for a in range(2):
                ci, wi = (own0[i], near0[i]) if a == 0 else (other0[i], far0[i])
                for b in range(2):
                    cj, wj = (own1[j], near1[j]) if b == 0 else (other1[j], far1[j])
                    for c in range(2):
                        ck, wk = (own2[k], near2[k]) if c == 0 else (other2[k], far2[k])
                        if coarse_states[ci, cj, ck] != 0:
                            inside += wi * wj * wk
            kept = (1.0 - beyond0[i]) * (1.0 - beyond1[j]) * (1.0 - beyond2[k])
            out[i, j, k] = kept / inside
