"""Losses of the convex program: value, gradient, conjugate, proximal step.

Outputs `Z` are `(n, K)`, shares `c` `(n,)` sum to 1; the loss is `Σ_k c_k ℓ(z_k)`. The dual of the program maximises
`−Σ_k c_k ℓ*(θ_k / c_k)` over `θ` `(n, K)` in the constraint set; `θ` that a loss returns lies in the conjugate's
domain, and so does `t θ` for `0 ≤ t ≤ 1`.
"""

# Imported on first use, for its weight: SciPy.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.convex.program.prox_kernels import (
    HINGE,
    LOGISTIC,
    SQUARED,
    prox_logistic,
    prox_robust,
    prox_softmax,
)

Array = NDArray[np.float64]

__all__ = [
    "HINGE",
    "LOGISTIC",
    "SQUARED",
    "ConvexLoss",
    "HingeLoss",
    "LogisticLoss",
    "RobustLoss",
    "SoftmaxLoss",
    "SquaredError",
]
TINY = 1e-300


@dataclass(frozen=True, slots=True)
class SquaredError:
    """`½ (z − y)²` summed over outputs; targets `y` (n, K)."""

    y: Array
    curvature: float = 1.0
    """An upper bound on the second derivative, or a substitute for it: the initial penalty of `Z`."""

    def value(self, z: Array, c: Array) -> float:
        """Return `Σ c ℓ(z)`."""
        return 0.5 * float(c @ np.square(z - self.y).sum(axis=1))

    def gradient(self, z: Array, c: Array) -> Array:
        """Return a (sub)gradient of the value with respect to `z`: `(n, K)`."""
        return c[:, None] * (z - self.y)

    def prox(self, a: Array, sigma: float) -> Array:
        """Return `argmin_z ℓ(z) + ½ σ ‖z − a‖²`, row by row."""
        return np.asarray((self.y + sigma * a) / (1.0 + sigma))

    def dual_value(self, theta: Array, c: Array, longest: float) -> tuple[float, float]:
        """Return the largest value found of `−Σ c ℓ*(t θ / c)`, `0 ≤ t ≤ longest`, and its `t`."""
        return _find_vertex((theta * self.y).sum(), np.square(theta), c, longest)


@dataclass(frozen=True, slots=True)
class LogisticLoss:
    """`Σ log(1 + e^{−y z})` for `y` in {−1, 1}, `(n, K)`: one classifier an output."""

    y: Array
    curvature: float = 0.25

    def value(self, z: Array, c: Array) -> float:
        return float(c @ np.logaddexp(0.0, -self.y * z).sum(axis=1))

    def gradient(self, z: Array, c: Array) -> Array:
        from scipy.special import expit

        return np.asarray(-c[:, None] * self.y * expit(-self.y * z))

    def prox(self, a: Array, sigma: float) -> Array:
        out = np.empty_like(a)
        prox_logistic(np.ascontiguousarray(self.y * a).ravel(), sigma, out.ravel())
        return self.y * out

    def dual_value(self, theta: Array, c: Array, longest: float) -> tuple[float, float]:
        from scipy.special import entr

        s = np.clip(-longest * theta * self.y / c[:, None], 0.0, 1.0)
        return float(c @ (entr(s) + entr(1.0 - s)).sum(axis=1)), longest


@dataclass(frozen=True, slots=True)
class SoftmaxLoss:
    """`log Σ_j e^{z_j} − z_y`: `labels` (n,) int64 of K classes."""

    labels: NDArray[np.int64]
    classes: int
    curvature: float = 0.25

    def value(self, z: Array, c: Array) -> float:
        from scipy.special import logsumexp

        return float(c @ (logsumexp(z, axis=1) - z[np.arange(len(z)), self.labels]))

    def gradient(self, z: Array, c: Array) -> Array:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        p[np.arange(len(z)), self.labels] -= 1.0
        return np.asarray(c[:, None] * p)

    def prox(self, a: Array, sigma: float) -> Array:
        out = np.empty_like(a)
        prox_softmax(np.ascontiguousarray(a), self.labels, sigma, out)
        return out

    def dual_value(self, theta: Array, c: Array, longest: float) -> tuple[float, float]:
        from scipy.special import entr

        p = longest * theta / c[:, None]
        p[np.arange(len(p)), self.labels] += 1.0
        # Rounding apart, p is a row of probabilities; what is less than 0 or sums to more than 1 would not be.
        p = np.maximum(p, 0.0)
        p /= p.sum(axis=1, keepdims=True)
        return float(c @ entr(p).sum(axis=1)), longest


