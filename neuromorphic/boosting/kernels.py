"""Compiled passes of a boosting stage: activations, projected outputs, objective with gradient.

A stage is a network of `J` logistic units with `K` outputs, fitted to targets `r` by weighted least squares:

    f(x) = Cᵀ σ(W x + b) + c
    L(θ) = ½ Σ_i w_i ‖r_i − f(x_i)‖² + ½ λ (‖W‖² + ‖C‖²),   Σ w_i = 1

`θ` is one float64 vector: `W` (J, d) row by row, `b` (J,), `C` (J, K) row by row, `c` (K,). Arrays are feature-major,
so that the inner loops run along rows of memory: `x` (d, n), `r` (K, n), `w` (n,), `h` (J, n), C-contiguous and all
float64, or all float32: then sums within a block of rows are float32 and sums over blocks float64.

With `project`, the optimiser moves `W` and `b` only, and `C`, `c` are the least-squares solution for them (variable
projection: Golub & Pereyra 1973). The gradient of that reduced objective is the partial gradient of `L` at the solved
`C`, `c`, as `∂L/∂C = 0` there. Without `project` all of `θ` moves together, as in the published algorithm.
"""

# Counts begin with NumPy's int64, for the sake of `FIRST`, and go on as Python's.
# mypy: disable-error-code="assignment"
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting.sigmoid_kernels import sigmoid_in_place
from relaxon.solvers.compiled import kernel, kernel_part

Array = NDArray[np.float64]
BLOCK = 512
"""Rows a block: its activations stay in the first-level cache, its features in the second."""

FIRST = np.int64(0)
"""No literal: what is called with one is compiled once more."""

SUMS = {"reassoc", "contract", "nsz"}
"""Sums may be reordered, so that they vectorise, and products fused; NaN and infinity keep their meaning."""

JITTER = 1e-12
"""Ridge on the projected solve, relative to the Gram matrix's mean diagonal: two equal units still have a solution."""


@kernel_part(fastmath=SUMS, error_model="numpy")
def activate_unit(theta, x, units, j, low, high, z, scale, bits):  # type: ignore[no-untyped-def]
    """`z ← σ(W_j x + b_j)` on the rows from `low` to `high`; `theta` has the type of `x`."""
    d = x.shape[0]
    count = high - low
    z[:] = theta[units * d + j]
    at = j * d
    f = 0
    while f + 8 <= d:
        w0, w1, w2, w3 = theta[at + f], theta[at + f + 1], theta[at + f + 2], theta[at + f + 3]
        w4, w5, w6, w7 = theta[at + f + 4], theta[at + f + 5], theta[at + f + 6], theta[at + f + 7]
        x0, x1, x2, x3 = x[f, low:high], x[f + 1, low:high], x[f + 2, low:high], x[f + 3, low:high]
        x4, x5, x6, x7 = x[f + 4, low:high], x[f + 5, low:high], x[f + 6, low:high], x[f + 7, low:high]
        for i in range(count):
            first = w0 * x0[i] + w1 * x1[i] + w2 * x2[i] + w3 * x3[i]
            z[i] += first + (w4 * x4[i] + w5 * x5[i] + w6 * x6[i] + w7 * x7[i])
        f += 8
    while f + 4 <= d:
        w0, w1, w2, w3 = theta[at + f], theta[at + f + 1], theta[at + f + 2], theta[at + f + 3]
        x0, x1, x2, x3 = x[f, low:high], x[f + 1, low:high], x[f + 2, low:high], x[f + 3, low:high]
        for i in range(count):
            z[i] += w0 * x0[i] + w1 * x1[i] + w2 * x2[i] + w3 * x3[i]
        f += 4
    while f < d:
        w0, x0 = theta[at + f], x[f, low:high]
        for i in range(count):
            z[i] += w0 * x0[i]
        f += 1
    sigmoid_in_place(z, scale[:count], bits[:count])


@kernel_part(error_model="numpy")
def activate(theta, x, units, low, high, h, scale, bits):  # type: ignore[no-untyped-def]
    """`h[j, low:high] ← σ(W_j x + b_j)` for all units of `theta`."""
    for j in range(units):
        activate_unit(theta, x, units, j, low, high, h[j, low:high], scale, bits)


