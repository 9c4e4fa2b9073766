"""Compiled passes of conjugate gradients over arrays with three axes; rows along the last axis shared by threads.

Passes over memory an iteration, in float64 arrays read or written: `A p` and its product 3, `step` 6, `next_direction`
3; the preconditioner's own come on top (none for the diagonal one, which `step` applies).
"""

from __future__ import annotations

from relaxon.solvers.kernels.lean import lean_shared


@lean_shared("rows", of="x", sums=2)
def step(start, stop, alpha, p, ap, inverse_diagonal, x, r, z, parts):  # type: ignore[no-untyped-def]
    """`x ← x + αp`, `r ← r − α·ap`, `z ← D⁻¹r`; returns `⟨r, r⟩` and `⟨r, z⟩`."""
    _, n1, n2 = x.shape
    for row in range(start, stop):
        i, j = row // n1, row % n1
        p_row, a_row, d_row = p[i, j], ap[i, j], inverse_diagonal[i, j]
        x_row, r_row, z_row = x[i, j], r[i, j], z[i, j]
        for k in range(n2):
            x_row[k] += alpha * p_row[k]
        one, two = 0.0, 0.0
        for k in range(n2):
            value = r_row[k] - alpha * a_row[k]
            r_row[k] = value
            z_row[k] = d_row[k] * value
            one += value * value
            two += value * d_row[k] * value
        parts[row, 0] = one
        parts[row, 1] = two


@lean_shared("rows", of="x", sums=1)
def plain_step(start, stop, alpha, p, ap, x, r, parts):  # type: ignore[no-untyped-def]
    """`x ← x + αp`, `r ← r − α·ap`; returns `⟨r, r⟩`."""
    _, n1, n2 = x.shape
    for row in range(start, stop):
        i, j = row // n1, row % n1
        p_row, a_row, x_row, r_row = p[i, j], ap[i, j], x[i, j], r[i, j]
        for k in range(n2):
            x_row[k] += alpha * p_row[k]
        part = 0.0
        for k in range(n2):
            value = r_row[k] - alpha * a_row[k]
            r_row[k] = value
            part += value * value
        parts[row, 0] = part


@lean_shared("rows", of="p")
def next_direction(start, stop, z, beta, p):  # type: ignore[no-untyped-def]
    """`p ← z + βp`."""
    _, n1, n2 = p.shape
    for row in range(start, stop):
        i, j = row // n1, row % n1
        z_row, p_row = z[i, j], p[i, j]
        for k in range(n2):
            p_row[k] = z_row[k] + beta * p_row[k]
