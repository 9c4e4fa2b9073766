"""Compiled passes of the outer iteration over arrays with three axes, shared among threads by rows.

An iteration reads and writes, beside the two applications of `A`: the direction, the window's directions and images
once each to orthogonalise, then the direction and `x` once to step.
"""

from __future__ import annotations

from numba import prange

from relaxon.solvers.stencil_kernels import compiled


@compiled()
def masked(direction, fluid, d):  # type: ignore[no-untyped-def]
    """`d ← direction` in the fluid and 0 elsewhere; returns Σ d² in float64 (NaN and infinity show in it)."""
    n0, n1, n2 = d.shape
    total = 0.0
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        from_row, mask, to_row = direction[i, j], fluid[i, j], d[i, j]
        part = 0.0
        for k in range(n2):
            value = float(from_row[k]) if mask[k] else 0.0
            to_row[k] = value
            part += value * value
        total += part
    return total


@compiled()
def subtract_multiple(d, p, factor):  # type: ignore[no-untyped-def]
    """`d ← d − factor · p`."""
    n0, n1, n2 = d.shape
    for row in prange(n0 * n1):
        i, j = row // n1, row % n1
        d_row, p_row = d[i, j], p[i, j]
        for k in range(n2):
            d_row[k] -= factor * p_row[k]


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
