"""The kernel of a verdict on `x` for a CSR matrix."""

from __future__ import annotations

from relaxon.solvers.kernels.compiled import shared


@shared("entries", of="r")
def row_figures(start, stop, indptr, indices, data, b, x, r, m):  # type: ignore[no-untyped-def]
    """Write `r ← b − A x` and `m ← |A||x| + |b|`."""
    for i in range(start, stop):
        total, size = 0.0, 0.0
        for k in range(indptr[i], indptr[i + 1]):
            value = data[k] * x[indices[k]]
            total += value
            size += abs(value)
        r[i] = b[i] - total
        m[i] = size + abs(b[i])
