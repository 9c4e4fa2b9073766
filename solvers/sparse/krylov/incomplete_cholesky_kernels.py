"""The kernels of the incomplete Cholesky factor without fill, IC(0), and of its two triangular solves.

Both go row by row, as each row needs the rows before it.
"""

from __future__ import annotations

import math

from relaxon.solvers.kernels.lean import lean


@lean
def incomplete_factor(indptr, indices, data, scale, shift, least, starts, columns, values, inverse):  # type: ignore[no-untyped-def]
    """Compute IC(0) of `S A S + shift·I`, `S = diag(scale)`, where the diagonal of `S A S` is 1 (0 in empty rows).

    `columns` and `values` get the strict lower part of the factor, row `i` from `starts[i]`; `inverse` gets the
    reciprocals of its diagonal. Returns the row whose pivot fell below `least`, or −1.
    """
    filled = 0
    for i in range(len(scale)):
        starts[i] = filled
        square = 0.0
        for k in range(indptr[i], indptr[i + 1]):
            j = indices[k]
            if j >= i:
                break
            value = data[k] * scale[i] * scale[j]
            # The entries of rows are sorted: their common columns are found by merging both rows.
            one, other = starts[i], starts[j]
            end = starts[j + 1]
            while one < filled and other < end:
                if columns[one] == columns[other]:
                    value -= values[one] * values[other]
                    one += 1
                    other += 1
                elif columns[one] < columns[other]:
                    one += 1
                else:
                    other += 1
            value *= inverse[j]
            columns[filled] = j
            values[filled] = value
            filled += 1
            square += value * value
        starts[i + 1] = filled
        pivot = 1.0 + shift - square
        if not pivot >= least:
            return i
        inverse[i] = 1.0 / math.sqrt(pivot)
    return -1


@lean
def solve_triangles(starts, columns, values, inverse, scale, r, z):  # type: ignore[no-untyped-def]
    """Write `z ← S L⁻ᵀ L⁻¹ S r`."""
    n = len(r)
    for i in range(n):
        total = scale[i] * r[i]
        for k in range(starts[i], starts[i + 1]):
            total -= values[k] * z[columns[k]]
        z[i] = total * inverse[i]
    for back in range(n):
        i = n - 1 - back
        value = z[i] * inverse[i]
        for k in range(starts[i], starts[i + 1]):
            z[columns[k]] -= values[k] * value
        z[i] = value * scale[i]
