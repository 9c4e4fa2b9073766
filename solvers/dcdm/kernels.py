"""Compiled passes of the outer iteration over arrays with three axes, shared among threads by rows.

An iteration reads and writes, beside the two applications of `A`: the direction, the window's directions and images
once each to orthogonalise, then the direction and `x` once to step.
"""

from __future__ import annotations

from numba import prange

from relaxon.solvers.stencil_kernels import compiled


@compiled()
def masked(direction, fluid, first, second, d):  # type: ignore[no-untyped-def]
    """`d ← direction` in the fluid and 0 elsewhere; returns `Σ d²` (NaN and infinity show in it), `⟨d, first⟩` and
    `⟨d, second⟩`, in float64.
    """
    n0, n1, n2 = d.shape
    total, one, two = 0.0, 0.0, 0.0
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        from_row, mask, to_row, f_row, s_row = direction[i, j], fluid[i, j], d[i, j], first[i, j], second[i, j]
        for k in range(n2):
            to_row[k] = float(from_row[k]) if mask[k] else 0.0
        part, part_one, part_two = 0.0, 0.0, 0.0
        for k in range(n2):
            part += to_row[k] * to_row[k]
            part_one += to_row[k] * f_row[k]
            part_two += to_row[k] * s_row[k]
        total += part
        one += part_one
        two += part_two
    return total, one, two


@compiled()
def combined(d, factor, p, p_factor, q, q_factor):  # type: ignore[no-untyped-def]
    """`d ← factor · d − p_factor · p − q_factor · q`."""
    n0, n1, n2 = d.shape
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        d_row, p_row, q_row = d[i, j], p[i, j], q[i, j]
        for k in range(n2):
            d_row[k] = factor * d_row[k] - p_factor * p_row[k] - q_factor * q_row[k]


@compiled()
def step(x, alpha, d):  # type: ignore[no-untyped-def]
    """`x ← x + alpha · d`."""
    n0, n1, n2 = d.shape
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        x_row, d_row = x[i, j], d[i, j]
        for k in range(n2):
            x_row[k] += alpha * d_row[k]


@compiled()
def two_products(d, ad, r):  # type: ignore[no-untyped-def]
    """`⟨d, ad⟩` and `⟨d, r⟩` in one pass."""
    n0, n1, n2 = d.shape
    first, second = 0.0, 0.0
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        d_row, a_row, r_row = d[i, j], ad[i, j], r[i, j]
        one, two = 0.0, 0.0
        for k in range(n2):
            one += d_row[k] * a_row[k]
            two += d_row[k] * r_row[k]
        first += one
        second += two
    return first, second
