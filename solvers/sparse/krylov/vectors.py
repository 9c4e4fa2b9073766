"""Vectors of Krylov methods on matrices of any kind: complex ones are stored as adjacent pairs of real numbers.

`b` and `x` are float64 arrays; `as_field` returns complex views of them where the system is complex.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.compiled import threads_for
from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.sparse.krylov import gmres_kernels
from relaxon.solvers.sparse.system import vector_kernels as kernels

Vector = NDArray[Any]


def as_field(v: NDArray[np.float64], is_complex: bool) -> Vector:
    """Return `v`, or a view of it as complex128 numbers, half as many."""
    return v.view(np.complex128) if is_complex else v


def inner(x: Vector, y: Vector) -> Any:
    """Return `Σ conj(x) y`, with the same bits at any number of threads."""
    if x.dtype.kind == "c":
        return complex(np.einsum("i,i", x.conj(), y))
    return kernels.dot(x, y)


def norm_of(x: Vector) -> float:
    """Return `‖x‖₂` of a contiguous vector."""
    real = x.view(np.float64)
    return math.sqrt(kernels.dot(real, real))


class Basis:
    """Orthonormal vectors in half the precision, `stored (k, n)`, whose memory is touched only as vectors are added."""

    def __init__(self, first: Vector, steps: int) -> None:
        self.first = first
        half = np.complex64 if first.dtype.kind == "c" else np.float32
        self.stored = np.empty((steps + 1, len(first)), half)
        self.stored[0] = first
        self._count = 1

    def vector(self, j: int) -> Vector:
        """Return vector `j` in double precision."""
        return self.first if j == 0 else self.stored[j].astype(self.first.dtype)

    def append(self, image: Vector, size: float) -> None:
        """Add an orthogonalised image of that norm as the next vector; its array is overwritten."""
        image /= size
        self.stored[self._count] = image
        self._count += 1

    def orthogonalise(self, w: Vector, count: int) -> tuple[Vector, float]:
        """Project the first `count` vectors out of `w`, in place; return their coefficients and the norm of the
        rest."""
        if w.dtype.kind == "c":
            column = np.einsum("ji,i->j", self.stored[:count].conj(), w)
            for j in range(count):
                w -= column[j] * self.stored[j]
            return column, norm_of(w)
        blocks = -(-len(w) // gmres_kernels.BLOCK)
        parts = np.empty((blocks, count))
        chunks = threads_for(len(w))
        divide(gmres_kernels.project_onto, blocks, self.stored, count, w, parts, chunks=chunks)
        column = parts.sum(axis=0)
        divide(gmres_kernels.subtract_projection, blocks, self.stored, count, column, w, parts, chunks=chunks)
        return column, math.sqrt(float(parts[:, 0].sum()))
