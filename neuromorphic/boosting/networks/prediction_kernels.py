"""Predictions of a merged network with one hidden layer: a block of rows at a time through all units.

A block's features and four units' sums stay in the cache nearest to the processor, in rows that begin on a cache line
and that do not all fall into the same sets of the cache; nothing of the size of the table is made but the result.
Weights are multiplied by −log₂ e beforehand, so that σ is `1/(1 + 2^t)` of a sum `t`. Rows do not depend on one
another, so threads share them without changing a bit.
"""

# Counts begin with NumPy's int64, for the sake of `FIRST`, and go on as Python's.
# mypy: disable-error-code="assignment"
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting.stages.kernels import SUMS, align_empty
from relaxon.neuromorphic.boosting.stages.sigmoid_kernels import (
    LARGEST_POWER,
    LARGEST_POWER_SINGLE,
    LOG2E,
    logistic,
)
from relaxon.solvers.kernels.compiled import kernel, kernel_part
from relaxon.solvers.kernels.threads import divide, get_num_threads

Array = NDArray[np.float64]
ROWS, PITCH = 256, 272
"""Rows per block, and numbers from one feature or unit of a block to the next: 20 features are 43 KiB in float64. With
512 and 528 products take up to 40 % longer, depending on where sums and features are allocated relative to each
other."""
ABREAST = 4
"""Units and features processed together, so that each loaded value is used four times."""
SERIAL_SUMS = 200_000
"""Number of activations up to which a single thread computes them all, as waking another takes longer."""


def pack_units(weights: Array, bias: Array, output: Array, dtype: Any) -> tuple[NDArray[Any], ...]:
    """Return `−log₂e W` (U, d), `−log₂e b` (U,), `C` (U, K) and `Σ_f |log₂e W_f|` (U,) in the given type.

    Null units and null weights pad the units and the features to multiples of four.
    """
    weights, bias = -LOG2E * weights, -LOG2E * bias
    norms = np.abs(weights).sum(axis=1)
    extra = -len(bias) % ABREAST
    padding = (((0, extra), (0, -weights.shape[1] % ABREAST)), ((0, extra),), ((0, extra), (0, 0)), ((0, extra),))
    arrays = zip((weights, bias, output, norms), padding, strict=True)
    return tuple(np.ascontiguousarray(np.pad(array, by), dtype) for array, by in arrays)


