"""Kernels for matrices of small dense blocks, whose sizes are lengths of tuples and thus known at compile time.

Row `i` of a matrix has the blocks `first[i] … last[i] − 1`; block `k` is in block column `columns[k]`, with its entry
in row `r` and column `c` at `values[k, c, r]`. Kernels run over parts of the rows, `bounds[part] … bounds[part + 1] −
1`, that depend on the matrix alone, so that results do not depend on the number of threads. Three rows of a block are
summed at a time, as that many sums stay in registers.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import kernel

IN_ORDER = {"contract", "nsz"}
block_kernel = kernel(fastmath=IN_ORDER, counted=False)
"""The decorator of kernels for blocks: sums are not reordered, and no array is created."""
ONE = np.uint32(1)


@block_kernel
def multiply(start, stop, bounds, height, width, first, last, columns, values, added, sign, x, y):  # type: ignore[no-untyped-def]
    """Write `y ← y + sign·A x` where `added`, else `y ← sign·A x`."""
    rows, cols = np.uint32(len(height)), np.uint32(len(width))
    for part in range(start, stop):
        for i in range(bounds[part], bounds[part + 1]):
            for g in range(np.uint32(0), rows, np.uint32(3)):
                s0, s1, s2 = np.float32(0), np.float32(0), np.float32(0)
                for k in range(first[i], last[i]):
                    j = columns[k] * cols
                    for c in range(cols):
                        w = x[j + c]
                        s0 += values[k, c, g] * w
                        if g + np.uint32(1) < rows:
                            s1 += values[k, c, g + np.uint32(1)] * w
                        if g + np.uint32(2) < rows:
                            s2 += values[k, c, g + np.uint32(2)] * w
                at = np.uint32(i) * rows + g
                y[at] = (y[at] if added else np.float32(0)) + sign * s0
                if g + np.uint32(1) < rows:
                    y[at + np.uint32(1)] = (y[at + np.uint32(1)] if added else np.float32(0)) + sign * s1
                if g + np.uint32(2) < rows:
                    y[at + np.uint32(2)] = (y[at + np.uint32(2)] if added else np.float32(0)) + sign * s2


@block_kernel
def sweep_forward(start, stop, bounds, height, first, middle, columns, values, inverse, excess, b, x, r):  # type: ignore[no-untyped-def]
    """Sweep forwards by block Gauss–Seidel from `x = 0`, and write `r ← excess·x`, the first term of the residual.

    `r` also serves as scratch memory for the right-hand sides of the nodes' own equations.
    """
    rows = np.uint32(len(height))
    for part in range(start, stop):
        for i in range(bounds[part], bounds[part + 1]):
            own = np.uint32(i) * rows
            for g in range(np.uint32(0), rows, np.uint32(3)):
                at = own + g
                s0, s1, s2 = b[at], np.float32(0), np.float32(0)
                if g + np.uint32(1) < rows:
                    s1 = b[at + np.uint32(1)]
                if g + np.uint32(2) < rows:
                    s2 = b[at + np.uint32(2)]
                for k in range(first[i], middle[i]):
                    j = columns[k] * rows
                    for c in range(rows):
                        w = x[j + c]
                        s0 -= values[k, c, g] * w
                        if g + np.uint32(1) < rows:
                            s1 -= values[k, c, g + np.uint32(1)] * w
                        if g + np.uint32(2) < rows:
                            s2 -= values[k, c, g + np.uint32(2)] * w
                r[at] = s0
                if g + np.uint32(1) < rows:
                    r[at + np.uint32(1)] = s1
                if g + np.uint32(2) < rows:
                    r[at + np.uint32(2)] = s2
            for q in range(rows):
                total = np.float32(0)
                for c in range(rows):
                    total += inverse[i, c, q] * r[own + c]
                x[own + q] = total
            for q in range(rows):
                r[own + q] = excess[own + q] * x[own + q]


@block_kernel
def sweep_backward(  # type: ignore[no-untyped-def]
    start, stop, bounds, height, first, middle, inner, last, columns, values, inverse, excess, b, x, old, r
):  # fmt: skip
    """Sweep backwards; `old` is a copy of `x`, from which values outside the part are read; `r` is scratch memory."""
    rows = np.uint32(len(height))
    for part in range(start, stop):
        i = bounds[part + 1]
        while i > bounds[part]:
            i -= ONE
            own = i * rows
            for g in range(np.uint32(0), rows, np.uint32(3)):
                at = own + g
                s0, s1, s2 = b[at] + excess[at] * old[at], np.float32(0), np.float32(0)
                if g + np.uint32(1) < rows:
                    s1 = b[at + np.uint32(1)] + excess[at + np.uint32(1)] * old[at + np.uint32(1)]
                if g + np.uint32(2) < rows:
                    s2 = b[at + np.uint32(2)] + excess[at + np.uint32(2)] * old[at + np.uint32(2)]
                for k in range(first[i], inner[i]):
                    if k != middle[i]:
                        j = columns[k] * rows
                        for c in range(rows):
                            w = x[j + c]
                            s0 -= values[k, c, g] * w
                            if g + np.uint32(1) < rows:
                                s1 -= values[k, c, g + np.uint32(1)] * w
                            if g + np.uint32(2) < rows:
                                s2 -= values[k, c, g + np.uint32(2)] * w
                for k in range(inner[i], last[i]):
                    j = columns[k] * rows
                    for c in range(rows):
                        w = old[j + c]
                        s0 -= values[k, c, g] * w
                        if g + np.uint32(1) < rows:
                            s1 -= values[k, c, g + np.uint32(1)] * w
                        if g + np.uint32(2) < rows:
                            s2 -= values[k, c, g + np.uint32(2)] * w
                r[at] = s0
                if g + np.uint32(1) < rows:
                    r[at + np.uint32(1)] = s1
                if g + np.uint32(2) < rows:
                    r[at + np.uint32(2)] = s2
            for q in range(rows):
                total = np.float32(0)
                for c in range(rows):
                    total += inverse[i, c, q] * r[own + c]
                x[own + q] = total


@block_kernel
def multiply_matrices(  # type: ignore[no-untyped-def]
    start, stop, bounds, height, inside, width, first, last, columns, values, square, norms, most,
    other_first, other_last, other_columns, other_values, out_first, out_columns, out_values, seen,
):  # fmt: skip
    """Compute `C = A B` with blocks `height × inside` and `inside × width`; row `i` of `C` begins at `out_first[i]`.

    Where `square` is positive, weak couplings of `A` are left out: see `pattern_kernels.count_product`. `seen` is
    scratch memory, one uint32 a column of `B`, with values below `out_first[bounds[start]] + 1` at the start.
    """
    rows, mids, cols = np.uint32(len(height)), np.uint32(len(inside)), np.uint32(len(width))
    for part in range(start, stop):
        for i in range(bounds[part], bounds[part + 1]):
            begin = out_first[i]
            end = begin
            for k in range(first[i], last[i]):
                j = columns[k]
                if square > 0 and j != i and norms[k] < square * np.sqrt(most[i] * most[j]):
                    continue
                for m in range(other_first[j], other_last[j]):
                    target = other_columns[m]
                    place = seen[target]
                    if place <= begin or place > end:
                        end += ONE
                        place = end
                        seen[target] = place
                        out_columns[place - ONE] = target
                        for q in range(cols):
                            for r in range(rows):
                                out_values[place - ONE, q, r] = np.float32(0)
                    at = place - ONE
                    for q in range(cols):
                        for g in range(np.uint32(0), rows, np.uint32(3)):
                            s0, s1, s2 = out_values[at, q, g], np.float32(0), np.float32(0)
                            if g + np.uint32(1) < rows:
                                s1 = out_values[at, q, g + np.uint32(1)]
                            if g + np.uint32(2) < rows:
                                s2 = out_values[at, q, g + np.uint32(2)]
                            for c in range(mids):
                                w = other_values[m, q, c]
                                s0 += values[k, c, g] * w
                                if g + np.uint32(1) < rows:
                                    s1 += values[k, c, g + np.uint32(1)] * w
                                if g + np.uint32(2) < rows:
                                    s2 += values[k, c, g + np.uint32(2)] * w
                            out_values[at, q, g] = s0
                            if g + np.uint32(1) < rows:
                                out_values[at, q, g + np.uint32(1)] = s1
                            if g + np.uint32(2) < rows:
                                out_values[at, q, g + np.uint32(2)] = s2
