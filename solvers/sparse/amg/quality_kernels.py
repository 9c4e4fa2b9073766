"""Kernels of `quality`: errors on some of a level's rows, and their distance from what aggregates interpolate."""

from __future__ import annotations

import numpy as np

from relaxon.solvers.sparse.amg.levels_kernels import ONE, brief_kernel, rows_kernel, team_kernel

RUN_OF_ROWS = 8
"""Neighbouring rows that are looked at together, as they share lines of the processor's cache."""
HALF, GOLDEN = np.uint64(32), np.uint64(0x9E3779B9)
"""Multiples of the second, the golden section of 2³², spread evenly over its range, and regularly nowhere."""


@brief_kernel
def count_lined(runs, first, last, c, v, most, strength):  # type: ignore[no-untyped-def]
    """Return how many rows of so many runs of them, all over the level, have two strong couplings.

    These are `a_ij < 0` with `a_ij² ≥ strength · most[i] · most[j]`.
    """
    n = len(first)
    lined = 0
    for run in range(runs):
        place = np.uint64(run + 1) * GOLDEN & np.uint64(0xFFFFFFFF)
        start = np.int64(place * np.uint64(max(n - RUN_OF_ROWS, 1)) >> HALF)
        for step in range(RUN_OF_ROWS):
            i = min(start + step, n - 1)
            strong = 0
            for k in range(first[i], last[i]):
                a = -v[k]
                strong += a > 0 and a * a >= strength * most[i] * most[c[k]]
            lined += strong == 2
    return lined


@rows_kernel
def relax(lo, hi, sweeps, first, inner, last, c, v, inverse, excess, sums, x):  # type: ignore[no-untyped-def]
    """Relax the error `x` of the rows `lo … hi − 1`, zero elsewhere, by backward sweeps; return its energy `xᵀAx`.

    `x[i − lo]` is the error of row `i`.
    """
    for _ in range(sweeps):
        i = hi
        while i > lo:
            i -= ONE
            total = excess[i] * x[i - lo]
            for k in range(first[i], inner[i]):
                total -= v[k] * x[c[k] - lo]
            x[i - lo] = total * inverse[i]
    energy = 0.0
    for i in range(lo, hi):
        own = x[i - lo]
        total = sums[i] * own
        for k in range(first[i], inner[i]):
            total += v[k] * (x[c[k] - lo] - own)
        for k in range(inner[i], last[i]):
            total -= v[k] * own
        energy += total * own
    return energy


@team_kernel
def sum_deviation(lo, x, group, weight, held, mean, begin, end, columns, values):  # type: ignore[no-untyped-def]
    """Return `Σ weight_i (x_i − (P m)_i)²` over the rows from `lo` that are in aggregates, with weighted means `m`.

    `x[i − lo]` is the error of row `i`. `P` has the rows `columns[begin[i]:end[i]]`, or interpolates constants where it
    has none. `held` and `mean`, an entry for each aggregate, begin as zeros.
    """
    for k in range(len(x)):
        g = group[lo + k]
        if g >= 0:
            held[np.uint32(g)] += weight[lo + k]
            mean[np.uint32(g)] += np.float64(weight[lo + k]) * x[k]
    for g in range(len(held)):
        mean[g] = mean[g] / held[g] if held[g] > 0.0 else 0.0
    far = 0.0
    for k in range(len(x)):
        i = lo + np.uint32(k)
        g = group[i]
        if g >= 0:
            value = 0.0
            if len(begin) == 0:
                value = mean[np.uint32(g)]
            else:
                for q in range(begin[i], end[i]):
                    value += values[q] * mean[columns[q]]
            far += weight[i] * (x[k] - value) ** 2
    return far
