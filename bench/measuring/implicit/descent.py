"""Block coordinate descent on the dual of the multiclass SVM, compiled: a solver that torch cannot unroll."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

__all__ = ["solve_by_compiled_descent"]


@numba.njit(cache=True, nogil=True)
def _descend(x, labels, theta, dual, weights, tolerance, sweeps):  # type: ignore[no-untyped-def]
    """Minimise exactly over one row of `dual` (m, k) after the other; `weights` (k, p) stays `(Y − dual)ᵀ X/θ`."""
    m, k = dual.shape
    for sweep in range(sweeps):
        largest = 0.0
        for i in range(m):
            row = x[i]
            curvature = (row @ row) / theta
            point = weights @ row
            for c in range(k):
                point[c] = dual[i, c] + (point[c] - (1.0 if labels[i] == c else 0.0)) / curvature
            ordered = np.sort(point)[::-1]
            total, threshold = 0.0, 0.0
            for c in range(k):
                total += ordered[c]
                if ordered[c] * (c + 1) > total - 1:
                    threshold = (total - 1) / (c + 1)
            for c in range(k):
                change = max(point[c] - threshold, 0.0) - dual[i, c]
                if change != 0.0:
                    dual[i, c] += change
                    largest = max(largest, abs(change))
                    weights[c] -= (change / theta) * row
        if largest <= tolerance:
            return sweep + 1
    return sweeps


def solve_by_compiled_descent(theta: Tensor, data, steps: int = 100_000, tolerance: float = 1e-10) -> Tensor:  # type: ignore[no-untyped-def]
    """Return the dual variable (m, k), as the solvers of the example do."""
    x, y = data.x.numpy(), data.y.numpy()
    dual = np.full_like(y, 1 / y.shape[1])
    weights = (y - dual).T @ x / float(theta)
    _descend(x, y.argmax(1), float(theta), dual, weights, tolerance, steps)
    return torch.from_numpy(dual)