@kernel_part(fastmath=SUMS)
def add_products(r, w, n, units, h, gram, right, weighted):  # type: ignore[no-untyped-def]
    """`gram ← Hᵀ w H` (lower half) and `right ← Hᵀ w r`, `H` the activations and a column of ones."""
    outputs = r.shape[0]
    zero = w.dtype.type(0)
    gram[:] = 0.0
    right[:] = 0.0
    low = FIRST
    while low < n:
        high = min(low + BLOCK, n)
        count = high - low
        wb, part = w[low:high], weighted[:count]
        for j in range(units + 1):
            if j < units:
                hj = h[j, low:high]
                for i in range(count):
                    part[i] = wb[i] * hj[i]
            else:
                for i in range(count):
                    part[i] = wb[i]
            for m in range(j):
                hm, total = h[m, low:high], zero
                for i in range(count):
                    total += part[i] * hm[i]
                gram[j, m] += total
            total = zero
            if j < units:
                hj = h[j, low:high]
                for i in range(count):
                    total += part[i] * hj[i]
            else:
                for i in range(count):
                    total += part[i]
            gram[j, j] += total
            for k in range(outputs):
                rk, total = r[k, low:high], zero
                for i in range(count):
                    total += part[i] * rk[i]
                right[j, k] += total
        low = high


@kernel_part(fastmath=SUMS)
def solve_outputs(theta, units, d, outputs, ridge, gram, right):  # type: ignore[no-untyped-def]
    """`C`, `c` of `theta` ← the ridge solution for the sums of `add_products`, by Cholesky; False without one."""
    size, trace = units + 1, 0.0
    for j in range(size):
        trace += gram[j, j]
    for j in range(size):
        gram[j, j] += (ridge if j < units else 0.0) + JITTER * trace / size
    for j in range(size):
        for m in range(j + 1):
            total = gram[j, m]
            for q in range(m):
                total -= gram[j, q] * gram[m, q]
            if j == m:
                if not total > 0.0:
                    return False
                gram[j, j] = np.sqrt(total)
            else:
                gram[j, m] = total / gram[m, m]
    at = units * (d + 1)
    for k in range(outputs):
        for j in range(size):
            total = right[j, k]
            for m in range(j):
                total -= gram[j, m] * right[m, k]
            right[j, k] = total / gram[j, j]
        for j in range(size - 1, -1, -1):
            total = right[j, k]
            for m in range(j + 1, size):
                total -= gram[m, j] * right[m, k]
            right[j, k] = total / gram[j, j]
        for j in range(size):
            theta[at + j * outputs + k] = right[j, k]
    return True


@kernel_part(fastmath=SUMS)
def differentiate(theta, x, r, w, units, low, high, h, error, delta, grad):  # type: ignore[no-untyped-def]
    """Add the block's share to `grad` (of all of `theta`); returns its share of the objective without the ridge.

    `theta` has the type of `x`, `grad` is float64.
    """
    d, outputs, count = x.shape[0], r.shape[0], high - low
    zero, one = x.dtype.type(0), x.dtype.type(1)
    at = units * (d + 1)
    last = at + units * outputs
    wb, value = w[low:high], zero
    for k in range(outputs):
        e, rk = error[k, :count], r[k, low:high]
        constant = theta[last + k]
        for i in range(count):
            e[i] = constant - rk[i]
        for j in range(units):
            hj, coefficient = h[j, low:high], theta[at + j * outputs + k]
            for i in range(count):
                e[i] += coefficient * hj[i]
        total = zero
        for i in range(count):
            weighted = wb[i] * e[i]
            value += weighted * e[i]
            e[i] = weighted
            total += weighted
        grad[last + k] += total
    for j in range(units):
        hj, dj = h[j, low:high], delta[:count]
        dj[:] = zero
        for k in range(outputs):
            e, coefficient, total = error[k, :count], theta[at + j * outputs + k], zero
            for i in range(count):
                dj[i] += coefficient * e[i]
                total += e[i] * hj[i]
            grad[at + j * outputs + k] += total
        total = zero
        for i in range(count):
            dj[i] *= hj[i] * (one - hj[i])
            total += dj[i]
        grad[units * d + j] += total
        f = 0
        while f + 4 <= d:
            x0, x1, x2, x3 = x[f, low:high], x[f + 1, low:high], x[f + 2, low:high], x[f + 3, low:high]
            s0, s1, s2, s3 = zero, zero, zero, zero
            for i in range(count):
                s0 += dj[i] * x0[i]
                s1 += dj[i] * x1[i]
                s2 += dj[i] * x2[i]
                s3 += dj[i] * x3[i]
            grad[j * d + f] += s0
            grad[j * d + f + 1] += s1
            grad[j * d + f + 2] += s2
            grad[j * d + f + 3] += s3
            f += 4
        while f < d:
            x0, s0 = x[f, low:high], zero
            for i in range(count):
                s0 += dj[i] * x0[i]
            grad[j * d + f] += s0
            f += 1
    return value


