"""Matrices that are symmetric but for a factor of each row, as those of volumes over which rows were divided."""
# Imported on first use, for its weight: SciPy.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 1e8
"""Largest ratio of two factors. Those of upwind differences in a constant wind grow exponentially."""
SAME, WEAK = 1e-9, 1e-20
"""Relative difference of entries, times their factors, that counts as rounding, and the least `a_ij a_ji / a_ii a_jj`
of entries that are compared: smaller ones may themselves be rounding."""


def find_row_scaling(matrix: Any) -> NDArray[np.float64] | None:
    """Return factors `d (n,)` for which `diag(d) A` is symmetric with a positive first diagonal entry; else None.

    `matrix` is a real CSR matrix in canonical form. The factors follow from `d_j / d_i = a_ij / a_ji` along a spanning
    tree, and are compared at all other entries. None where the graph is not connected.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order

    n, back = matrix.shape[0], matrix.T.tocsr()
    back.sort_indices()
    if not np.array_equal(matrix.indptr, back.indptr) or not np.array_equal(matrix.indices, back.indices):
        return None
    rows, columns = np.repeat(np.arange(n, dtype=np.int32), np.diff(matrix.indptr)), matrix.indices
    diagonal, products = matrix.diagonal(), matrix.data * back.data
    size = WEAK * np.abs(diagonal[rows] * diagonal[columns])
    if (products < -size).any():
        return None
    strong = products > size
    rows, columns, ratio = rows[strong], columns[strong], np.log(matrix.data[strong] / back.data[strong])
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int32)
    order, parent = breadth_first_order(csr_array((np.ones(len(rows)), columns, starts), shape=(n, n)), 0)
    if len(order) < n:
        return None
    in_tree = parent[columns] == rows
    found, parent[0] = np.zeros(n), 0
    found[columns[in_tree]] = ratio[in_tree]
    while parent.any():  # each node's factor relative to its parent, then to the parent's parent's, and so on
        found, parent = found + found[parent], parent[parent]
    if np.ptp(found) > np.log(LARGEST) or np.abs(found[rows] + ratio - found[columns]).max() > SAME:
        return None
    return np.asarray(np.sign(diagonal[0]) * np.exp(found - found.mean()))
