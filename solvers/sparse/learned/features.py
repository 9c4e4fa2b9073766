"""The features of a matrix for the network: two dozen figures of a sample of its rows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.learned import features_kernels as kernels
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem

SAMPLE = 1_024
"""Largest number of rows in the sample, which take a tenth of a millisecond."""
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
"""Steps by this fraction of the rows visit no part of a grid's rows more often than others."""
NO_SUM = 1e-7
"""Lower bound of a row's sum over its diagonal."""
FEATURES = (
    "decades of unknowns over those of the last level",
    "octaves of couplings a row: mean",
    "octaves of couplings a row: from 10 to 90 %",
    "positive weight: mean",
    "positive weight: 90 %",
    "weight over diagonal: 10 %",
    "weight over diagonal: 50 %",
    "weight over diagonal: 90 %",
    "decades of row sum over diagonal: 50 %",
    "decades of row sum over diagonal: 90 %",
    "decades of row sum over diagonal: mean",
    "decades to the weakest: 10 %",
    "decades to the weakest: 50 %",
    "decades to the weakest: 90 %",
    "strong part: mean",
    "strong part: 10 %",
    "strong part: 90 %",
    "evenness: mean",
    "evenness: 10 %",
    "octaves to neighbours' diagonals: mean",
    "octaves to neighbours' diagonals: 90 %",
    "octaves to neighbours' rows over those of all",
    "strongest over diagonal: 10 %",
    "strongest over diagonal: 50 %",
)


def sample_rows(n: int) -> NDArray[np.uint32]:
    """Return all of `n` rows, or `SAMPLE` of them in steps of the golden ratio."""
    if n <= SAMPLE:
        return np.arange(n, dtype=np.uint32)
    return np.unique((np.modf(GOLDEN * np.arange(1, SAMPLE + 1))[0] * n).astype(np.uint32))


def matrix_features(system: MatrixSystem, dense: int) -> NDArray[np.float32]:
    """Return the features of a checked matrix, `(24,) float32`, in the order of `FEATURES`.

    They are invariant under scaling of the matrix, to the bit for powers of two. Except for the distance of neighbours'
    rows they are invariant under permutations where all rows are in the sample. `dense` is that of the constants.
    """
    a, n = system.matrix, system.unknowns
    rows = sample_rows(n)
    out = np.empty((len(rows), 10))
    indptr, indices = a.indptr.view(np.uint32), a.indices.view(np.uint32)
    kernels.row_figures(rows, indptr, indices, a.data, system.diagonal, out)
    held = system.diagonal[rows] > 0
    out = np.sort(out[held], axis=0) if held.any() else np.zeros((1, 10))
    low, middle, high = (out[round(part * (len(out) - 1))] for part in (0.1, 0.5, 0.9))
    mean = out.mean(axis=0)
    sums = np.log10(np.maximum(out[:, 3], NO_SUM))
    octaves = math.log2(1.0 + n)
    features = [
        math.log10(max(n / dense, 1.0)),
        math.log2(1.0 + mean[0]),
        math.log2((1.0 + high[0]) / (1.0 + low[0])),
        mean[1], high[1],
        low[2], middle[2], high[2],
        sums[round(0.5 * (len(sums) - 1))], sums[round(0.9 * (len(sums) - 1))], sums.mean(),
        low[4], middle[4], high[4],
        mean[5], low[5], high[5],
        mean[6], low[6],
        mean[7], high[7],
        mean[8] / octaves,
        low[9], middle[9],
    ]  # fmt: skip
    return np.asarray(features, np.float32)
