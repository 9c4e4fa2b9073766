"""The published algorithm in plain NumPy and SciPy: a readable reference for the compiled implementation and its tests.

It shares no code with the kernels or the losses. Source: Emami & Martínez-Muñoz 2023. A stage is what
`sklearn.neural_network.MLPRegressor` fits with `activation="logistic", solver="lbfgs"`.
"""
# Imported on first use, for their weight: scipy.

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ALPHA = 1e-4
"""Weight decay of `MLPRegressor`, which its objective divides by the number of rows."""


@dataclass(frozen=True, slots=True)
class PlainStage:
    """A stage `f(x) = σ(x Wᵀ + b) C + c` and its step `ρ`."""

    W: Array
    b: Array
    C: Array
    c: Array
    rho: Array

    def __call__(self, X: Array) -> Array:
        from scipy.special import expit

        return np.asarray(expit(X @ self.W.T + self.b) @ self.C + self.c)


@dataclass(frozen=True, slots=True)
class PlainModel:
    """The additive model; `losses` contains the training loss before training and after each stage."""

    initial: Array
    stages: list[PlainStage]
    learning_rate: float
    multiplier: float
    losses: list[float]

    def raw(self, X: Array) -> Array:
        """Return the sum over the stages, `(n, K)`."""
        F = np.tile(self.initial, (len(X), 1))
        for stage in self.stages:
            F = F + self.learning_rate * stage.rho * stage(X)
        return self.multiplier * F

    def merged(self) -> tuple[Array, Array, Array, Array]:
        """Return hidden weights (U, d) and biases (U,), output weights `m η ρ C` (U, K) and bias `m (F₀ + Σ η ρ c)`."""
        W = np.concatenate([stage.W for stage in self.stages])
        b = np.concatenate([stage.b for stage in self.stages])
        C = np.concatenate([self.multiplier * self.learning_rate * stage.rho * stage.C for stage in self.stages])
        steps = np.array([self.learning_rate * stage.rho * stage.c for stage in self.stages])
        return W, b, C, self.multiplier * (self.initial + steps.sum(axis=0))


def objective(theta: Array, X: Array, R: Array, w: Array, units: int, ridge: float) -> tuple[float, Array]:
    """Return `½ Σ w ‖r − f‖² + ½ ridge (‖W‖² + ‖C‖²)` and its gradient; `θ` as in `kernels`, `X` (n, d), `R` (n, K)."""
    from scipy.special import expit

    W, b, C, c = unpack_parameters(theta, X.shape[1], units, R.shape[1])
    H = expit(X @ W.T + b)
    E = H @ C + c - R
    WE = w[:, None] * E
    D = (WE @ C.T) * H * (1.0 - H)
    grad = np.concatenate([(D.T @ X + ridge * W).ravel(), D.sum(0), (H.T @ WE + ridge * C).ravel(), WE.sum(0)])
    return 0.5 * float((WE * E).sum()) + 0.5 * ridge * float((W * W).sum() + (C * C).sum()), grad


def project_outputs(theta: Array, X: Array, R: Array, w: Array, units: int, ridge: float) -> Array:
    """Return `θ` with `C`, `c` replaced by their least-squares solution for `W`, `b`."""
    from scipy.special import expit

    W, b, _, _ = unpack_parameters(theta, X.shape[1], units, R.shape[1])
    H = np.column_stack([expit(X @ W.T + b), np.ones(len(X))])
    gram = H.T @ (w[:, None] * H)
    gram[np.arange(units), np.arange(units)] += ridge
    solution = np.linalg.solve(gram, H.T @ (w[:, None] * R))
    return np.concatenate([W.ravel(), b, solution[:-1].ravel(), solution[-1]])


def unpack_parameters(theta: Array, d: int, units: int, outputs: int) -> tuple[Array, Array, Array, Array]:
    """Return `W` (J, d), `b` (J,), `C` (J, K) and `c` (K,) of the vector `θ`."""
    at = units * (d + 1)
    C = theta[at : at + units * outputs].reshape(units, outputs)
    return theta[: units * d].reshape(units, d), theta[units * d : at], C, theta[at + units * outputs :]


def fit_published(
    X: Array,
    y: Array,
    task: Literal["regression", "binary", "multiclass"],
    *,
    n_units: int = 200,
    units_per_stage: int = 1,
    learning_rate: float = 1.0,
    subsample: float = 0.5,
    iterations: int = 200,
    seed: int = 0,
) -> PlainModel:
    """Train on `X` (n, d) and `y` (n, K): numbers, −1 and 1 in a single column, or one-hot rows."""
    from scipy.optimize import minimize

    rng, (n, d), K = np.random.default_rng(seed), X.shape, y.shape[1]
    J, count = units_per_stage, max(1, round(subsample * n))
    mean = y.mean(axis=0)
    if task == "regression":
        initial = mean
    else:
        initial = 0.5 * np.log((1.0 + mean) / (1.0 - mean)) if task == "binary" else np.zeros(K)
    F = np.tile(initial, (n, 1))
    stages: list[PlainStage] = []
    losses = [_mean_loss(task, y, F)]
    for _ in range(n_units // J):
        if task == "regression":
            r = y - F
        elif task == "binary":
            r = 2.0 * y / (1.0 + np.exp(2.0 * y * F))
        else:
            p = np.exp(F - F.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            r = y - p
        rows = rng.permutation(n)[:count]
        inner, outer = np.sqrt(2.0 / (d + J)), np.sqrt(2.0 / (J + K))
        start = np.concatenate(
            [rng.uniform(-inner, inner, J * (d + 1)), rng.uniform(-outer, outer, (J + 1) * K)],
        )
        found = minimize(
            objective, start, (X[rows], r[rows], np.full(count, 1.0 / count), J, ALPHA / count),
            method="L-BFGS-B", jac=True, options={"maxiter": iterations},
        )  # fmt: skip
        stage = PlainStage(*unpack_parameters(found.x, d, J, K), np.ones(K))
        f = stage(X)
        if task == "binary":
            rho = (r * f).sum(axis=0) / (f * f * r * (2.0 * y - r)).sum(axis=0)
        elif task == "multiclass":
            rho = (f * r).sum(axis=0) / (f * f * p * (1.0 - p)).sum(axis=0)
        else:
            rho = np.ones(K)
        stages.append(PlainStage(stage.W, stage.b, stage.C, stage.c, rho))
        F = F + learning_rate * rho * f
        losses.append(_mean_loss(task, y, F))
    return PlainModel(initial, stages, learning_rate, 2.0 if task == "binary" else 1.0, losses)


def _mean_loss(task: str, y: Array, F: Array) -> float:
    if task == "regression":
        return float(0.5 * np.mean((y - F) ** 2))
    if task == "binary":
        return float(np.mean(np.logaddexp(0.0, -2.0 * y * F)))
    highest = F.max(axis=1)
    return float(np.mean(np.log(np.exp(F - highest[:, None]).sum(axis=1)) + highest - (y * F).sum(axis=1)))
