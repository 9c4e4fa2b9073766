"""Compiled passes over vectors and CSR matrices: products and the steps of conjugate gradients.

They are divided among threads in blocks of entries, each with a partial sum of its own. Short vectors, for which
no other thread is woken, are left to NumPy and SciPy, so that these passes need not be compiled first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.lean import lean
from relaxon.solvers.kernels.threads import Kernel, divide

Array = NDArray[np.float64]
SHORT = 20_000
"""Vectors with fewer entries are left to NumPy and SciPy: there is little to divide, and nothing to compile."""
BLOCK = 4096
"""Entries of a block, which has a partial sum of its own, so that results do not depend on the number of threads."""


def multiply(matrix: Any, x: Array, out: Array) -> None:
    """Write `out ← A x`; `matrix` is in CSR form."""
    if len(x) < SHORT:
        out[...] = matrix @ x
    else:
        divide(_multiply, len(x), matrix.indptr, matrix.indices, matrix.data, x, out)


@lean
def _multiply(start, stop, indptr, indices, data, x, y):  # type: ignore[no-untyped-def]
    """Write `y ← A x`."""
    for i in range(start, stop):
        total = 0.0
        for k in range(indptr[i], indptr[i + 1]):
            total += data[k] * x[indices[k]]
        y[i] = total


@lean
def _dot(start, stop, x, y, parts):  # type: ignore[no-untyped-def]
    """Sum `⟨x, y⟩` in blocks."""
    for block in range(start, stop):
        total = 0.0
        end = len(x) if block == len(parts) - 1 else (block + 1) * BLOCK
        for i in range(block * BLOCK, end):
            total += x[i] * y[i]
        parts[block] = total


@lean
def _scaled_sum(start, stop, x, y, a, b, parts):  # type: ignore[no-untyped-def]
    """Write `y ← a·x + b·y`, and sum `⟨y, y⟩` in blocks."""
    for block in range(start, stop):
        total = 0.0
        end = len(x) if block == len(parts) - 1 else (block + 1) * BLOCK
        for i in range(block * BLOCK, end):
            value = a * x[i] + b * y[i]
            y[i] = value
            total += value * value
        parts[block] = total


def dot(x: Array, y: Array) -> float:
    """Return `⟨x, y⟩`."""
    if len(x) < SHORT:
        return float(np.einsum("i,i", x, y))  # not BLAS's, whose order is that of its own threads
    return _sum_blocks(_dot, x, y)


def step(alpha: float, p: Array, ap: Array, x: Array, r: Array) -> float:
    """Write `x ← x + αp` and `r ← r − α·ap`; return `⟨r, r⟩`."""
    if len(x) < SHORT:
        with np.errstate(over="ignore", invalid="ignore"):
            x += alpha * p
            r += -alpha * ap
        return dot(r, r)
    _sum_blocks(_scaled_sum, p, x, alpha, 1.0)
    return _sum_blocks(_scaled_sum, ap, r, -alpha, 1.0)


def next_direction(z: Array, beta: float, p: Array) -> None:
    """Write `p ← z + βp`."""
    if len(p) < SHORT:
        with np.errstate(over="ignore", invalid="ignore"):  # values that are not finite show in the sums
            p *= beta
            p += z
    else:
        _sum_blocks(_scaled_sum, z, p, 1.0, beta)


def add_scaled(factor: float, p: Array, x: Array) -> None:
    """Write `x ← x + factor·p`."""
    if len(x) < SHORT:
        with np.errstate(over="ignore", invalid="ignore"):
            x += factor * p
    else:
        _sum_blocks(_scaled_sum, p, x, factor, 1.0)


def _sum_blocks(kernel: Kernel, x: Array, *args: Any) -> float:
    """Run a kernel over the blocks of `x`, and add their partial sums in a fixed order."""
    parts = np.empty(-(-len(x) // BLOCK))
    divide(kernel, len(parts), x, *args, parts)
    return float(parts.sum())
