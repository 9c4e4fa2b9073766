"""Two passes over a matrix that answer what a dozen of SciPy's would, where nothing is amiss with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.inspection_kernels import (
    ASYMMETRIC,
    STORED_ZERO,
    label_components,
    look_at_couplings,
    look_at_rows,
    spread,
)
from relaxon.solvers.threads import divide, get_num_threads

SHARED_ROWS = 20_000
"""Rows from which on the pass is divided among threads."""
PARTS = 64
"""Runs of rows, each with flags of its own."""

SWEEPS = 8
"""Over the couplings, forwards and backwards in turn, before components are looked for in general."""


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
    above = np.zeros(n, np.uint32)
    count = min(PARTS, n) if n >= SHARED_ROWS else 1
    bounds = (np.arange(count + 1, dtype=np.int64) * n // count).astype(np.uint32)
    flags, counts = np.zeros(count, np.int64), np.zeros(count, np.int64)
    chunks = get_num_threads() if n >= SHARED_ROWS else 1
    divide(
        look_at_rows, count, bounds, indptr, indices, matrix.data, diagonal, root, sums, magnitudes, above, counts,
        flags, chunks=chunks,
    )  # fmt: skip
    found = int(np.bitwise_or.reduce(flags))
    if not found & ~STORED_ZERO:
        divide(
            look_at_couplings, count, bounds, indptr, indices, matrix.data, root, above, tolerance, flags,
            chunks=chunks, work=lambda: (np.zeros(n, np.uint32),),
        )  # fmt: skip
        found |= int(np.bitwise_or.reduce(flags)) | (ASYMMETRIC if counts.sum() else 0)
    return Inspection(found, diagonal, sums, magnitudes)


def reaches_all(matrix: Any, held: NDArray[np.bool_]) -> bool:
    """Whether a few sweeps over the couplings find that every row is connected with one that is held.

    `held` is written to. False says only that they were too few to tell.
    """
    indptr, indices = matrix.indptr.view(np.uint32), matrix.indices.view(np.uint32)
    left = len(held)
    for step in range(SWEEPS):
        before, left = left, spread(step % 2 == 1, indptr, indices, held)
        if left == 0 or left == before:
            break
    return bool(left == 0)


def components(matrix: Any) -> tuple[int, NDArray[np.int32]]:
    """Return how many connected components a symmetric pattern with int32 indices has, and each row's."""
    label, waiting = np.full(matrix.shape[0], -1, np.int32), np.empty(matrix.shape[0], np.uint32)
    count = label_components(matrix.indptr.view(np.uint32), matrix.indices.view(np.uint32), label, waiting)
    return int(count), label
