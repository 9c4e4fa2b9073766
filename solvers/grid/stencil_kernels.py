"""Compiled passes over a grid: `A x` for constant and for variable coefficients.

All arrays are C-contiguous with three axes `(n0, n1, n2)`; a 2-D grid has `n0 = 1`. A row is a run along the last
axis; rows are shared among threads. `x` is zero outside the fluid, which is what makes an AIR neighbour a
Dirichlet value 0 and lets a SOLID one be left out.

Constant coefficient: `y = D x − Σ_a w_a (x_{−a} + x_{+a})` in fluid cells, `w_a = 1/h_a²`. The diagonal `D` takes
few distinct values, so a cell holds a one-byte `code` into `table`; code 0 means that the row is zero (a cell that
is not fluid, or one walled in on all faces).

Variable coefficient: `diagonal` and, per axis, `lower` (the coupling to the neighbour below, zero unless both are
fluid) are arrays of the grid's shape; at index 0 of a periodic axis `lower` holds the coupling around the edge.
"""

# Indices are unsigned in some loops (a signed one might count from the end) and signed in others.
# mypy: disable-error-code="assignment"
from __future__ import annotations

from typing import Any

import numpy as np

from relaxon.solvers.kernels.compiled import ONE, part
from relaxon.solvers.kernels.lean import lean, lean_shared


@lean_shared("rows", of="x")
def apply_constant(start, stop, x, code, table, w, wrap, y):  # type: ignore[no-untyped-def]
    """`y ← A x`. `table`, `w` (3,) have the dtype of `x`; `wrap` (3,) bool says which axes are periodic."""
    n0, n1, n2 = x.shape
    w0, w1, w2 = w[0], w[1], w[2]
    none = w0 - w0
    for row in range(start, stop):
        i = row // n1
        j = row - i * n1
        # A missing neighbour row is read from the row itself with weight 0.
        a0, i0 = (w0, i - 1) if i > 0 else ((w0, n0 - 1) if wrap[0] else (none, i))
        b0, i1 = (w0, i + 1) if i < n0 - 1 else ((w0, 0) if wrap[0] else (none, i))
        a1, j0 = (w1, j - 1) if j > 0 else ((w1, n1 - 1) if wrap[1] else (none, j))
        b1, j1 = (w1, j + 1) if j < n1 - 1 else ((w1, 0) if wrap[1] else (none, j))
        xc, xa, xb, xd, xe = x[i, j], x[i0, j], x[i1, j], x[i, j0], x[i, j1]
        cr, yr = code[i, j], y[i, j]
        # Two loops, as a row stays in the first-level cache and one loop over all seven arrays is not vectorised
        # (too many of them to prove apart); unsigned indices, as a signed one might count from the end.
        last = n2 - 1
        yr[0] = table[cr[0]] * xc[0]
        yr[last] = table[cr[last]] * xc[last]
        for inner in range(n2 - 2):
            k = np.uint64(inner) + ONE
            yr[k] = table[cr[k]] * xc[k] - w2 * (xc[k - ONE] + xc[k + ONE])
        if n2 > 1:
            yr[0] -= w2 * xc[1]
            yr[last] -= w2 * xc[last - 1]
        if wrap[2]:
            yr[0] -= w2 * xc[last]
            yr[last] -= w2 * xc[0]
        for cell in range(n2):
            k = np.uint64(cell)
            value = yr[k] - a0 * xa[k] - b0 * xb[k] - a1 * xd[k] - b1 * xe[k]
            yr[k] = value if cr[k] != 0 else none


