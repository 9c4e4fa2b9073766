"""Matrices that are symmetric but for a factor of each row, as those of volumes over which rows were divided."""
# Imported on first use, for its weight: SciPy.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.system.matrix_kinds import row_maxima

LARGEST = 1e8
"""Largest ratio of two factors. Those of upwind differences in a constant wind grow exponentially."""
SAME, WEAK = 1e-9, 1e-12
"""Relative difference of entries, times their factors, that counts as rounding, and the fraction of a row's largest
magnitude up to which an entry may be nothing but rounding."""


def find_row_scaling(matrix: Any) -> NDArray[np.float64] | None:
    """Return factors `d (n,)` for which `diag(d) A` is symmetric with a positive first diagonal entry; else None.

    `matrix` is a real CSR matrix in canonical form. The factors follow from `d_j / d_i = a_ij / a_ji` along a spanning
    tree, and are compared at all other entries. None where the graph is not connected.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order

    n, size = matrix.shape[0], np.abs(matrix.data)
    rows = np.repeat(np.arange(n, dtype=np.int32), np.diff(matrix.indptr))
    strong = size > WEAK * row_maxima(matrix)[rows]
    rows, columns, values = rows[strong], matrix.indices[strong], matrix.data[strong]
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int32)
    graph = csr_array((values, columns, starts), shape=(n, n))
    back = graph.T.tocsr()
    back.sort_indices()
    if not np.array_equal(starts, back.indptr) or not np.array_equal(columns, back.indices):
        return None
    if not (values * back.data > 0).all():
        return None
    ratio = np.log(values / back.data)
    order, parent = breadth_first_order(graph, 0)
    if len(order) < n or matrix.diagonal()[0] == 0:
        return None
    in_tree = parent[columns] == rows
    found, parent[0] = np.zeros(n), 0
    found[columns[in_tree]] = ratio[in_tree]
    while parent.any():  # each node's factor relative to its parent, then to the parent's parent's, and so on
        found, parent = found + found[parent], parent[parent]
    if np.ptp(found) > np.log(LARGEST) or np.abs(found[rows] + ratio - found[columns]).max() > SAME:
        return None
    return np.asarray(np.sign(matrix.diagonal()[0]) * np.exp(found - found.mean()))
