"""Compiled passes of the outer iteration over arrays with three axes, shared among threads by rows.

An iteration reads and writes, beside the two applications of `A`: the direction, the window's directions and images
once each to orthogonalise, then the direction and `x` once to step.
"""

from __future__ import annotations

from relaxon.solvers.kernels.lean import lean_shared


@lean_shared("rows", of="d", sums=3)
def masked(start, stop, proposal, fluid, first, second, d, parts):  # type: ignore[no-untyped-def]
    """`d ← proposal` in the fluid, 0 outside; returns `Σ d²` (NaN and infinity show in it), `⟨d, first⟩` and
    `⟨d, second⟩`, in float64. The proposal may be `d`.
    """
    _, n1, n2 = d.shape
    for row in range(start, stop):
        i, j = row // n1, row % n1
        from_row, mask, to_row, f_row, s_row = proposal[i, j], fluid[i, j], d[i, j], first[i, j], second[i, j]
        for k in range(n2):
            to_row[k] = from_row[k] if mask[k] else 0.0
        part, part_one, part_two = 0.0, 0.0, 0.0
        for k in range(n2):
            part += to_row[k] * to_row[k]
            part_one += to_row[k] * f_row[k]
            part_two += to_row[k] * s_row[k]
        parts[row, 0] = part
        parts[row, 1] = part_one
        parts[row, 2] = part_two


@lean_shared("rows", of="d")
def combined(start, stop, d, factor, p, p_factor, q, q_factor):  # type: ignore[no-untyped-def]
    """`d ← factor · d − p_factor · p − q_factor · q`."""
    _, n1, n2 = d.shape
    for row in range(start, stop):
        i, j = row // n1, row % n1
        d_row, p_row, q_row = d[i, j], p[i, j], q[i, j]
        for k in range(n2):
            d_row[k] = factor * d_row[k] - p_factor * p_row[k] - q_factor * q_row[k]


@lean_shared("rows", of="d")
def step(start, stop, x, alpha, d):  # type: ignore[no-untyped-def]
    """`x ← x + alpha · d`."""
    _, n1, n2 = d.shape
    for row in range(start, stop):
        i, j = row // n1, row % n1
        x_row, d_row = x[i, j], d[i, j]
        for k in range(n2):
            x_row[k] += alpha * d_row[k]


@lean_shared("rows", of="d", sums=2)
def two_products(start, stop, d, ad, r, parts):  # type: ignore[no-untyped-def]
    """`⟨d, ad⟩` and `⟨d, r⟩` in one pass."""
    _, n1, n2 = d.shape
    for row in range(start, stop):
        i, j = row // n1, row % n1
        d_row, a_row, r_row = d[i, j], ad[i, j], r[i, j]
        one, two = 0.0, 0.0
        for k in range(n2):
            one += d_row[k] * a_row[k]
            two += d_row[k] * r_row[k]
        parts[row, 0] = one
        parts[row, 1] = two
