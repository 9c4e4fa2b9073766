"""The size and cost of a Cholesky factor, from the pattern and an elimination order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.direct import symbolic_kernels as kernels

Order = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class FactorSize:
    """The predicted size of a factor.

    `entries` are those of the lower triangle with the diagonal, `flops` additions and multiplications; `memory_bytes`
    is an estimate of the peak memory of the factorisation.
    """

    entries: float
    flops: float
    memory_bytes: float


def column_counts(matrix: Any, order: Order) -> NDArray[np.int64]:
    """Return the number of entries in each column of the Cholesky factor, `(n,)`, the diagonal included.

    Parameters
    ----------
    matrix : CSR with a symmetric pattern; values are ignored, so that no cancellation is assumed.
    order : `(n,)`, a permutation: row `order[i]` is eliminated in step `i`.

    Examples
    --------
    An arrow matrix fills in where its tip is eliminated first:

    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> arrow = csr_array([[4.0, 1.0, 1.0], [1.0, 4.0, 0.0], [1.0, 0.0, 4.0]])
    >>> column_counts(arrow, np.array([0, 1, 2])).tolist(), column_counts(arrow, np.array([1, 2, 0])).tolist()
    ([3, 2, 1], [2, 2, 1])
    """
    counts = np.empty(matrix.shape[0], np.int64)
    _eliminate(matrix, order, counts)
    return counts


def _eliminate(matrix: Any, order: Order, counts: NDArray[np.int64]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Write the column counts of an order; return each column's parent in the elimination tree, and a postorder."""
    n = matrix.shape[0]
    starts, indices = (np.ascontiguousarray(part, np.uint32) for part in (matrix.indptr, matrix.indices))
    first = np.ascontiguousarray(order, np.uint32)
    place = np.empty(n, np.uint32)
    place[first] = np.arange(n, dtype=np.uint32)
    parent, post, one, two, three, four = np.empty((6, n), np.uint32)
    kernels.eliminate(starts, indices, first, place, parent, one)
    kernels.postorder(parent, one, two, post)
    kernels.count_columns(starts, indices, first, place, parent, post, one, two, three, four, counts)
    return parent, post


def eliminate_in_postorder(
    matrix: Any, order: Order
) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.int64]]:
    """Return an equivalent order in a postorder of its tree, with each column's parent and count in that order.

    The factor has the same entries; a parent is `symbolic_kernels.NONE` for a root. Arguments are as of
    `column_counts`.
    """
    n = matrix.shape[0]
    counts = np.empty(n, np.int64)
    parent, post = _eliminate(matrix, order, counts)
    place = np.empty(n + 1, np.uint32)
    place[post], place[n] = np.arange(n, dtype=np.uint32), kernels.NONE
    above = place[np.minimum(parent[post], n)]
    return np.ascontiguousarray(order, np.uint32)[post], above, counts[post]


def symmetric_pattern(matrix: Any) -> Any:
    """Return a CSR matrix of positive entries with the pattern of `A + Aᵀ`."""
    # Imported here for its weight.
    from scipy.sparse import csr_array

    pattern = csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
    return csr_array(pattern + pattern.T)


def count_operations(counts: NDArray[np.int64]) -> float:
    """Return the additions and multiplications of a Cholesky factorisation; a column of `c` entries takes `c²`."""
    return float(np.sum(np.square(counts.astype(np.float64))))
