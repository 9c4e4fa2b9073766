"""The features of a matrix for the cost model, from a sample of its rows and from the levels of its graph."""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.choice.features_kernels import sum_rows
from relaxon.solvers.sparse.system.inspection_kernels import level_of_rows
from relaxon.solvers.sparse.system.row_runs import locate_entries, sample_rows

SAMPLE = 2_000
"""Number of rows in the sample, evenly spaced."""
MOST_LEVELS = 4_000
"""Limit of the levels that are counted: with more, each has a few nodes, and a factor costs little."""
COMPILED = 20_000
"""Rows from which a compiled search is worth its compilation."""
TINY = 1e-12


@dataclass(frozen=True, slots=True)
class MatrixFeatures:
    """Features of a symmetric matrix with a positive diagonal; those of the values come from a sample of its rows."""

    unknowns: int
    entries: int
    dominance: float
    """The largest `Σ_{j≠i} |a_ij| / a_ii`."""
    gap: float
    """The mean of `1 − Σ_{j≠i} |a_ij| / a_ii`, 0 where that is negative."""
    positive: float
    """The positive fraction of the off-diagonal weight, 0 to 1."""
    anisotropy: float
    """The mean of `log(max |a_ij| / mean |a_ij|)` over the rows."""
    contrast: float
    """The standard deviation of `log a_ii`."""
    hubs: float
    """`log` of the longest row over the mean one."""

    @classmethod
    def of(cls, matrix: Any, diagonal: NDArray[np.float64]) -> MatrixFeatures:
        """Return the features of a matrix in canonical CSR form, which is not modified."""
        n = matrix.shape[0]
        rows = sample_rows(n, SAMPLE)
        hubs = math.log(max(float(np.diff(matrix.indptr).max()) * n / max(matrix.nnz, 1), 1.0))
        if n >= COMPILED and matrix.indices.dtype == np.int32:
            found = np.zeros(5)
            sum_rows(rows, matrix.indptr.view(np.uint32), matrix.indices.view(np.uint32), matrix.data, diagonal, found)
            dominance, gap, positive, anisotropy, contrast = found.tolist()
            return cls(n, int(matrix.nnz), dominance, gap, positive, anisotropy, contrast, hubs)
        entries, counts = locate_entries(matrix.indptr, rows)
        which = np.repeat(np.arange(len(rows)), counts)
        values = matrix.data[entries] * (matrix.indices[entries] != rows[which])
        size = np.abs(values)
        sums = np.bincount(which, size, len(rows))
        largest, filled = np.zeros(len(rows)), counts > 0
        if len(size):
            largest[filled] = np.maximum.reduceat(size, (np.cumsum(counts) - counts)[filled])
        own = np.where(diagonal[rows] > 0, diagonal[rows], 1.0)
        others, total = np.maximum(counts - 1, 1), float(sums.sum())
        ratio = np.where(sums > 0, largest * others / np.maximum(sums, np.finfo(float).tiny), 1.0)
        return cls(
            unknowns=n,
            entries=int(matrix.nnz),
            dominance=float((sums / own).max()),
            gap=max(float((1.0 - sums / own).mean()), 0.0),
            positive=float(values[values > 0].sum()) / total if total > 0 else 0.0,
            anisotropy=float(np.log(np.maximum(ratio, 1.0)).mean()),
            contrast=float(np.log(own).std()),
            hubs=hubs,
        )


def count_levels(matrix: Any) -> float:
    """Return the number of levels of a breadth-first search of a symmetric pattern, from a node far from the middle
    one.

    Where the graph is not connected, the count of one component is scaled to all of it.
    """
    n = matrix.shape[0]
    if n < COMPILED or matrix.indices.dtype != np.int32:
        return _count_few(matrix)
    indptr, indices = matrix.indptr.view(np.uint32), matrix.indices.view(np.uint32)
    order, start, met = np.empty(n, np.uint32), n // 2, 0
    for _ in range(2):
        level = np.full(n, -1, np.int32)
        met = level_of_rows(indptr, indices, np.uint32(start), level, order)
        start = order[met - 1]
    return float(min(int(level[start]) + 1, MOST_LEVELS) * n / met)


def _count_few(matrix: Any) -> float:
    from scipy.sparse.csgraph import breadth_first_order

    n = matrix.shape[0]
    order, _ = breadth_first_order(matrix, n // 2, directed=True)
    order, before = breadth_first_order(matrix, int(order[-1]), directed=True)
    levels, node = 1, int(order[-1])
    while levels < MOST_LEVELS and (node := int(before[node])) >= 0:
        levels += 1
    return float(levels * n / len(order))
