"""The kernel that computes the features of a sample of rows."""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import kernel

ONE = np.uint32(1)


@kernel(error_model="numpy", counted=False)
def sum_rows(rows, indptr, indices, data, diagonal, out):  # type: ignore[no-untyped-def]
    """Write the features of `rows`, `dominance` to `contrast` as `MatrixFeatures` defines them, to `out`, `(5,)`."""
    dominance = gap = positive = total = anisotropy = shifted = squares = 0.0
    first = np.log(diagonal[rows[0]]) if diagonal[rows[0]] > 0.0 else 0.0
    for i in rows:
        begin, end = indptr[i], indptr[i + ONE]
        around, largest = 0.0, 0.0
        for k in range(begin, end):
            if indices[k] != i:
                size = abs(data[k])
                around += size
                largest = max(largest, size)
                positive += max(data[k], 0.0)
        own = diagonal[i] if diagonal[i] > 0.0 else 1.0
        dominance = max(dominance, around / own)
        gap += 1.0 - around / own
        total += around
        if around > 0.0:
            anisotropy += np.log(max(largest * max(np.float64(end - begin) - 1.0, 1.0) / around, 1.0))
        apart = np.log(own) - first
        shifted += apart
        squares += apart * apart
    count = len(rows)
    out[0] = dominance
    out[1] = max(gap / count, 0.0)
    out[2] = positive / total if total > 0.0 else 0.0
    out[3] = anisotropy / count
    out[4] = np.sqrt(max(squares / count - (shifted / count) ** 2, 0.0))