def predict_rows(
    x: Array, shift: Array, scale: Array, farthest: float, packed: tuple[NDArray[Any], ...], constant: Array
) -> Array:
    """Return `c + σ(W z + b) C` for inputs `x` (n, d) with standardised inputs `z`, `(n, K)` float64.

    `packed` is the result of `pack_units`; its type is that of the hidden layer. The outputs are summed in float64.
    """
    features, outputs, dtype = packed[0].shape[1], len(constant), packed[0].dtype
    out = np.empty((len(x), outputs))

    def work() -> tuple[NDArray[Any], ...]:
        z, h = (align_empty((size * PITCH,), dtype) for size in (features, ABREAST))
        z[:] = 0.0  # the padding's features
        return z, h, np.empty(features), align_empty((outputs, ROWS), np.float64)

    chunks = get_num_threads() if len(x) * len(packed[1]) > SERIAL_SUMS else 1
    largest = LARGEST_POWER if dtype == np.float64 else LARGEST_POWER_SINGLE
    args = (np.ascontiguousarray(x), shift, scale, farthest, largest, *packed, constant, out)
    divide(_predict_blocks, -(-len(x) // ROWS), *args, chunks=chunks, work=work)
    return out


@kernel_part(fastmath=SUMS, error_model="numpy")
def run_of(flat, row, count):  # type: ignore[no-untyped-def]
    """Return the first `count` numbers of a feature or unit of a block."""
    return flat[row * PITCH : row * PITCH + count]


@kernel_part(fastmath=SUMS, error_model="numpy")
def sum_units(W, b, z, j, count, h):  # type: ignore[no-untyped-def]
    """Compute `h ← W_j z + b_j` of four units from `j` on."""
    h0, h1, h2, h3 = run_of(h, 0, count), run_of(h, 1, count), run_of(h, 2, count), run_of(h, 3, count)
    h0[:], h1[:], h2[:], h3[:] = b[j], b[j + 1], b[j + 2], b[j + 3]
    for f in range(0, W.shape[1], 4):
        x0, x1, x2, x3 = run_of(z, f, count), run_of(z, f + 1, count), run_of(z, f + 2, count), run_of(z, f + 3, count)
        a0, a1, a2, a3 = W[j, f], W[j, f + 1], W[j, f + 2], W[j, f + 3]
        b0, b1, b2, b3 = W[j + 1, f], W[j + 1, f + 1], W[j + 1, f + 2], W[j + 1, f + 3]
        c0, c1, c2, c3 = W[j + 2, f], W[j + 2, f + 1], W[j + 2, f + 2], W[j + 2, f + 3]
        d0, d1, d2, d3 = W[j + 3, f], W[j + 3, f + 1], W[j + 3, f + 2], W[j + 3, f + 3]
        for i in range(count):
            h0[i] += a0 * x0[i] + a1 * x1[i] + a2 * x2[i] + a3 * x3[i]
            h1[i] += b0 * x0[i] + b1 * x1[i] + b2 * x2[i] + b3 * x3[i]
            h2[i] += c0 * x0[i] + c1 * x1[i] + c2 * x2[i] + c3 * x3[i]
            h3[i] += d0 * x0[i] + d1 * x1[i] + d2 * x2[i] + d3 * x3[i]


@kernel_part(fastmath=SUMS, error_model="numpy")
def clip_units(h, count, largest):  # type: ignore[no-untyped-def]
    """Clip four units' sums to ±`largest`."""
    for j in range(ABREAST):
        hj = run_of(h, j, count)
        for i in range(count):
            hj[i] = min(max(hj[i], -largest), largest)


@kernel_part(fastmath=SUMS, error_model="numpy")
def add_units(C, j, count, h, total):  # type: ignore[no-untyped-def]
    """Add the outputs of four units from `j` on with the sums `h`, which become activations if there are several."""
    h0, h1, h2, h3 = run_of(h, 0, count), run_of(h, 1, count), run_of(h, 2, count), run_of(h, 3, count)
    if total.shape[0] == 1:
        t, c0, c1, c2, c3 = total[0, :count], C[j, 0], C[j + 1, 0], C[j + 2, 0], C[j + 3, 0]
        for i in range(count):
            t[i] += c0 * logistic(h0[i]) + c1 * logistic(h1[i]) + c2 * logistic(h2[i]) + c3 * logistic(h3[i])
        return
    for i in range(count):
        h0[i], h1[i], h2[i], h3[i] = logistic(h0[i]), logistic(h1[i]), logistic(h2[i]), logistic(h3[i])
    for k in range(total.shape[0]):
        t, c0, c1, c2, c3 = total[k, :count], C[j, k], C[j + 1, k], C[j + 2, k], C[j + 3, k]
        for i in range(count):
            t[i] += c0 * h0[i] + c1 * h1[i] + c2 * h2[i] + c3 * h3[i]


@kernel_part(fastmath=SUMS, error_model="numpy")
def standardise_rows(x, low, count, shift, scale, farthest, z, reach):  # type: ignore[no-untyped-def]
    """Write a block's standardised inputs to `z`, feature by feature; return the largest of them in size."""
    reach[:] = 0.0
    for i in range(count):
        for f in range(x.shape[1]):
            value = (x[low + i, f] - shift[f]) * scale[f]
            # NaN, a missing input, is at the mean.
            value = value if value == value else 0.0
            value = min(max(value, -farthest), farthest)
            z[f * PITCH + i] = value
            reach[f] = max(reach[f], abs(value))
    return reach.max()


@kernel(fastmath=SUMS, error_model="numpy")
def _predict_blocks(first, past, x, shift, scale, farthest, largest, W, b, C, norms, constant, out, z, h, reach, total):  # type: ignore[no-untyped-def]
    n = x.shape[0]
    low = first * ROWS
    while low < min(past * ROWS, n):
        count = min(ROWS, n - low)
        far = standardise_rows(x, low, count, shift, scale, farthest, z, reach)
        for k in range(total.shape[0]):
            total[k, :count] = constant[k]
        for j in range(0, W.shape[0], 4):
            sum_units(W, b, z, j, count, h)
            bound = 0.0
            for unit in range(j, j + 4):
                bound = max(bound, norms[unit] * far + abs(b[unit]))
            if not bound < largest:
                clip_units(h, count, largest)
            add_units(C, j, count, h, total)
        for k in range(total.shape[0]):
            for i in range(count):
                out[low + i, k] = total[k, i]
        low += ROWS
