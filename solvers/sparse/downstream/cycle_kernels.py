"""Kernels of the cycle of nonsymmetric multigrid: downstream sweeps, and two steps of conjugate residuals a level.

Source of the K-cycle with GCR: Y. Notay, "Aggregation-based algebraic multigrid for convection-diffusion equations",
SIAM J. Sci. Comput. 34 (2012), section 3.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import FAST, kernel, kernel_part
from relaxon.solvers.sparse.downstream.levels_kernels import IN_ORDER

ONE = np.uint32(1)
ENOUGH = 0.0625
"""One step on a coarse level is enough where it leaves this fraction of the squared residual (a quarter of its
norm)."""
ROW, COUNT, STEPS = 0, 1, 2
"""Columns of the table of levels for `cycle`."""
part = kernel_part(fastmath=IN_ORDER, error_model="numpy")
sums = kernel_part(fastmath=FAST, error_model="numpy")
"""The decorators of the functions that `cycle` calls."""


@part
def sweep_from_zero(lo, hi, first, middle, c, v, inverse, b, x):  # type: ignore[no-untyped-def]
    """Sweep forwards by Gauss–Seidel from `x = 0`."""
    for i in range(lo, hi):
        total = b[i]
        for k in range(first[i], middle[i]):
            total -= v[k] * x[c[k]]
        x[i] = total * inverse[i]


@part
def restrict(lo, hi, middle, last, c, v, x, group, coarse):  # type: ignore[no-untyped-def]
    """Add `Pᵀ(b − A x)` to `coarse` after a sweep from zero, whose residual is `−U x`."""
    for i in range(lo, hi):
        g = group[i]
        if g >= 0:
            total = np.float32(0.0)
            for k in range(middle[i], last[i]):
                total -= v[k] * x[c[k]]
            coarse[np.uint32(g)] += total


@part
def sweep(lo, hi, first, last, c, v, inverse, b, x):  # type: ignore[no-untyped-def]
    """Sweep forwards by Gauss–Seidel."""
    for i in range(lo, hi):
        total = b[i]
        for k in range(first[i], last[i]):
            total -= v[k] * x[c[k]]
        x[i] = total * inverse[i]


@part
def apply_matrix(lo, hi, first, last, c, v, diagonal, x, y):  # type: ignore[no-untyped-def]
    """Write `y ← A x`."""
    for i in range(lo, hi):
        total = diagonal[i] * x[i]
        for k in range(first[i], last[i]):
            total += v[k] * x[c[k]]
        y[i] = total


@sums
def inner_product(lo, hi, x, y):  # type: ignore[no-untyped-def]
    """Return `⟨x, y⟩`."""
    total = 0.0
    for i in range(lo, hi):
        total += x[i] * y[i]
    return total


@kernel(fastmath=IN_ORDER, error_model="numpy", counted=False)
def cycle(  # type: ignore[no-untyped-def]
    table, first, middle, last, c, v, diagonal, inverse, group, solution, step, rho, along, b, x, z, q, r, w
):  # fmt: skip
    """Approximate `A⁻¹ b` on the first level of `table`, from `b` into `x`, both at its rows.

    A level below whose `STEPS` is 2 takes up to two steps of generalised conjugate residuals, each preconditioned with
    a cycle, another one takes one cycle. `solution` is the inverse on the last level, empty where that is only
    smoothed. `step`, `rho` and `along` are scratch memory, an entry a level; `z`, `q`, `r` and `w` are, for the vectors
    of all levels.
    """
    final = len(table) - 1
    step[:] = 0
    level = 0
    down = True
    while True:
        lo, hi = np.uint32(table[level, ROW]), np.uint32(table[level, ROW] + table[level, COUNT])
        if down:
            right = b if step[level] == 0 else r
            if level == final:
                if len(solution) == 0:
                    sweep_from_zero(lo, hi, first, middle, c, v, inverse, right, x)
                    sweep(lo, hi, first, last, c, v, inverse, right, x)
                for i in range(len(solution)):
                    total = 0.0
                    for k in range(len(solution)):
                        total += solution[i, k] * right[lo + np.uint32(k)]
                    x[lo + np.uint32(i)] = total
                down = False
                level -= 1
                if level < 0:
                    return
                continue
            sweep_from_zero(lo, hi, first, middle, c, v, inverse, right, x)
            start, stop = np.uint32(table[level + 1, ROW]), np.uint32(table[level + 1, ROW] + table[level + 1, COUNT])
            for i in range(start, stop):
                b[i] = np.float32(0.0)
            restrict(lo, hi, middle, last, c, v, x, group, b)
            level += 1
            step[level] = 0
            continue
        right = b if step[level] == 0 else r
        for i in range(lo, hi):
            if group[i] >= 0:
                x[i] += x[np.uint32(group[i])]
        sweep(lo, hi, first, last, c, v, inverse, right, x)
        if level == 0:
            return
        if table[level, STEPS] == 1:
            level -= 1
        elif step[level] == 0:
            for i in range(lo, hi):
                z[i] = x[i]
            apply_matrix(lo, hi, first, last, c, v, diagonal, z, q)
            rho[level], along[level] = inner_product(lo, hi, q, q), inner_product(lo, hi, q, b)
            if not rho[level] > 0.0:
                level -= 1
                continue
            factor = np.float32(along[level] / rho[level])
            for i in range(lo, hi):
                r[i] = b[i] - factor * q[i]
            if inner_product(lo, hi, r, r) <= ENOUGH * inner_product(lo, hi, b, b):
                for i in range(lo, hi):
                    x[i] = factor * z[i]
                level -= 1
            else:
                step[level] = 1
                down = True
        else:
            apply_matrix(lo, hi, first, last, c, v, diagonal, x, w)
            gamma, beta, ahead = inner_product(lo, hi, w, q), inner_product(lo, hi, w, w), inner_product(lo, hi, w, r)
            rest = beta - gamma * gamma / rho[level]
            two = ahead / rest if rest > 1e-6 * beta else 0.0
            one, two = np.float32((along[level] - gamma * two) / rho[level]), np.float32(two)
            for i in range(lo, hi):
                x[i] = one * z[i] + two * x[i]
            step[level] = 0
            level -= 1
