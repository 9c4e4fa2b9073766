"""Compiled passes of a boosting stage: activations, projected outputs, objective with gradient.

A stage is a network of `J` logistic units with `K` outputs, fitted to targets `r` by weighted least squares:

    f(x) = Cᵀ σ(W x + b) + c
    L(θ) = ½ Σ_i w_i ‖r_i − f(x_i)‖² + ½ λ (‖W‖² + ‖C‖²),   Σ w_i = 1

`θ` is one float64 vector: `W` (J, d) row by row, `b` (J,), `C` (J, K) row by row, `c` (K,). Arrays are feature-major,
so that the inner loops run along contiguous memory: `x` (d, n), `r` (K, n), `w` (n,), `h` (J, n), C-contiguous and all
float64 or all float32. For float32, sums within a block of rows are float32 and sums over blocks are float64.

`objective` is a function of all of `θ`, as in the published algorithm. In `projection_kernels` the optimiser moves `W`
and `b` only, and `C`, `c` are the least-squares solution for them.
"""

# Counts begin with NumPy's int64, for the sake of `FIRST`, and go on as Python's.
# mypy: disable-error-code="assignment"
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting.stages.sigmoid_kernels import sigmoid
from relaxon.solvers.kernels.compiled import kernel, kernel_part

Array = NDArray[np.float64]
BLOCK = 512
"""Rows per block: its activations fit the first-level cache and its features the second."""

LINE = 64
"""Bytes of a cache line."""

FIRST = np.int64(0)
"""Zero as a variable: a literal argument would cause another compilation."""

SUMS = {"reassoc", "contract", "nsz"}
"""Fast-math flags: sums may be reordered, to vectorise, and products fused; NaN and infinity keep their meaning."""

JITTER = 1e-12
"""Ridge of the projected solve, relative to the mean diagonal of the Gram matrix; it handles two equal units."""


@kernel_part(fastmath=SUMS)
def add_rows(z, coefficients, first, rows, at, count):  # type: ignore[no-untyped-def]
    """Add `z += Σ_f coefficients[first + f] · rows[f, at : at + count]`; eight rows at a time, then four, then one."""
    f = 0
    while f + 8 <= rows.shape[0]:
        c0, c1, c2, c3 = (coefficients[first + f + 0], coefficients[first + f + 1], coefficients[first + f + 2],
                          coefficients[first + f + 3])  # fmt: skip
        c4, c5, c6, c7 = (coefficients[first + f + 4], coefficients[first + f + 5], coefficients[first + f + 6],
                          coefficients[first + f + 7])  # fmt: skip
        x0, x1, x2, x3 = (rows[f, at : at + count], rows[f + 1, at : at + count], rows[f + 2, at : at + count],
                          rows[f + 3, at : at + count])  # fmt: skip
        x4, x5, x6, x7 = (rows[f + 4, at : at + count], rows[f + 5, at : at + count], rows[f + 6, at : at + count],
                          rows[f + 7, at : at + count])  # fmt: skip
        for i in range(count):
            low = c0 * x0[i] + c1 * x1[i] + c2 * x2[i] + c3 * x3[i]
            z[i] += low + (c4 * x4[i] + c5 * x5[i] + c6 * x6[i] + c7 * x7[i])
        f += 8
    while f + 4 <= rows.shape[0]:
        c0, c1, c2, c3 = (coefficients[first + f + 0], coefficients[first + f + 1], coefficients[first + f + 2],
                          coefficients[first + f + 3])  # fmt: skip
        x0, x1, x2, x3 = (rows[f, at : at + count], rows[f + 1, at : at + count], rows[f + 2, at : at + count],
                          rows[f + 3, at : at + count])  # fmt: skip
        for i in range(count):
            z[i] += c0 * x0[i] + c1 * x1[i] + c2 * x2[i] + c3 * x3[i]
        f += 4
    while f < rows.shape[0]:
        c0, x0 = coefficients[first + f], rows[f, at : at + count]
        for i in range(count):
            z[i] += c0 * x0[i]
        f += 1


