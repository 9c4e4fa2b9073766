"""Runs of rows among which passes over a matrix are divided: by the matrix alone, not by the number of threads, so that
results have the same bits at any number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.threads import get_num_threads

SHARED_ROWS = 20_000
"""Rows from which a pass over a matrix is divided among threads: below, waking one takes longer than it saves."""
SHARED_ENTRIES = 80_000
"""Entries from which a pass over those of few rows is divided."""


def split_rows(rows: int, runs: int) -> NDArray[np.uint32]:
    """Return the bounds of runs of about equal length, `(runs + 1,)`.

    Run `k` has the rows `bounds[k] … bounds[k + 1] − 1`.
    """
    return (np.arange(runs + 1, dtype=np.int64) * rows // runs).astype(np.uint32)


def count_runs(rows: int, most: int) -> int:
    """Return among how many runs a pass with partial sums is divided: `most`, and one where threads do not share it."""
    return min(most, rows) if rows >= SHARED_ROWS else 1


def count_threads(rows: int, shared_from: int = SHARED_ROWS, entries: int = 0) -> int:
    """Return among how many threads a pass over so many rows, or rows with so many entries, is divided."""
    return get_num_threads() if rows >= shared_from or entries >= SHARED_ENTRIES else 1


def sample_rows(rows: int, most: int) -> NDArray[np.int64]:
    """Return the numbers of at most `most` rows, evenly spaced from the first to the last."""
    count = min(rows, most)
    return np.arange(count) * (rows - 1) // max(1, count - 1)


def locate_entries(indptr: NDArray[Any], rows: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of all entries of some rows of a CSR matrix, row by row, and the number of entries of each."""
    starts, lengths = indptr[rows].astype(np.int64), (indptr[rows + 1] - indptr[rows]).astype(np.int64)
    return np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(int(lengths.sum())), lengths
