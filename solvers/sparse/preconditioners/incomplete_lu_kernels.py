"""The incomplete LU factor without fill, and its two triangular solves.

Source: Y. Saad, "Iterative methods for sparse linear systems", 2nd ed. (2003), algorithm 10.4 (ILU(0), IKJ variant).
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import kernel

ONE = np.uint32(1)
rows_kernel = kernel(fastmath={"contract", "nsz"}, error_model="numpy", counted=False)


@rows_kernel
def factor(indptr, indices, values, middle, least, place):  # type: ignore[no-untyped-def]
    """Compute ILU(0) of sorted rows that all store their diagonal, in place; `middle` gets its place in each row.

    Pivots of a magnitude below `least` are raised to it. `values` gets L without its unit diagonal, and U with the
    reciprocals of its diagonal. `place` is scratch memory, an entry a row. Returns how many pivots were raised.
    """
    absent = np.uint32(0xFFFFFFFF)
    place[:] = absent
    raised = 0
    for i in range(len(middle)):
        for k in range(indptr[i], indptr[i + ONE]):
            place[indices[k]] = k
            if indices[k] == i:
                middle[i] = k
        for k in range(indptr[i], middle[i]):
            j = indices[k]
            factor = values[k] * values[middle[j]]
            values[k] = factor
            for m in range(middle[j] + ONE, indptr[j + ONE]):
                at = place[indices[m]]
                if at != absent:
                    values[at] -= factor * values[m]
        pivot = values[middle[i]]
        if not abs(pivot) >= least[i]:
            pivot = pivot * 0.0 + least[i]
            raised += 1
        values[middle[i]] = 1.0 / pivot
        for k in range(indptr[i], indptr[i + ONE]):
            place[indices[k]] = absent
    return raised


@rows_kernel
def solve(indptr, indices, values, middle, r, z):  # type: ignore[no-untyped-def]
    """Write `z ← U⁻¹ L⁻¹ r`."""
    for i in range(len(middle)):
        total = r[i]
        for k in range(indptr[i], middle[i]):
            total -= values[k] * z[indices[k]]
        z[i] = total
    row = np.uint32(len(middle))
    while row > 0:
        row -= ONE
        total = z[row]
        for k in range(middle[row] + ONE, indptr[row + ONE]):
            total -= values[k] * z[indices[k]]
        z[row] = total * values[middle[row]]
