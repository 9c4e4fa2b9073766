"""Compiled passes of the cycle, over one level of a hierarchy: sweeps, and the two transfers.

Every pass works in float32 on C-contiguous arrays with three axes `(n0, n1, n2)`, as `stencil_kernels` does, and
takes the level's operator as nine arguments: `constant`, `code`, `table`, `w` (one byte a cell: the fine level of a
constant coefficient) and `diagonal`, `lower0…2` (everything else), then `wrap`. The form not used is empty. One
kernel with a branch a row, as two kernels would compile twice as long and run as fast.

`x` is zero outside the level's unknowns, and stays so.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.stencil_kernels import ONE, compiled


@compiled(parallel=False)
def neighbour_row(x, i, j, constant, w, lower0, lower1, lower2, wrap, s):  # type: ignore[no-untyped-def]
    """`s ← Σ_neighbours c x` along the row `(i, j)`; `s` (n2,) holds garbage before."""
    n0, n1, n2 = x.shape
    last = n2 - 1
    none = np.float32(0)
    i0 = i - 1 if i > 0 else n0 - 1
    i1 = i + 1 if i < n0 - 1 else 0
    j0 = j - 1 if j > 0 else n1 - 1
    j1 = j + 1 if j < n1 - 1 else 0
    xc = x[i, j]
    if constant:
        w2 = w[2]
        a0 = w[0] if i > 0 or wrap[0] else none
        b0 = w[0] if i < n0 - 1 or wrap[0] else none
        a1 = w[1] if j > 0 or wrap[1] else none
        b1 = w[1] if j < n1 - 1 or wrap[1] else none
        # A missing neighbour row has weight 0; unsigned indices so that the loops vectorise.
        xa, xb, xd, xe = x[i0, j], x[i1, j], x[i, j0], x[i, j1]
        s[0] = none
        s[last] = none
        for inner in range(n2 - 2):
            k = np.uint64(inner) + ONE
            s[k] = w2 * (xc[k - ONE] + xc[k + ONE])
        if n2 > 1:
            s[0] += w2 * xc[1]
            s[last] += w2 * xc[last - 1]
        if wrap[2]:
            s[0] += w2 * xc[last]
            s[last] += w2 * xc[0]
        for k in range(n2):
            s[k] += a0 * xa[k] + b0 * xb[k] + a1 * xd[k] + b1 * xe[k]
        return
    cr = lower2[i, j]
    s[0] = none
    for k in range(1, n2):
        s[k] = cr[k] * xc[k - 1]
    for k in range(n2 - 1):
        s[k] += cr[k + 1] * xc[k + 1]
    if wrap[2]:
        s[0] += cr[0] * xc[last]
        s[last] += cr[0] * xc[0]
    if i > 0 or wrap[0]:
        xr, cr = x[i0, j], lower0[i, j]
        for k in range(n2):
            s[k] += cr[k] * xr[k]
    if i < n0 - 1 or wrap[0]:
        xr, cr = x[i1, j], lower0[i1, j]
        for k in range(n2):
            s[k] += cr[k] * xr[k]
    if j > 0 or wrap[1]:
        xr, cr = x[i, j0], lower1[i, j]
        for k in range(n2):
            s[k] += cr[k] * xr[k]
    if j < n1 - 1 or wrap[1]:
        xr, cr = x[i, j1], lower1[i, j1]
        for k in range(n2):
            s[k] += cr[k] * xr[k]


@compiled(parallel=False)
def inverse_row(i, j, constant, code, inverse, diagonal, v):  # type: ignore[no-untyped-def]
    """`v ← 1/D` along the row, 0 where the row of the matrix is zero."""
    n2 = v.shape[0]
    if constant:
        cr = code[i, j]
        for k in range(n2):
            v[k] = inverse[cr[k]]
    else:
        dr = diagonal[i, j]
        for k in range(n2):
            v[k] = np.float32(1) / dr[k] if dr[k] > np.float32(0) else np.float32(0)


@compiled()
def first_sweep(r, omega, constant, code, table, inverse, w, diagonal, l0, l1, l2, wrap, x):  # type: ignore[no-untyped-def]
    """`x ← ω D⁻¹ r`: a damped Jacobi sweep from a start of zero."""
    n0, n1, n2 = r.shape
    for row in prange(n0 * n1):
        i = row // n1
        j = row - i * n1
        xr, rr = x[i, j], r[i, j]
        inverse_row(i, j, constant, code, inverse, diagonal, xr)
        for k in range(n2):
            xr[k] *= omega * rr[k]


@compiled()
def sweep(x, r, omega, constant, code, table, inverse, w, diagonal, l0, l1, l2, wrap, y):  # type: ignore[no-untyped-def]
    """`y ← x + ω D⁻¹ (r − A x)`, which is `(1 − ω) x + ω D⁻¹ (r + Σ c x)`."""
    n0, n1, n2 = x.shape
    keep = np.float32(1) - omega
    for row in prange(n0 * n1):
        i = row // n1
        j = row - i * n1
        s = np.empty(n2, np.float32)
        yr, xr, rr = y[i, j], x[i, j], r[i, j]
        neighbour_row(x, i, j, constant, w, l0, l1, l2, wrap, s)
        inverse_row(i, j, constant, code, inverse, diagonal, yr)
        for k in range(n2):
            yr[k] = keep * xr[k] + omega * yr[k] * (rr[k] + s[k])


@compiled()
def coloured_sweep(  # type: ignore[no-untyped-def]
    x, r, parity, start, stop, constant, code, table, inverse, w, diagonal, l0, l1, l2, wrap
):
    """Gauss-Seidel on the cells of one colour, `i + j + k ≡ parity`, of the box `start … stop`, in place.

    The cells of one colour must not be neighbours (see `cycle.colours`), so the order within does not matter.
    """
    n0, n1, n2 = x.shape
    rows = stop[1] - start[1]
    none = np.float32(0)
    for row in prange((stop[0] - start[0]) * rows):
        i = start[0] + row // rows
        j = start[1] + row % rows
        first = start[2] + (i + j + start[2] + parity) % 2
        i0 = i - 1 if i > 0 else n0 - 1
        i1 = i + 1 if i < n0 - 1 else 0
        j0 = j - 1 if j > 0 else n1 - 1
        j1 = j + 1 if j < n1 - 1 else 0
        has0, has1 = i > 0 or wrap[0], i < n0 - 1 or wrap[0]
        has2, has3 = j > 0 or wrap[1], j < n1 - 1 or wrap[1]
        xc, xa, xb, xd, xe = x[i, j], x[i0, j], x[i1, j], x[i, j0], x[i, j1]
        rr = r[i, j]
        if constant:
            a0 = w[0] if has0 else none
            b0 = w[0] if has1 else none
            a1 = w[1] if has2 else none
            b1 = w[1] if has3 else none
            cr = code[i, j]
            for k in range(first, stop[2], 2):
                s = rr[k] + a0 * xa[k] + b0 * xb[k] + a1 * xd[k] + b1 * xe[k]
                if k > 0:
                    s += w[2] * xc[k - 1]
                elif wrap[2]:
                    s += w[2] * xc[n2 - 1]
                if k < n2 - 1:
                    s += w[2] * xc[k + 1]
                elif wrap[2]:
                    s += w[2] * xc[0]
                xc[k] = inverse[cr[k]] * s
        else:
            dr, ca, cb, cd, ce, c2 = diagonal[i, j], l0[i, j], l0[i1, j], l1[i, j], l1[i, j1], l2[i, j]
            for k in range(first, stop[2], 2):
                if dr[k] > none:
                    s = rr[k]
                    if has0:
                        s += ca[k] * xa[k]
                    if has1:
                        s += cb[k] * xb[k]
                    if has2:
                        s += cd[k] * xd[k]
                    if has3:
                        s += ce[k] * xe[k]
                    if k > 0:
                        s += c2[k] * xc[k - 1]
                    elif wrap[2]:
                        s += c2[0] * xc[n2 - 1]
                    if k < n2 - 1:
                        s += c2[k + 1] * xc[k + 1]
                    elif wrap[2]:
                        s += c2[0] * xc[0]
                    xc[k] = s / dr[k]


@compiled()
def residual_restricted_along_rows(  # type: ignore[no-untyped-def]
    x, r, share, halves, index, weight, constant, code, table, inverse, w, diagonal, l0, l1, l2, wrap, half
):
    """`half ← R₂ share·(r − A x)`: the residual, restricted along the last axis without ever being stored.

    `share` holds the transfer's normalisation; `index`, `weight` (m2, 4) say what a coarse cell gathers, `halves`
    whether the axis is coarsened at all.
    """
    n0, n1, n2 = x.shape
    m2 = half.shape[2]
    near, far = np.float32(0.75), np.float32(0.25)
    for row in prange(n0 * n1):
        i = row // n1
        j = row - i * n1
        s = np.empty(n2, np.float32)
        xr, rr, pr, hr = x[i, j], r[i, j], share[i, j], half[i, j]
        neighbour_row(x, i, j, constant, w, l0, l1, l2, wrap, s)
        if constant:
            cr = code[i, j]
            for k in range(n2):
                s[k] = pr[k] * (rr[k] + s[k] - table[cr[k]] * xr[k])
        else:
            dr = diagonal[i, j]
            for k in range(n2):
                s[k] = pr[k] * (rr[k] + s[k] - dr[k] * xr[k])
        if not halves:
            for k in range(n2):
                hr[k] = s[k]
            continue
        for k in range(1, m2 - 2):
            hr[k] = near * (s[2 * k] + s[2 * k + 1]) + far * (s[2 * k - 1] + s[2 * k + 2])
        # The cells at both ends: sides, odd sizes, and the way round a periodic axis.
        for end in range(min(3, m2)):
            k = 0 if end == 0 else m2 - end
            total = np.float32(0)
            for t in range(4):
                total += weight[k, t] * s[index[k, t]]
            hr[k] = total


@compiled()
def restrict_across_rows(half, index0, weight0, index1, weight1, active, coarse):  # type: ignore[no-untyped-def]
    """`coarse ← R₀ R₁ half`, zero where the coarse level has no unknown (`active` uint8)."""
    m0, m1, m2 = coarse.shape
    none = np.float32(0)
    for row in prange(m0 * m1):
        i = row // m1
        j = row - i * m1
        out = coarse[i, j]
        out[:] = none
        for a in range(4):
            for b in range(4):
                factor = weight0[i, a] * weight1[j, b]
                if factor != none:
                    hr = half[index0[i, a], index1[j, b]]
                    for k in range(m2):
                        out[k] += factor * hr[k]
        ar = active[i, j]
        for k in range(m2):
            if ar[k] == 0:
                out[k] = none


@compiled()
def prolong_and_add(e, share, halves, own0, own1, own2, x):  # type: ignore[no-untyped-def]
    """`x ← x + share·P e`; `own_a` are an axis's `(own, other, own weight, other weight)` arrays (n_a,)."""
    n0, n1, n2 = x.shape
    m2 = e.shape[2]
    none, near, far = np.float32(0), np.float32(0.75), np.float32(0.25)
    for row in prange(n0 * n1):
        i = row // n1
        j = row - i * n1
        c = np.zeros(m2, np.float32)
        for a in range(2):
            for b in range(2):
                factor = own0[2 + a][i] * own1[2 + b][j]
                if factor != none:
                    er = e[int(own0[a][i]), int(own1[b][j])]
                    for k in range(m2):
                        c[k] += factor * er[k]
        xr, pr = x[i, j], share[i, j]
        if not halves:
            for k in range(n2):
                xr[k] += pr[k] * c[k]
            continue
        for k in range(1, m2 - 2):
            xr[2 * k] += pr[2 * k] * (near * c[k] + far * c[k - 1])
            xr[2 * k + 1] += pr[2 * k + 1] * (near * c[k] + far * c[k + 1])
        middle = max(2, 2 * (m2 - 2))
        for k in range(n2):
            if k < 2 or k >= middle:
                own, other = int(own2[0][k]), int(own2[1][k])
                xr[k] += pr[k] * (own2[2][k] * c[own] + own2[3][k] * c[other])


from numba import prange  # noqa: E402