@kernel_part(fastmath=SUMS)
def add_dots(v, rows, at, count, sums, first):  # type: ignore[no-untyped-def]
    """Add `sums[first + f] += v · rows[f, at : at + count]`, summed in the type of `rows`; four rows at a time."""
    zero = rows.dtype.type(0)
    f = 0
    while f + 4 <= rows.shape[0]:
        x0, x1, x2, x3 = (rows[f, at : at + count], rows[f + 1, at : at + count], rows[f + 2, at : at + count],
                          rows[f + 3, at : at + count])  # fmt: skip
        s0, s1, s2, s3 = zero, zero, zero, zero
        for i in range(count):
            s0 += v[i] * x0[i]
            s1 += v[i] * x1[i]
            s2 += v[i] * x2[i]
            s3 += v[i] * x3[i]
        sums[first + f] += s0
        sums[first + f + 1] += s1
        sums[first + f + 2] += s2
        sums[first + f + 3] += s3
        f += 4
    while f < rows.shape[0]:
        x0, s0 = rows[f, at : at + count], zero
        for i in range(count):
            s0 += v[i] * x0[i]
        sums[first + f] += s0
        f += 1


@kernel_part(error_model="numpy")
def activate(theta, x, units, at, low, count, h):  # type: ignore[no-untyped-def]
    """Compute `h[j, low : low + count] ← σ(W_j x + b_j)` for the rows from `at` on; `theta` has the type of `x`."""
    d = x.shape[0]
    for j in range(units):
        z = h[j, low : low + count]
        z[:] = theta[units * d + j]
        add_rows(z, theta, j * d, x, at, count)
        for i in range(count):
            z[i] = sigmoid(z[i])


@kernel_part(fastmath=SUMS)
def add_products(r, w, units, at, low, count, h, gram, right, weighted):  # type: ignore[no-untyped-def]
    """Add a block's `Hᵀ w H` (lower half) to `gram` and `Hᵀ w r` to `right`, `H` with a column of ones at the end."""
    outputs, zero = r.shape[0], w.dtype.type(0)
    wb, part = w[at : at + count], weighted[:count]
    for j in range(units + 1):
        if j < units:
            hj = h[j, low : low + count]
            for i in range(count):
                part[i] = wb[i] * hj[i]
        else:
            for i in range(count):
                part[i] = wb[i]
        for m in range(j):
            hm, total = h[m, low : low + count], zero
            for i in range(count):
                total += part[i] * hm[i]
            gram[j, m] += total
        total = zero
        if j < units:
            hj = h[j, low : low + count]
            for i in range(count):
                total += part[i] * hj[i]
        else:
            for i in range(count):
                total += part[i]
        gram[j, j] += total
        add_dots(part, r, at, count, right, j * outputs)


@kernel_part(fastmath=SUMS)
def solve_outputs(theta, units, d, outputs, ridge, gram, right):  # type: ignore[no-untyped-def]
    """Set `C`, `c` of `theta` to the ridge solution for the sums of `add_products`, by Cholesky.

    Returns `Σ_k right_kᵀ gram⁻¹ right_k`, the decrease of the weighted square of the targets, or −1 if there is no
    solution.
    """
    size, trace, explained = units + 1, 0.0, 0.0
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
                    return -1.0
                gram[j, j] = np.sqrt(total)
            else:
                gram[j, m] = total / gram[m, m]
    at = units * (d + 1)
    for k in range(outputs):
        for j in range(size):
            total = right[j * outputs + k]
            for m in range(j):
                total -= gram[j, m] * right[m * outputs + k]
            total /= gram[j, j]
            right[j * outputs + k] = total
            explained += total * total
        for j in range(size - 1, -1, -1):
            total = right[j * outputs + k]
            for m in range(j + 1, size):
                total -= gram[m, j] * right[m * outputs + k]
            right[j * outputs + k] = total / gram[j, j]
        for j in range(size):
            theta[at + j * outputs + k] = right[j * outputs + k]
    return explained


@kernel_part(fastmath=SUMS)
def find_errors(theta, r, w, units, d, at, low, count, h, error, grad):  # type: ignore[no-untyped-def]
    """Compute `error ← w (f − r)` of a block, add to the gradient of `C` and `c`, and return `Σ w ‖f − r‖²`."""
    outputs, zero = r.shape[0], w.dtype.type(0)
    own = units * (d + 1)
    last = own + units * outputs
    wb, value = w[at : at + count], zero
    for k in range(outputs):
        e, rk = error[k, :count], r[k, at : at + count]
        constant = theta[last + k]
        for i in range(count):
            e[i] = constant - rk[i]
        for j in range(units):
            hj, coefficient = h[j, low : low + count], theta[own + j * outputs + k]
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
            hj, total = h[j, low : low + count], zero
            for i in range(count):
                total += e[i] * hj[i]
            grad[own + j * outputs + k] += total
    return value


