"""The kernel that computes the features of rows."""

from __future__ import annotations

import math

import numpy as np

from relaxon.solvers.sparse.amg.levels_kernels import ONE, rows_kernel

STRONG = 0.25
"""A negative coupling is strong from this fraction of the row's strongest one."""
WEAKEST = 1e-8
"""Lower bound of the weakest coupling, relative to the row's strongest one."""


@rows_kernel
def row_figures(rows, indptr, indices, data, diagonal, out):  # type: ignore[no-untyped-def]
    """Compute figures of the rows `rows`, one line of `out (len(rows), 10)` each, which are invariant under scaling.

    In order: the number of couplings; the positive fraction of their weight; their weight, and the row's sum, over the
    diagonal; the decades from the strongest to the weakest; the fraction that is negative and strong;
    `(Σ|a|)² / (count Σa²)`, 1 where all are equal; the mean octaves from this diagonal to those of the neighbours; the
    mean octaves of the distances of their rows; the strongest negative coupling over the diagonal.
    """
    for place in range(len(rows)):
        i = rows[place]
        d = diagonal[i]
        count, positive, negative, square = 0, 0.0, 0.0, 0.0
        strongest, most, least = 0.0, 0.0, np.inf
        octaves, distance = 0.0, 0.0
        for k in range(indptr[i], indptr[i + ONE]):
            j, a = indices[k], data[k]
            if j == i:
                continue
            count += 1
            magnitude = abs(a)
            square += (a / d) * (a / d)
            if a > 0.0:
                positive += a
            else:
                negative -= a
                strongest = max(strongest, magnitude)
            most, least = max(most, magnitude), min(least, magnitude)
            octaves += abs(math.log2(diagonal[j] / d))
            distance += math.log2(1.0 + abs(np.int64(j) - np.int64(i)))
        strong = 0
        for k in range(indptr[i], indptr[i + ONE]):
            if indices[k] != i and -data[k] >= STRONG * strongest and data[k] < 0.0:
                strong += 1
        weight = positive + negative
        out[place, 0] = count
        if count == 0:
            for column in range(1, 10):
                out[place, column] = 0.0
            out[place, 3] = 1.0
            continue
        out[place, 1] = positive / weight
        out[place, 2] = weight / d
        out[place, 3] = (d + positive - negative) / d
        out[place, 4] = math.log10(max(least / most, WEAKEST))
        out[place, 5] = strong / count
        out[place, 6] = (weight / d) * (weight / d) / (count * square)
        out[place, 7] = octaves / count
        out[place, 8] = distance / count
        out[place, 9] = strongest / d
