"""Predictions of a merged network with one hidden layer: a block of rows at a time through all units.

A block's features and four units' activations stay in the caches nearest to the processor; nothing of the size of the
table is made but the result. Rows do not depend on one another, so threads share them without changing a bit.
"""

# Counts begin with NumPy's int64, for the sake of `FIRST`, and go on as Python's.
# mypy: disable-error-code="assignment"
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting.stages.kernels import FIRST, SUMS
from relaxon.neuromorphic.boosting.stages.sigmoid_kernels import sigmoid_in_place
from relaxon.solvers.kernels.compiled import kernel, kernel_part
from relaxon.solvers.kernels.threads import divide, get_num_threads

Array = NDArray[np.float64]
ROWS = 512
"""Rows per block: the activations of four units are 16 KiB in float64."""
ABREAST = 4
"""Units and features processed together, so that each loaded value is used four times."""
SERIAL_SUMS = 200_000
"""Number of activations up to which a single thread computes them all, as waking another takes longer."""


def pack_units(weights: Array, bias: Array, output: Array, dtype: Any) -> tuple[NDArray[Any], ...]:
    """Return `W` (U, d), `b` (U,) and `C` (U, K) in the given type, padded with null units to a multiple of four."""
    extra = -len(bias) % ABREAST
    return tuple(
        np.ascontiguousarray(np.pad(array, ((0, extra), *((0, 0),) * (array.ndim - 1))), dtype)
        for array in (weights, bias, output)
    )


def predict_rows(
    x: Array, shift: Array, scale: Array, farthest: float, packed: tuple[NDArray[Any], ...], constant: Array
) -> Array:
    """Return `c + σ(W z + b) C` for inputs `x` (n, d) with standardised inputs `z`, `(n, K)` float64.

    `packed` is the result of `pack_units`; its type is that of the hidden layer. The outputs are summed in float64.
    """
    features, outputs, dtype = x.shape[1], len(constant), packed[0].dtype
    out = np.empty((len(x), outputs))

    def work() -> tuple[NDArray[Any], ...]:
        h, scratch = np.empty(ABREAST * ROWS, dtype), np.empty(ABREAST * ROWS, dtype)
        bits = scratch.view(np.int64 if dtype.itemsize == 8 else np.int32)
        return np.empty((features, ROWS), dtype), h, scratch, bits, np.empty((outputs, ROWS))

    chunks = get_num_threads() if len(x) * len(packed[1]) > SERIAL_SUMS else 1
    args = (np.ascontiguousarray(x), shift, scale, farthest, *packed, constant, out)
    divide(_predict_blocks, -(-len(x) // ROWS), *args, chunks=chunks, work=work)
    return out


@kernel_part(fastmath=SUMS, error_model="numpy")
def sum_units(W, b, z, j, count, h):  # type: ignore[no-untyped-def]
    """Compute `h ← W_j z + b_j` of four units from `j` on, each in a run of `count` entries."""
    d = W.shape[1]
    h0, h1, h2, h3 = h[:count], h[count : 2 * count], h[2 * count : 3 * count], h[3 * count : 4 * count]
    h0[:], h1[:], h2[:], h3[:] = b[j], b[j + 1], b[j + 2], b[j + 3]
    f = 0
    while f + 4 <= d:
        x0, x1, x2, x3 = z[f], z[f + 1], z[f + 2], z[f + 3]
        a0, a1, a2, a3 = W[j, f], W[j, f + 1], W[j, f + 2], W[j, f + 3]
        b0, b1, b2, b3 = W[j + 1, f], W[j + 1, f + 1], W[j + 1, f + 2], W[j + 1, f + 3]
        c0, c1, c2, c3 = W[j + 2, f], W[j + 2, f + 1], W[j + 2, f + 2], W[j + 2, f + 3]
        d0, d1, d2, d3 = W[j + 3, f], W[j + 3, f + 1], W[j + 3, f + 2], W[j + 3, f + 3]
        for i in range(count):
            h0[i] += a0 * x0[i] + a1 * x1[i] + a2 * x2[i] + a3 * x3[i]
            h1[i] += b0 * x0[i] + b1 * x1[i] + b2 * x2[i] + b3 * x3[i]
            h2[i] += c0 * x0[i] + c1 * x1[i] + c2 * x2[i] + c3 * x3[i]
            h3[i] += d0 * x0[i] + d1 * x1[i] + d2 * x2[i] + d3 * x3[i]
        f += 4
    while f < d:
        x0, a0, b0, c0, d0 = z[f], W[j, f], W[j + 1, f], W[j + 2, f], W[j + 3, f]
        for i in range(count):
            h0[i] += a0 * x0[i]
            h1[i] += b0 * x0[i]
            h2[i] += c0 * x0[i]
            h3[i] += d0 * x0[i]
        f += 1


@kernel(fastmath=SUMS, error_model="numpy")
def _predict_blocks(  # type: ignore[no-untyped-def]
    first, past, x, shift, scale, farthest, W, b, C, constant, out, z, h, scratch, bits, total
):
    n, d = x.shape
    units, outputs = C.shape
    low = first * ROWS
    while low < min(past * ROWS, n):
        count = min(ROWS, n - low)
        for f in range(d):
            zf, move, by = z[f], shift[f], scale[f]
            for i in range(count):
                value = (x[low + i, f] - move) * by
                # NaN, a missing input, is at the mean.
                value = value if value == value else 0.0
                zf[i] = min(max(value, -farthest), farthest)
        for k in range(outputs):
            total[k, :count] = constant[k]
        j = FIRST
        while j < units:
            sum_units(W, b, z, j, count, h)
            sigmoid_in_place(h[: 4 * count], scratch[: 4 * count], bits[: 4 * count])
            h0, h1, h2, h3 = h[:count], h[count : 2 * count], h[2 * count : 3 * count], h[3 * count : 4 * count]
            for k in range(outputs):
                t, c0, c1, c2, c3 = total[k], C[j, k], C[j + 1, k], C[j + 2, k], C[j + 3, k]
                for i in range(count):
                    t[i] += c0 * h0[i] + c1 * h1[i] + c2 * h2[i] + c3 * h3[i]
            j += 4
        for k in range(outputs):
            for i in range(count):
                out[low + i, k] = total[k, i]
        low += ROWS