@kernel(forceinline=True)
def objective(  # type: ignore[no-untyped-def]
    theta, x, r, w, n, units, ridge, project, h, scale, bits, error, delta, rounded, gram, right, grad
):
    """`L(θ)` of the first `n` rows, with its gradient in `grad`; `project` first puts the solved `C`, `c` into `theta`.

    The gradient is that of all of `θ`; under `project` its last part is zero but for rounding. Infinite where the
    projected solve has no solution. The buffers are those of `descent_kernels.buffers`; `rounded` takes `theta`
    in `x`'s type.
    """
    d, outputs = x.shape[0], r.shape[0]
    at = units * (d + 1)
    grad[:] = 0.0
    value = 0.0
    # One loop for both passes of `project`: each function is called at one place, and so compiled once.
    for turn in range(2 if project else 1):
        if turn == 1:
            add_products(r, w, n, units, h, gram, right, delta)
            if not solve_outputs(theta, units, d, outputs, ridge, gram, right):
                return np.inf
        for i in range(theta.size):
            rounded[i] = theta[i]
        low = FIRST
        while low < n:
            high = min(low + BLOCK, n)
            if turn == 0:
                activate(rounded, x, units, low, high, h, scale, bits)
            if turn == 1 or not project:
                value += differentiate(rounded, x, r, w, units, low, high, h, error, delta, grad)
            low = high
    value *= 0.5
    for i in range(units * d):
        value += 0.5 * ridge * theta[i] * theta[i]
        grad[i] += ridge * theta[i]
    for i in range(at, at + units * outputs):
        value += 0.5 * ridge * theta[i] * theta[i]
        grad[i] += ridge * theta[i]
    return value


@kernel(fastmath=SUMS)
def combine(H, output, intercept):  # type: ignore[no-untyped-def]
    """Return `Cᵀ H + c` for activations `H` (J, n), `output` (J, K) and `intercept` (K,): `(K, n)`."""
    units, n = H.shape
    outputs = output.shape[1]
    f = np.empty((outputs, n))
    for k in range(outputs):
        fk = f[k]
        fk[:] = intercept[k]
        for j in range(units):
            hj, coefficient = H[j], output[j, k]
            for i in range(n):
                fk[i] += coefficient * hj[i]
    return f


def gather(source: NDArray[Any], drawn: NDArray[np.int64], dtype: Any) -> NDArray[Any]:
    """Return the columns `drawn` of `source` (rows, n) in that type, C-contiguous."""
    out = np.empty((len(source), drawn.size), dtype)
    gather_columns(source, drawn, out)
    return out


@kernel()
def gather_columns(source, drawn, out):  # type: ignore[no-untyped-def]
    """`out[f, i] ← source[f, drawn[i]]`."""
    for f in range(source.shape[0]):
        row, to = source[f], out[f]
        for i in range(drawn.size):
            to[i] = row[drawn[i]]


def unit_activations(weights: Array, bias: Array, x: Array) -> Array:
    """Return `σ(W x + b)` of all units on all rows, `(J, n)`."""
    H = np.empty((len(bias), x.shape[1]))
    activate_rows(np.concatenate([weights.ravel(), bias]), x, H)
    return H


@kernel()
def activate_rows(theta, x, H):  # type: ignore[no-untyped-def]
    """`H ← σ(W x + b)`, block by block."""
    n = x.shape[1]
    scale = np.empty(BLOCK)
    bits = scale.view(np.int64)
    low = FIRST
    while low < n:
        high = min(low + BLOCK, n)
        activate(theta, x, H.shape[0], low, high, H, scale, bits)
        low = high
