"""Compiled passes over all rows of the additive model: activations and their moments, outputs, sums along a stage.

All arrays are float64 and feature-major, as in `stages.kernels`.
"""

# Counts begin with NumPy's int64, for the sake of `FIRST`, and go on as Python's.
# mypy: disable-error-code="assignment"
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting.stages.kernels import BLOCK, FIRST, SUMS, activate, align_empty
from relaxon.solvers.kernels.compiled import kernel

Array = NDArray[np.float64]


def unit_activations(weights: Array, bias: Array, x: Array) -> Array:
    """Return `σ(W x + b)` of all units on all rows, `(J, n)`."""
    H = np.empty((len(bias), x.shape[1]))
    activate_rows(np.concatenate([weights.ravel(), bias]), x, H)
    return H


def find_moments(H: Array, w: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation of each unit's activations (J, n) under weights (n,) that sum to 1."""
    mean, spread = np.empty(len(H)), np.empty(len(H))
    sum_moments(H, w, mean, spread)
    return mean, spread


def find_sums_along(r: Array, f: Array, w: Array) -> tuple[Array, Array, float]:
    """Return `Σ w r f` and `Σ w f²` of each output, `(K,)`, for residuals and stage outputs `(K, n)`.

    The third result is the part of the squared residual that the best steps of the outputs explain.
    """
    along, square = np.empty(len(f)), np.empty(len(f))
    return along, square, float(sum_along(r, f, w, along, square))


def find_squares(r: Array, w: Array) -> Array:
    """Return `Σ w r²` of each output, `(K,)`."""
    return find_sums_along(r, r, w)[0]


@kernel()
def activate_rows(theta, x, H):  # type: ignore[no-untyped-def]
    """Compute `H ← σ(W x + b)` block by block."""
    n = x.shape[1]
    low = FIRST
    while low < n:
        count = min(BLOCK, n - low)
        activate(theta, x, H.shape[0], low, low, count, H)
        low += count


@kernel(fastmath=SUMS, error_model="numpy")
def sum_moments(H, w, mean, spread):  # type: ignore[no-untyped-def]
    """Compute mean and standard deviation of each row of `H`, relative to its first entry for accuracy."""
    for j in range(H.shape[0]):
        h, first, total, square = H[j], H[j, 0], 0.0, 0.0
        for i in range(w.size):
            away = h[i] - first
            total += w[i] * away
            square += w[i] * away * away
        mean[j], spread[j] = first + total, np.sqrt(max(square - total * total, 0.0))


@kernel(fastmath=SUMS)
def sum_along(r, f, w, along, square):  # type: ignore[no-untyped-def]
    """Compute `Σ w r f` and `Σ w f²` of each row; return the sum of the squares of the former over the latter."""
    explained = 0.0
    for k in range(f.shape[0]):
        rk, fk, product, own = r[k], f[k], 0.0, 0.0
        for i in range(w.size):
            weighted = w[i] * fk[i]
            product += weighted * rk[i]
            own += weighted * fk[i]
        along[k], square[k] = product, own
        if own > 0.0:
            explained += product * product / own
    return explained


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


@kernel()
def join_ends(source, scales, out):  # type: ignore[no-untyped-def]
    """Compute `out[k] ← source[k] / scales[k]` and repeat the first rows as far as `out` is longer."""
    n = source.shape[1]
    for k in range(source.shape[0]):
        row, to, by = source[k], out[k], 1.0 / scales[k]
        for i in range(n):
            to[i] = row[i] * by
        for i in range(min(n, out.shape[1] - n)):
            to[n + i] = to[i]


def joined(source: Array, scales: Array, extra: int, dtype: Any) -> NDArray[Any]:
    """Return `source` (K, n) over `scales` (K,) in the given type, with its first `extra` rows repeated at the end."""
    out = align_empty((len(source), source.shape[1] + extra), dtype)
    join_ends(source, scales, out)
    return out