@dataclass(frozen=True, slots=True)
class HingeLoss:
    """`Σ max(0, 1 − y z)` for `y` in {−1, 1}, `(n, K)`: one classifier an output."""

    y: Array
    curvature: float = 1.0

    def value(self, z: Array, c: Array) -> float:
        return float(c @ np.maximum(1.0 - self.y * z, 0.0).sum(axis=1))

    def gradient(self, z: Array, c: Array) -> Array:
        return np.asarray(-c[:, None] * self.y * (self.y * z < 1.0))

    def prox(self, a: Array, sigma: float) -> Array:
        m = self.y * a
        return self.y * np.where(m >= 1.0, m, np.minimum(m + 1.0 / sigma, 1.0))

    def dual_value(self, theta: Array, c: Array, longest: float) -> tuple[float, float]:
        s = np.clip(-longest * theta * self.y / c[:, None], 0.0, 1.0)
        return float(c @ s.sum(axis=1)), longest


@dataclass(frozen=True, slots=True)
class RobustLoss:
    """The maximum of a loss over a box: outputs `(n, K (1 + d))` are pairs `z`, `r`, and z changes by at most `‖r‖₁`.

    For margins it is `ℓ(y z − ‖r‖₁)`, for the squared loss `½ (|z − y| + ‖r‖₁)²` (Bai et al. 2023, section 4). Its
    conjugate at `(θ, ψ)` with `|ψ_j| ≤ |θ|` is that of the loss at `θ`.

    Attributes
    ----------
    plain : the loss without a box.
    kind : `HINGE`, `LOGISTIC` or `SQUARED`.
    """

    plain: HingeLoss | LogisticLoss | SquaredError
    kind: int

    @property
    def curvature(self) -> float:
        return self.plain.curvature

    def value(self, z: Array, c: Array) -> float:
        return self.plain.value(self._find_worst(z), c)

    def gradient(self, z: Array, c: Array) -> Array:
        parts = self._parts(z)
        theta = self.plain.gradient(self._find_worst(z), c)
        slopes = np.abs(theta)[..., None] * np.sign(parts[..., 1:])
        return np.concatenate([theta[..., None], slopes], axis=-1).reshape(z.shape)

    def prox(self, a: Array, sigma: float) -> Array:
        parts = np.ascontiguousarray(self._parts(a))
        out = np.empty_like(parts)
        width = parts.shape[-1]
        prox_robust(parts.reshape(-1, width), self.plain.y.ravel(), self.kind, sigma, out.reshape(-1, width))
        return out.reshape(a.shape)

    def dual_value(self, theta: Array, c: Array, longest: float) -> tuple[float, float]:
        parts = self._parts(theta)
        if self.kind != SQUARED:
            # Rounding apart, |ψ_j| ≤ |θ|; a θ of that size in the direction of the margin is what the conjugate needs.
            return self.plain.dual_value(-self.plain.y * np.abs(parts).max(axis=-1), c, longest)
        size = np.abs(parts).max(axis=-1)
        return _find_vertex((parts[..., 0] * self.plain.y).sum(), np.square(size), c, longest)

    def _parts(self, z: Array) -> Array:
        return z.reshape(len(z), self.plain.y.shape[1], -1)

    def _find_worst(self, z: Array) -> Array:
        """Return the worst output in the box of each row: `(n, K)`."""
        parts = self._parts(z)
        reach = np.abs(parts[..., 1:]).sum(axis=-1)
        if self.kind != SQUARED:
            return np.asarray(parts[..., 0] - self.plain.y * reach)
        error = parts[..., 0] - self.plain.y
        return np.asarray(parts[..., 0] + np.where(error < 0.0, -reach, reach))


def _find_vertex(product: float, squares: Array, c: Array, longest: float) -> tuple[float, float]:
    """Return the largest value of the parabola `−t Σ θ y − ½ t² Σ θ²/c`, `0 ≤ t ≤ longest`, and its `t`."""
    slope, bend = -float(product), float((squares.sum(axis=1) / c).sum())
    t = min(max(slope / max(bend, TINY), 0.0), longest)
    return t * slope - 0.5 * t * t * bend, t


ConvexLoss = SquaredError | LogisticLoss | SoftmaxLoss | HingeLoss | RobustLoss
