"""Compiled passes of fast diagonalisation, in float64: products with the vectors of an axis, and tridiagonal sweeps.

The products are our own instead of a BLAS library's, whose threads would come on top of ours, and whose results depend
on their number.
"""

# Indices are unsigned in some loops (a signed one might count from the end) and signed in others.
# mypy: disable-error-code="assignment"
from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.lean import lean

F0 = 0.0
ROWS = 4
"""Rows of a product that are made together, from as many rows of the second factor at a time: sixteen products for four
loads of each kind, which keeps the units that multiply busy. The loop over columns is what vectorises."""
COLUMNS, INNER = 128, 128
"""Columns and rows of the second factor that are worked on together: they stay in a core's second-level cache."""
PAD = 8
"""Padding of these: rows a power of two apart would evict each other from the first-level cache."""


@lean
def multiply(a, b, c, packed):  # type: ignore[no-untyped-def]
    """`c ← a b` for C-contiguous matrices; `packed` `(INNER, COLUMNS + PAD)` is work space."""
    rows, inner = a.shape
    columns = b.shape[1]
    whole = rows - rows % ROWS
    c[:] = F0
    for first in range(0, columns, COLUMNS):
        last = min(first + COLUMNS, columns)
        for begin in range(0, inner, INNER):
            end = min(begin + INNER, inner)
            count = end - begin
            fours = count - count % ROWS
            for j in range(count):
                for k in range(last - first):
                    packed[j, k] = b[begin + j, first + k]
            for i in range(0, whole, ROWS):
                c0, c1, c2, c3 = c[i, first:last], c[i + 1, first:last], c[i + 2, first:last], c[i + 3, first:last]
                a0, a1, a2, a3 = a[i, begin:end], a[i + 1, begin:end], a[i + 2, begin:end], a[i + 3, begin:end]
                for j in range(0, fours, ROWS):
                    b0, b1, b2, b3 = packed[j], packed[j + 1], packed[j + 2], packed[j + 3]
                    p0, p1, p2, p3 = a0[j], a0[j + 1], a0[j + 2], a0[j + 3]
                    q0, q1, q2, q3 = a1[j], a1[j + 1], a1[j + 2], a1[j + 3]
                    r0, r1, r2, r3 = a2[j], a2[j + 1], a2[j + 2], a2[j + 3]
                    s0, s1, s2, s3 = a3[j], a3[j + 1], a3[j + 2], a3[j + 3]
                    for cell in range(last - first):
                        k = np.uint64(cell)
                        u, v, w, z = b0[k], b1[k], b2[k], b3[k]
                        c0[k] += p0 * u + p1 * v + p2 * w + p3 * z
                        c1[k] += q0 * u + q1 * v + q2 * w + q3 * z
                        c2[k] += r0 * u + r1 * v + r2 * w + r3 * z
                        c3[k] += s0 * u + s1 * v + s2 * w + s3 * z
                for j in range(fours, count):
                    b0, p0, q0, r0, s0 = packed[j], a0[j], a1[j], a2[j], a3[j]
                    for cell in range(last - first):
                        k = np.uint64(cell)
                        c0[k] += p0 * b0[k]
                        c1[k] += q0 * b0[k]
                        c2[k] += r0 * b0[k]
                        c3[k] += s0 * b0[k]
            for i in range(whole, rows):
                c0, a0 = c[i, first:last], a[i, begin:end]
                for j in range(count):
                    b0, p0 = packed[j], a0[j]
                    for cell in range(last - first):
                        k = np.uint64(cell)
                        c0[k] += p0 * b0[k]


@lean
def sweep(x, first, last, diagonal, coupling, weight, shifts, pin, pivots):  # type: ignore[no-untyped-def]
    """Solve `(K + shifts[c] M) y = x[:, c]` for the columns `first … last − 1` of `x`, in place, by elimination.

    `K` has `diagonal` and `−coupling[i]` between cells `i − 1` and `i`, `M` is `weight`, all `(n,)`; `pin` is added to
    the last cell's row of column 0, which may be singular else. `pivots` `(n, ≥ last − first)` is work space.
    """
    n = len(diagonal)
    count = last - first
    shift = shifts[first:last]
    for i in range(n):
        d, m, o = diagonal[i], weight[i], coupling[i] if i > 0 else F0
        row, inverse = x[i, first:last], pivots[i]
        before, above = (x[i - 1, first:last], pivots[i - 1]) if i > 0 else (row, inverse)
        if i == 0:
            for cell in range(count):
                k = np.uint64(cell)
                inverse[k] = F0
        held = F0
        if i == n - 1 and first == 0:
            held = (row[0] + o * before[0]) / (d + pin + m * shift[0] - o * o * above[0])
        for cell in range(count):
            k = np.uint64(cell)
            inverse[k] = 1.0 / (d + m * shift[k] - o * o * above[k])
            row[k] = (row[k] + o * before[k]) * inverse[k]
        if i == n - 1 and first == 0:
            row[0] = held
    for i in range(n - 2, -1, -1):
        o = coupling[i + 1]
        row, after, inverse = x[i, first:last], x[i + 1, first:last], pivots[i]
        for cell in range(count):
            k = np.uint64(cell)
            row[k] += o * inverse[k] * after[k]
