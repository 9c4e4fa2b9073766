"""The compiled inspection of a large matrix: two passes that replace a dozen of SciPy's where nothing is wrong."""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.interface.elimination import DECIDED
from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.sparse.system.inspection_kernels import (
    ASYMMETRIC,
    LEFT_OUT,
    STORED_ZERO,
    copy_principal,
    label_components,
    look_at_couplings,
    look_at_rows,
    spread,
)
from relaxon.solvers.sparse.system.row_runs import count_runs, count_threads, split_rows

ROW_SUM_ROUNDINGS = 4.0
"""A row sums to zero where its sum is below this many roundings of its sum of magnitudes, for each of its entries."""
ROUNDINGS, SINGLE = ROW_SUM_ROUNDINGS * float(np.finfo(np.float64).eps), float(np.finfo(np.float32).eps)
PARTS = 64
"""Runs of rows, each with flags of its own."""

SWEEPS = 8
"""Sweeps over the couplings, alternately forwards and backwards, before components are labelled in general."""
FASTER = 0.7
"""A sweep that leaves more than this fraction of the rows is the last: labelling takes as long as a few sweeps."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """The findings: `flags` of what is wrong (0 for nothing), and for each row the diagonal and the state, which is
    that without stored zeros: `SUM` of it is `CLOSED`, `OPEN` or `NEARLY`, and it may have the bit `DECIDES`."""

    flags: int
    diagonal: NDArray[np.float64]
    state: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Look:
    """The findings of the pass over the rows, and what the pass over the couplings needs of it."""

    found: Inspection
    root: NDArray[np.float64]
    above: NDArray[np.uint32]
    bounds: NDArray[np.uint32]
    unpaired: bool
    """Whether the numbers of entries above and below the diagonal differ."""


def inspect(matrix: Any, tolerance: float, own: Any = None) -> Inspection:
    """Inspect a CSR matrix with float64 values and int32 indices, which is not modified.

    `tolerance` is that of symmetry and of 2 × 2 minors, relative to `√(a_ii a_jj)`. With `own`, a matrix with the same
    row lengths, the entries are copied there in the same pass.
    """
    own = matrix if own is None else own
    rows = look_at_matrix(matrix, own)
    flags = rows.found.flags
    if not flags & ~STORED_ZERO:
        flags |= look_at_halves(own, rows.bounds, rows.root, rows.above, tolerance)
        flags |= ASYMMETRIC if rows.unpaired else 0
    return replace(rows.found, flags=flags)


def look_at_halves(
    matrix: Any, bounds: NDArray[np.uint32], root: NDArray[np.float64], above: NDArray[np.uint32], tolerance: float
) -> int:
    """Return the flags of the couplings below the diagonal, beside which there may be others above it."""
    n, flags = matrix.shape[0], np.zeros(len(bounds) - 1, np.int64)
    divide(
        look_at_couplings, len(flags), bounds, matrix.indptr.view(np.uint32), matrix.indices.view(np.uint32),
        matrix.data, root, above, tolerance, flags, chunks=count_threads(n), work=lambda: (np.zeros(n, np.uint32),),
    )  # fmt: skip
    return int(np.bitwise_or.reduce(flags))


def look_at_matrix(matrix: Any, own: Any) -> _Look:
    """Copy a matrix's entries into `own`, which may be the matrix itself, and inspect its rows."""
    n = own.shape[0]
    diagonal, root = np.empty(n), np.empty(n)
    above, state = np.empty(n, np.uint32), np.empty(n, np.uint8)
    count = count_runs(n, PARTS)
    bounds = split_rows(n, count)
    flags, counts = np.zeros(count, np.int64), np.zeros(count, np.int64)
    divide(
        look_at_rows, count, bounds, own.indptr.view(np.uint32), matrix.indices.view(np.uint32), matrix.data, ROUNDINGS,
        SINGLE, DECIDED, own.indices.view(np.uint32), own.data, diagonal, root, state, above, counts, flags,
        chunks=count_threads(n),
    )  # fmt: skip
    found = Inspection(int(np.bitwise_or.reduce(flags)), diagonal, state)
    return _Look(found, root, above, bounds, bool(counts.sum()))


def extract_principal(matrix: Any, kept: NDArray[np.int64], faced: NDArray[Any]) -> Any:
    """Return the rows and columns `kept`, ascending, of a CSR matrix with a symmetric pattern and int32 indices.

    `faced` are the columns of all entries in the other rows.
    """
    from scipy.sparse import csr_array

    n, count = matrix.shape[0], len(kept)
    place = np.full(n, LEFT_OUT)
    place[kept] = np.arange(count, dtype=np.uint32)
    begin = np.zeros(count + 1, np.int32)
    np.cumsum((np.diff(matrix.indptr) - np.bincount(faced, minlength=n))[kept], out=begin[1:])
    size = int(begin[-1])
    own = csr_array((np.empty(size), np.empty(size, np.int32), begin), shape=(count, count))
    divide(
        copy_principal, count, kept, place, matrix.indptr.view(np.uint32), matrix.indices.view(np.uint32), matrix.data,
        own.indptr.view(np.uint32), own.indices.view(np.uint32), own.data, chunks=count_threads(count),
    )  # fmt: skip
    return own


def room_for_copy(matrix: Any) -> Any:
    """Return a matrix with the row lengths of a CSR one and room for its entries, which `inspect` fills.

    None unless it has C-contiguous float64 values and int32 indices.
    """
    from scipy.sparse import csr_array

    if matrix.format != "csr" or matrix.data.dtype != np.float64 or matrix.nnz > np.iinfo(np.int32).max:
        return None
    indptr, indices, data = matrix.indptr, matrix.indices, matrix.data
    plain = all(part.flags.carray and part.dtype == np.int32 for part in (indptr, indices)) and data.flags.carray
    if (
        not plain
        or indptr[0] != 0
        or not (indptr[:-1] <= indptr[1:]).all()
        or indptr[-1] > min(len(indices), len(data))
    ):
        return None
    size = int(indptr[-1])
    return csr_array((np.empty(size), np.empty(size, np.int32), indptr.copy()), shape=matrix.shape)


def reaches_all(matrix: Any, held: NDArray[np.bool_]) -> bool:
    """Return whether a few sweeps over the couplings connect every row to one that is held.

    `held` is modified. False means only that the sweeps were too few to tell.
    """
    indptr, indices = matrix.indptr.view(np.uint32), matrix.indices.view(np.uint32)
    return bool(spread(SWEEPS, FASTER, indptr, indices, held) == 0)


def find_components(matrix: Any) -> tuple[int, NDArray[np.int32]]:
    """Return the number of connected components of a symmetric pattern with int32 indices, and that of each row."""
    first = np.arange(matrix.shape[0]) == 0
    if reaches_all(matrix, first):
        return 1, np.zeros(matrix.shape[0], np.int32)
    label, waiting = np.full(matrix.shape[0], -1, np.int32), np.empty(matrix.shape[0], np.uint32)
    count = label_components(matrix.indptr.view(np.uint32), matrix.indices.view(np.uint32), label, waiting)
    return int(count), label
