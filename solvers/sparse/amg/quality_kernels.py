"""Kernels of `quality`: errors on some of a level's rows, and their distance from what aggregates interpolate."""

from __future__ import annotations

import numpy as np

from relaxon.solvers.sparse.amg.levels_kernels import ONE, rows_kernel, team_kernel


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
