"""The published ADMM and an obvious projection in plain NumPy and SciPy: what the compiled engine is compared with.

Nothing here is shared with the kernels, the maps or the losses. Source: Bai, Gautam & Sojoudi 2023, section 3: copies
`v = u` and `s = G u` with `G = diag((2D_i − I) X)`, so that the steps are a linear system with `FᵀF + ρ (I + GᵀG)`, a
group soft threshold and a projection to `s ≥ 0`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """The iterates' group vectors `v` (2P, d) at the end and, after each step, the objective at `v` and `‖(Gv)₋‖`."""

    groups: Array
    objective: Array
    infeasibility: Array


def run_published_admm(x: Array, patterns: Array, y: Array, beta: float, rho: float, iterations: int) -> PublishedRun:
    """Run the published algorithm for `1/(2n) ‖Σ D_i X (v_i − w_i) − y‖² + β Σ ‖·‖`.

    `x` (n, d), `patterns` (n, P) of zeros and ones, `y` (n,); groups are `v_1 … v_P, w_1 … w_P`.
    """
    n, d = x.shape
    signed = np.hstack([patterns, patterns])
    sides = np.repeat([1.0, -1.0], patterns.shape[1])
    columns = [side * active[:, None] * x for side, active in zip(sides, signed.T, strict=True)]
    F = np.hstack(columns) / np.sqrt(n)
    G = [(2.0 * active - 1.0)[:, None] * x for active in signed.T]
    matrix = F.T @ F + rho * np.eye(F.shape[1])
    for i, block in enumerate(G):
        matrix[i * d : (i + 1) * d, i * d : (i + 1) * d] += rho * block.T @ block
    inverse = np.linalg.inv(matrix)
    v = np.zeros((len(G), d))
    lam, s = np.zeros_like(v), np.zeros((len(G), n))
    nu = np.zeros_like(s)
    objective, infeasibility = [], []
    for _ in range(iterations):
        pulled = np.stack([block.T @ row for block, row in zip(G, s - nu, strict=True)])
        u = (inverse @ (F.T @ y / np.sqrt(n) + rho * (v - lam + pulled).ravel())).reshape(v.shape)
        norms = np.linalg.norm(u + lam, axis=1, keepdims=True)
        v = (u + lam) * np.maximum(1.0 - beta / rho / np.maximum(norms, 1e-300), 0.0)
        products = np.stack([block @ row for block, row in zip(G, u, strict=True)])
        s = np.maximum(products + nu, 0.0)
        lam, nu = lam + u - v, nu + products - s
        error = F @ v.ravel() - y / np.sqrt(n)
        objective.append(0.5 * error @ error + beta * np.linalg.norm(v, axis=1).sum())
        below = [np.minimum(block @ row, 0.0) for block, row in zip(G, v, strict=True)]
        infeasibility.append(float(np.linalg.norm(below)))
    return PublishedRun(v, np.array(objective), np.array(infeasibility))


def project_plainly(x: Array, pattern: Array, v: Array) -> Array:
    """Return the projection of `v` (d,) onto `{u : (2D − I) X u ≥ 0}`, by SciPy's non-negative least squares."""
    rows = (2.0 * pattern - 1.0)[:, None] * x
    weights, _ = nnls(rows.T, -v, maxiter=100 * len(rows))
    return np.asarray(v + rows.T @ weights)