@part
def row_beside(side, i, j, n0, n1, wrap):  # type: ignore[no-untyped-def]
    """Return the row on a side of row `(i, j)`, −1 where there is none, and the row that holds the coupling to it.

    `side` is 0 or 1, below or above along axis 0, or 2 or 3, the same along axis 1.
    """
    index, n = (i, n0) if side < 2 else (j, n1)
    down = side % 2 == 0
    at_edge = index == 0 if down else index == n - 1
    beside = (n - 1 if down else 0) if at_edge else (index - 1 if down else index + 1)
    if at_edge and not wrap[side // 2]:
        beside = -1
    p, q = (beside, j) if side < 2 else (i, beside)
    above, across = (i, j) if down else (p, q)
    return (-1 if beside < 0 else p), q, above, across


@lean_shared("rows", of="x")
def apply_variable(start, stop, x, diagonal, lower0, lower1, lower2, wrap, y):  # type: ignore[no-untyped-def]
    """`y ← A x` with a coefficient on each face."""
    n0, n1, n2 = x.shape
    none = x.dtype.type(0)
    for row in range(start, stop):
        i = row // n1
        j = row - i * n1
        yr, xc = y[i, j], x[i, j]
        dr = diagonal[i, j]
        for k in range(n2):
            yr[k] = dr[k] * xc[k]
        for side in range(4):  # one loop, as four would be compiled one by one
            p, q, above, across = row_beside(side, i, j, n0, n1, wrap)
            if p < 0:
                continue
            xr = x[p, q]
            cr = lower0[above, across] if side < 2 else lower1[above, across]
            for k in range(n2):
                yr[k] -= cr[k] * xr[k]
        cr = lower2[i, j]
        for k in range(1, n2):
            yr[k] -= cr[k] * xc[k - 1]
        for k in range(n2 - 1):
            yr[k] -= cr[k + 1] * xc[k + 1]
        if wrap[2]:
            yr[0] -= cr[0] * xc[n2 - 1]
            yr[n2 - 1] -= cr[0] * xc[0]
        for k in range(n2):
            if dr[k] == none:
                yr[k] = none


@lean_shared("rows", of="x", sums=1)
def dot(start, stop, x, y, parts):  # type: ignore[no-untyped-def]
    """`⟨x, y⟩` over arrays of three axes, accumulated in float64: row by row, so that threads do not show."""
    _, n1, n2 = x.shape
    for row in range(start, stop):
        xr, yr = x[row // n1, row % n1], y[row // n1, row % n1]
        part = 0.0
        for k in range(n2):
            part += float(xr[k]) * float(yr[k])
        parts[row, 0] = part


@lean_shared("rows", of="x")
def scaled(start, stop, x, factor, out):  # type: ignore[no-untyped-def]
    """`out ← factor · x`, multiplied in float64 and rounded to the dtype of `out`."""
    _, n1, n2 = x.shape
    for row in range(start, stop):
        xr, yr = x[row // n1, row % n1], out[row // n1, row % n1]
        for k in range(n2):
            yr[k] = factor * xr[k]


@lean_shared("rows", of="b", sums=1)
def residual_norm(start, stop, b, ax, r, parts):  # type: ignore[no-untyped-def]
    """`r ← b − ax`; returns `‖r‖₂²` accumulated in float64. `r` may be `ax`."""
    _, n1, n2 = b.shape
    for row in range(start, stop):
        br, ar, rr = b[row // n1, row % n1], ax[row // n1, row % n1], r[row // n1, row % n1]
        part = 0.0
        for k in range(n2):
            value = br[k] - ar[k]
            rr[k] = value
            part += float(value) * float(value)
        parts[row, 0] = part


@lean_shared("rows", of="b", sums=1)
def difference_square(start, stop, b, ax, parts):  # type: ignore[no-untyped-def]
    """`‖b − ax‖₂²`, accumulated in float64."""
    _, n1, n2 = b.shape
    for row in range(start, stop):
        br, ar = b[row // n1, row % n1], ax[row // n1, row % n1]
        part = 0.0
        for k in range(n2):
            value = float(br[k]) - float(ar[k])
            part += value * value
        parts[row, 0] = part


def masked_copy(source: Any, mask: Any, out: Any) -> bool:
    """`out ← source` where `mask`, 0 elsewhere. Returns whether all that is copied is finite."""
    return bool(_masked_copy(source, mask, out) == 0)


@lean_shared("rows", of="out", sums=1)
def _masked_copy(start, stop, source, mask, out, parts):  # type: ignore[no-untyped-def]
    """Copy as `masked_copy` does; returns how many rows have a value that is copied and not finite."""
    _, n1, n2 = out.shape
    for row in range(start, stop):
        sr, mr, rr = source[row // n1, row % n1], mask[row // n1, row % n1], out[row // n1, row % n1]
        strange = 0
        for k in range(n2):
            value = float(sr[k])  # read in any case, so that the loop has no branch
            kept = value if mr[k] else 0.0
            strange |= kept - kept != 0.0
            rr[k] = kept
        parts[row, 0] = strange


@lean_shared("rows", of="v")
def subtract_component_means(start, stop, v, labels, means):  # type: ignore[no-untyped-def]
    """`v ← v − means[labels]` with `means[0] = 0`: the projection once the means are known."""
    _, n1, n2 = v.shape
    for row in range(start, stop):
        vr, lr = v[row // n1, row % n1], labels[row // n1, row % n1]
        for k in range(n2):
            vr[k] -= means[lr[k]]


@lean
def component_sums(v, labels, sums, magnitudes):  # type: ignore[no-untyped-def]
    """`sums[c] ← Σ v`, `magnitudes[c] ← Σ |v|` over the cells with label `c`, in float64."""
    n0, n1, n2 = v.shape
    sums[:] = 0.0
    magnitudes[:] = 0.0
    for i in range(n0):
        for j in range(n1):
            # A run of one label is summed by itself: each sum in memory would wait for the one before it.
            run, total, magnitude = 0, 0.0, 0.0
            for k in range(n2):
                c = labels[i, j, k]
                if c != run:
                    sums[run] += total
                    magnitudes[run] += magnitude
                    run, total, magnitude = c, 0.0, 0.0
                value = float(v[i, j, k])
                total += value
                magnitude += abs(value)
            sums[run] += total
            magnitudes[run] += magnitude
    sums[0] = 0.0
    magnitudes[0] = 0.0