@kernel_part(fastmath=SUMS)
def differentiate(theta, x, r, w, units, at, low, count, h, error, delta, grad):  # type: ignore[no-untyped-def]
    """Add a block's share to `grad` (of all of `theta`); returns its share of `Σ w ‖f − r‖²`.

    `theta` has the type of `x`, `grad` is float64.
    """
    d, outputs = x.shape[0], r.shape[0]
    zero, one, own = x.dtype.type(0), x.dtype.type(1), units * (d + 1)
    value, dj = find_errors(theta, r, w, units, d, at, low, count, h, error, grad), delta[:count]
    for j in range(units):
        hj, total = h[j, low : low + count], zero
        dj[:] = zero
        for k in range(outputs):
            e, coefficient = error[k, :count], theta[own + j * outputs + k]
            for i in range(count):
                dj[i] += coefficient * e[i]
        for i in range(count):
            dj[i] *= hj[i] * (one - hj[i])
            total += dj[i]
        grad[units * d + j] += total
        add_dots(dj, x, at, count, grad, j * d)
    return value


@kernel(forceinline=True)
def objective(theta, x, r, w, n, units, ridge, places, h, error, delta, rounded, grad):  # type: ignore[no-untyped-def]
    """Return `L(θ)` of `n` rows, with its gradient in `grad`.

    The rows are those of the blocks from `places` on, one after another, `BLOCK` rows each but the last. The buffers
    are those of `descent_kernels.buffers`; `rounded` takes `theta` in `x`'s type.
    """
    d, outputs = x.shape[0], r.shape[0]
    own, value = units * (d + 1), 0.0
    grad[:] = 0.0
    for i in range(theta.size):
        rounded[i] = theta[i]
    low, block = FIRST, FIRST
    while low < n:
        at, count = places[block], min(BLOCK, n - low)
        activate(rounded, x, units, at, low, count, h)
        value += differentiate(rounded, x, r, w, units, at, low, count, h, error, delta, grad)
        low += count
        block += 1
    value += ridge * (squares(theta, FIRST, units * d) + squares(theta, own, own + units * outputs))
    for i in range(units * d):
        grad[i] += ridge * theta[i]
    for i in range(own, own + units * outputs):
        grad[i] += ridge * theta[i]
    return 0.5 * value


@kernel_part()
def squares(theta, first, past):  # type: ignore[no-untyped-def]
    """Return `Σ θ²` from `first` up to `past`."""
    total = 0.0
    for i in range(first, past):
        total += theta[i] * theta[i]
    return total


@kernel(fastmath=SUMS)
def weigh(r, w, n, places, known):  # type: ignore[no-untyped-def]
    """Set `known` to `Σ w ‖r‖²` and `Σ w` of the `n` rows of the blocks from `places` on."""
    known[:] = 0.0
    low, block = FIRST, FIRST
    while low < n:
        at, count = places[block], min(BLOCK, n - low)
        wb = w[at : at + count]
        for k in range(r.shape[0]):
            rk, total = r[k, at : at + count], w.dtype.type(0)
            for i in range(count):
                total += wb[i] * rk[i] * rk[i]
            known[0] += total
        total = w.dtype.type(0)
        for i in range(count):
            total += wb[i]
        known[1] += total
        low += count
        block += 1


def align_empty(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return a new array that begins on a cache line, as vectors then do not lie across two."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.empty(size + LINE, np.uint8)
    first = -room.ctypes.data % LINE
    found: NDArray[Any] = room[first : first + size].view(dtype).reshape(shape)
    return found


def gather(source: NDArray[Any], drawn: NDArray[np.int64], dtype: Any) -> NDArray[Any]:
    """Return the columns `drawn` of `source` (rows, n) in that type, C-contiguous."""
    out = np.empty((len(source), drawn.size), dtype)
    gather_columns(source, drawn, out)
    return out


@kernel()
def gather_columns(source, drawn, out):  # type: ignore[no-untyped-def]
    """Copy `out[f, i] ← source[f, drawn[i]]`."""
    for f in range(source.shape[0]):
        row, to = source[f], out[f]
        for i in range(drawn.size):
            to[i] = row[drawn[i]]
