"""Two passes over a matrix that answer what a dozen of SciPy's would, where nothing is amiss with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.inspection_kernels import STORED_ZERO, look_at_couplings, look_at_rows
from relaxon.solvers.threads import divide, get_num_threads

SHARED_ROWS = 20_000
"""Rows from which on the pass is divided among threads."""
PARTS = 64
"""Runs of rows, each with flags of its own."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found: `flags` of what is amiss (0: nothing), and of each row the diagonal, the sum and that of the
    magnitudes."""

    flags: int
    diagonal: NDArray[np.float64]
    sums: NDArray[np.float64]
    magnitudes: NDArray[np.float64]


def inspect(matrix: Any, tolerance: float) -> Inspection:
    """Look through a CSR matrix with float64 values and int32 indices; it is not modified.

    `tolerance` is that of symmetry and of the minors of two rows, relative to `√(a_ii a_jj)`.
    """
    n = matrix.shape[0]
    indptr, indices = matrix.indptr.view(np.uint32), matrix.indices.view(np.uint32)
    diagonal, root, sums, magnitudes = (np.zeros(n) for _ in range(4))
    count = min(PARTS, n) if n >= SHARED_ROWS else 1
    bounds = (np.arange(count + 1, dtype=np.int64) * n // count).astype(np.uint32)
    flags = np.zeros(count, np.int64)
    chunks = get_num_threads() if n >= SHARED_ROWS else 1
    divide(
        look_at_rows,
        count,
        bounds,
        indptr,
        indices,
        matrix.data,
        diagonal,
        root,
        sums,
        magnitudes,
        flags,
        chunks=chunks,
    )
    found = int(np.bitwise_or.reduce(flags))
    if not found & ~STORED_ZERO:
        found |= int(look_at_couplings(indptr, indices, matrix.data, root, tolerance, indptr[:-1].copy()))
    return Inspection(found, diagonal, sums, magnitudes)
