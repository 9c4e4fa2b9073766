"""Kernels of a process's sweeps of Gauss–Seidel on its diagonal block, from zero."""

from __future__ import annotations

from relaxon.solvers.kernels.compiled import plain


@plain
def sweep_forwards(indptr, indices, data, inverse, b, x):  # type: ignore[no-untyped-def]
    """`x ← (D + L)⁻¹ b`; `inverse` is 1/D, 0 in empty rows."""
    for i in range(len(b)):
        total = b[i]
        for k in range(indptr[i], indptr[i + 1]):
            if indices[k] < i:
                total -= data[k] * x[indices[k]]
        x[i] = total * inverse[i]


@plain
def sweep_backwards(indptr, indices, data, inverse, b, x):  # type: ignore[no-untyped-def]
    """`x ← (D + U)⁻¹ b`."""
    for i in range(len(b) - 1, -1, -1):
        total = b[i]
        for k in range(indptr[i], indptr[i + 1]):
            if indices[k] > i:
                total -= data[k] * x[indices[k]]
        x[i] = total * inverse[i]
