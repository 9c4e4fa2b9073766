"""Compiled passes of the log-loss of several classes. Arrays are float64: `y`, `F`, `r` and `f` (K, n), `w` (n,)."""

# Counts begin with NumPy's int64, for the sake of `FIRST`, and go on as Python's.
# mypy: disable-error-code="assignment"
from __future__ import annotations

import numpy as np

from relaxon.neuromorphic.boosting.stages.kernels import BLOCK, FIRST, SUMS
from relaxon.neuromorphic.boosting.stages.sigmoid_kernels import exponential
from relaxon.solvers.kernels.compiled import kernel


@kernel(fastmath=SUMS, error_model="numpy")
def evaluate_log_loss(y, F, w, r, rows):  # type: ignore[no-untyped-def]
    """Set `r` to one-hot `y` less the softmax of `F`; return `Σ w (log Σ_k e^{F_k} − y · F)`.

    `rows` (3, BLOCK) is scratch.
    """
    outputs, n = F.shape
    value, low = 0.0, FIRST
    while low < n:
        count = min(BLOCK, n - low)
        highest, total, true = rows[0, :count], rows[1, :count], rows[2, :count]
        highest[:], total[:], true[:] = F[0, low : low + count], 0.0, 0.0
        for k in range(1, outputs):
            Fk = F[k, low : low + count]
            for i in range(count):
                highest[i] = max(highest[i], Fk[i])
        for k in range(outputs):
            Fk, yk, rk = F[k, low : low + count], y[k, low : low + count], r[k, low : low + count]
            for i in range(count):
                rk[i] = exponential(Fk[i] - highest[i])
                total[i] += rk[i]
                # Infinite and NaN logits remain in this sum, so that the value is NaN.
                true[i] += yk[i] * Fk[i]
        for i in range(count):
            value += w[low + i] * (np.log(total[i]) + highest[i] - true[i])
            total[i] = 1.0 / total[i]
        for k in range(outputs):
            yk, rk = y[k, low : low + count], r[k, low : low + count]
            for i in range(count):
                rk[i] = yk[i] - rk[i] * total[i]
        low += count
    return value


@kernel(fastmath=SUMS, error_model="numpy")
def sum_curvature(y, r, f, w, sums):  # type: ignore[no-untyped-def]
    """Set `sums` (K,) to `Σ w f² p (1 − p)` with `p = y − r`."""
    for k in range(f.shape[0]):
        yk, rk, fk, total = y[k], r[k], f[k], 0.0
        for i in range(w.size):
            p = yk[i] - rk[i]
            total += w[i] * fk[i] * fk[i] * (p * (1.0 - p))
        sums[k] = total
