"""Losses of boosting: the constant start, the residual, the loss values and the step along a stage's outputs.

The output axis comes first: targets `y`, additive model `F`, residual `r` and stage outputs `f` are `(K, n)`. The
weights `w` `(n,)` sum to 1. Binary targets are −1 and 1 in a single row; targets of more classes are one-hot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting.networks.model_kernels import find_squares
from relaxon.neuromorphic.boosting.stages.kernels import BLOCK
from relaxon.neuromorphic.boosting.training.loss_kernels import evaluate_log_loss, sum_curvature

Array = NDArray[np.float64]

LOGIT_RADIUS = 4.0
"""Trust radius: maximum change of a logit or log-mean by a guarded stage, before the learning rate. Newton's quadratic
model of the loss is not valid farther out where p(1 − p) is almost zero."""
LEAST_SHARE = 0.05
"""Minimum curvature of a guarded step, relative to that of the squared loss, for losses that are flat at most rows."""
START_STEPS = 50
"""Number of gradient steps from the median to the optimal constant of the Huber loss."""
TINY = 1e-300
"""Lower bound of denominators, smaller than any relevant curvature, that keeps quotients finite."""


class Loss(Protocol):
    """The interface of a loss that boosting can train with."""

    @property
    def separable(self) -> bool:
        """Whether the loss is a sum over outputs, so that each output has a separate guarded step."""

    @property
    def radius(self) -> float:
        """Maximum absolute value of `ρ f` at any row for a guarded step."""

    @property
    def gain(self) -> float:
        """`m`, the factor of the merged output."""

    def initial(self, y: Array, w: Array) -> Array:
        """Return `F₀`, the optimal constants, `(K,)`."""

    def values(self, y: Array, F: Array, w: Array) -> Array:
        """Return the loss of each output, `(K,)`, or a single value `(1,)` if it is not separable."""

    def residual(self, y: Array, F: Array) -> Array:
        """Return `r`, the negative gradient of the loss at each row, `(K, n)`."""

    def published_step(self, y: Array, F: Array, r: Array, f: Array, w: Array) -> Array:
        """Return the published step `ρ`, `(K,)`; it is not finite if Newton's denominator vanishes."""

    def guarded_step(self, y: Array, F: Array, r: Array, f: Array, w: Array, along: Array, square: Array) -> Array:
        """Return the first guarded step to try, `ρ` `(K,)`, finite; `along` is `Σ w r f` and `square` is `Σ w f²`."""

    def evaluate(self, y: Array, F: Array, w: Array) -> tuple[Array, Array]:
        """Return `values` and `residual` together."""


class _Evaluated:
    """Mix-in that implements `evaluate` for losses whose values and residuals share no work."""

    def evaluate(self: Loss, y: Array, F: Array, w: Array) -> tuple[Array, Array]:
        """Return `values` and `residual` together."""
        return self.values(y, F, w), self.residual(y, F)


@dataclass(frozen=True, slots=True)
class _Regression(_Evaluated):
    """Base class of the regression losses, most of which have the same step as published."""

    separable: bool = True
    radius: float = np.inf
    gain: float = 1.0

    def published_step(self: Loss, y: Array, F: Array, r: Array, f: Array, w: Array) -> Array:
        return self.guarded_step(y, F, r, f, w, (r * f) @ w, np.square(f) @ w)


@dataclass(frozen=True, slots=True)
class SquaredLoss(_Regression):
    """`½ (y − F)²`; a stage is a least-squares fit already, so that the published step is 1."""

    def initial(self, y: Array, w: Array) -> Array:
        return y @ w

    def values(self, y: Array, F: Array, w: Array) -> Array:
        return 0.5 * np.square(y - F) @ w

    def residual(self, y: Array, F: Array) -> Array:
        return y - F

    def evaluate(self, y: Array, F: Array, w: Array) -> tuple[Array, Array]:
        r = y - F
        return 0.5 * find_squares(r, w), r

    def published_step(self, y: Array, F: Array, r: Array, f: Array, w: Array) -> Array:
        return np.ones(len(f))

    def guarded_step(self, y: Array, F: Array, r: Array, f: Array, w: Array, along: Array, square: Array) -> Array:
        return _quotient(along, square)


@dataclass(frozen=True, slots=True)
class QuantileLoss(_Regression):
    """`(y − F)(q − [y < F])`, half the absolute error for q = ½; the step is the exact minimiser along the line."""

    quantile: float = 0.5

    def initial(self, y: Array, w: Array) -> Array:
        return np.array([weighted_quantile(row, w, self.quantile) for row in y])

    def values(self, y: Array, F: Array, w: Array) -> Array:
        error = y - F
        return (error * (self.quantile - (error < 0.0))) @ w

    def residual(self, y: Array, F: Array) -> Array:
        error = y - F
        return np.where(error > 0.0, self.quantile, np.where(error < 0.0, self.quantile - 1.0, 0.0))

    def guarded_step(self, y: Array, F: Array, r: Array, f: Array, w: Array, along: Array, square: Array) -> Array:
        error = y - F
        return np.array([self._line(error[k], f[k], w) for k in range(len(f))])

    def _line(self, error: Array, f: Array, w: Array) -> float:
        """Return `argmin_ρ Σ w ℓ(e − ρ f)`; the slope is negative at first and rises by `w |f|` at each `e/f`."""
        moving = np.abs(f) > TINY
        if not moving.any():
            return 0.0
        e, g, v = error[moving], f[moving], w[moving] * np.abs(f[moving])
        with np.errstate(over="ignore"):
            breaks = e / g
        slope = -float(v @ np.where(g > 0.0, self.quantile, 1.0 - self.quantile))
        order = np.argsort(breaks, kind="stable")
        passed = np.searchsorted(slope + np.cumsum(v[order]), 0.0)
        found = float(breaks[order[min(int(passed), order.size - 1)]])
        return found if np.isfinite(found) else 0.0


@dataclass(frozen=True, slots=True)
class AbsoluteLoss(QuantileLoss):
    """`|y − F|`, twice the quantile loss of the median."""

    def values(self, y: Array, F: Array, w: Array) -> Array:
        return np.abs(y - F) @ w


@dataclass(frozen=True, slots=True)
class HuberLoss(_Regression):
    """`½ e²` for `|e| ≤ δ`, `δ (|e| − ½ δ)` beyond (Huber 1964)."""

    delta: Array | float = 1.0

    def initial(self, y: Array, w: Array) -> Array:
        F = np.array([weighted_quantile(row, w, 0.5) for row in y])
        for _ in range(START_STEPS):
            # Gradient steps of size 1 are stable, as the curvature is at most 1.
            F = F + self.residual(y, F[:, None]) @ w
        return F

    def values(self, y: Array, F: Array, w: Array) -> Array:
        error, delta = np.abs(y - F), self._delta()
        return np.where(error <= delta, 0.5 * error * error, delta * (error - 0.5 * delta)) @ w

    def residual(self, y: Array, F: Array) -> Array:
        delta = self._delta()
        return np.clip(y - F, -delta, delta)

    def guarded_step(self, y: Array, F: Array, r: Array, f: Array, w: Array, along: Array, square: Array) -> Array:
        curvature = (np.square(f) * (np.abs(y - F) <= self._delta())) @ w
        return _quotient(along, np.maximum(curvature, LEAST_SHARE * square))

    def _delta(self) -> Array:
        return np.reshape(np.asarray(self.delta, np.float64), (-1, 1))


@dataclass(frozen=True, slots=True)
class PoissonLoss(_Regression):
    """`e^F − y F`, the part of the Poisson deviance that depends on `F`, the logarithm of the mean."""

    radius: float = LOGIT_RADIUS

    def initial(self, y: Array, w: Array) -> Array:
        return np.log(y @ w)

    def values(self, y: Array, F: Array, w: Array) -> Array:
        return (np.exp(F) - y * F) @ w

    def residual(self, y: Array, F: Array) -> Array:
        return y - np.exp(F)

    def guarded_step(self, y: Array, F: Array, r: Array, f: Array, w: Array, along: Array, square: Array) -> Array:
        return _quotient(along, (np.square(f) * np.exp(F)) @ w)


@dataclass(frozen=True, slots=True)
class BinaryLogLoss(_Evaluated):
    """`log(1 + e^{−2yF})` for y ∈ {−1, 1}; `F` is half the log-odds, so that the merged output is doubled."""

    separable: bool = True
    radius: float = LOGIT_RADIUS / 2
    gain: float = 2.0

    def initial(self, y: Array, w: Array) -> Array:
        mean = y @ w
        return np.asarray(0.5 * (np.log1p(mean) - np.log1p(-mean)))

    def values(self, y: Array, F: Array, w: Array) -> Array:
        return np.logaddexp(0.0, -2.0 * y * F) @ w

    def residual(self, y: Array, F: Array) -> Array:
        # This is 2y/(1 + e^{2yF}) without overflow.
        return np.asarray(y * (1.0 - np.tanh(y * F)))

    def published_step(self, y: Array, F: Array, r: Array, f: Array, w: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.asarray(((r * f) @ w) / ((np.square(f) * r * (2.0 * y - r)) @ w))

    def guarded_step(self, y: Array, F: Array, r: Array, f: Array, w: Array, along: Array, square: Array) -> Array:
        return _quotient(along, (np.square(f) * r * (2.0 * y - r)) @ w)


@dataclass(frozen=True, slots=True)
class LogLoss(_Evaluated):
    """`−log softmax(F)` of the true class, for one-hot `y`."""

    priors: bool = True
    """Whether to start from the logarithms of the class frequencies instead of 0."""
    separable: bool = False
    radius: float = LOGIT_RADIUS
    gain: float = 1.0

    def initial(self, y: Array, w: Array) -> Array:
        return np.asarray(np.log(y @ w)) if self.priors else np.zeros(len(y))

    def values(self, y: Array, F: Array, w: Array) -> Array:
        highest = F.max(axis=0)
        total = np.log(np.exp(F - highest).sum(axis=0)) + highest
        return np.array([float((total - (y * F).sum(axis=0)) @ w)])

    def residual(self, y: Array, F: Array) -> Array:
        return y - softmax(F)

    def evaluate(self, y: Array, F: Array, w: Array) -> tuple[Array, Array]:
        r = np.empty_like(F)
        return np.array([evaluate_log_loss(y, F, w, r, np.empty((3, BLOCK)))]), r

    def published_step(self, y: Array, F: Array, r: Array, f: Array, w: Array) -> Array:
        p = y - r
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.asarray(((f * r) @ w) / ((np.square(f) * p * (1.0 - p)) @ w))

    def guarded_step(self, y: Array, F: Array, r: Array, f: Array, w: Array, along: Array, square: Array) -> Array:
        curvature = np.empty(len(f))
        sum_curvature(y, r, f, w, curvature)
        return _quotient(along, curvature)


@dataclass(frozen=True, slots=True)
class CompSumBoostingLoss(_Evaluated):
    """The comp-sum loss `Φ_τ = (p_y^{τ−1} − 1)/(1 − τ)` of the true class's softmax probability (Mao et al. 2023).

    `y` is one-hot, or −1 and 1 in a single row; then `F` is half the log-odds as in `BinaryLogLoss`. With `s` the
    softmax, `∂Φ/∂F_k = −p_y^{τ−1} ([k = y] − s_k)` and `∂²Φ/∂F_k² = p_y^{τ−1} (s_k (1 − s_k) − (τ − 1)([k = y] −
    s_k)²)`; for a single row, two and four times these. The expected loss is minimal where the softmax is proportional
    to `p^{1/(2−τ)}`, so that the merged output needs the gain `2 − τ` for its softmax to be the probabilities.
    """

    tau: float
    outputs: int
    separable: bool = False

    @property
    def radius(self) -> float:
        return LOGIT_RADIUS / self._doubled

    @property
    def gain(self) -> float:
        return self._doubled * (2.0 - self.tau)

    @property
    def _doubled(self) -> float:
        return 2.0 if self.outputs == 1 else 1.0

    def initial(self, y: Array, w: Array) -> Array:
        mean = y @ w
        if self.outputs == 1:
            return np.asarray(0.5 * (np.log1p(mean) - np.log1p(-mean)) / (2.0 - self.tau))
        return np.asarray(np.log(mean) / (2.0 - self.tau))

    def values(self, y: Array, F: Array, w: Array) -> Array:
        surprise = -self._log_likelihood(y, F)
        if self.tau == 1.0:
            return np.array([float(surprise @ w)])
        return np.array([float(np.expm1((1.0 - self.tau) * surprise) @ w) / (1.0 - self.tau)])

    def residual(self, y: Array, F: Array) -> Array:
        weight, miss, _ = self._parts(y, F)
        return np.asarray(self._doubled * weight * miss)

    def curvature(self, y: Array, F: Array) -> Array:
        """Return the second derivative of each row by its output, `(K, n)`; negative where the loss is not convex."""
        weight, miss, spread = self._parts(y, F)
        return np.asarray(self._doubled**2 * weight * (spread - (self.tau - 1.0) * np.square(miss)))

    def published_step(self, y: Array, F: Array, r: Array, f: Array, w: Array) -> Array:
        raise NotImplementedError("the published algorithm has no comp-sum loss; the estimator refuses it")

    def guarded_step(self, y: Array, F: Array, r: Array, f: Array, w: Array, along: Array, square: Array) -> Array:
        weight, _, spread = self._parts(y, F)
        squares = np.square(f)
        # Where the loss is not convex Newton's step could ascend, so it is bounded by that of the convex part.
        convex = (squares * (self._doubled**2 * weight * spread)) @ w
        return _quotient(along, np.maximum((squares * self.curvature(y, F)) @ w, LEAST_SHARE * convex))

    def _parts(self, y: Array, F: Array) -> tuple[Array, Array, Array]:
        """Return `p_y^{τ−1}`, `[k = y] − s_k` (with the sign of `y` for a single row) and `s_k (1 − s_k)`."""
        weight = np.exp((self.tau - 1.0) * self._log_likelihood(y, F))
        if self.outputs == 1:
            # For the true class 1 − p = (1 − tanh(yF))/2, which does not overflow.
            rest = 0.5 * (1.0 - np.tanh(y * F))
            return weight, y * rest, rest * (1.0 - rest)
        s = softmax(F)
        return weight, y - s, s * (1.0 - s)

    def _log_likelihood(self, y: Array, F: Array) -> Array:
        """Return `log p_y`, `(n,)`."""
        if self.outputs == 1:
            return np.asarray(-np.logaddexp(0.0, -2.0 * y * F)[0])
        highest = F.max(axis=0)
        return np.asarray((y * F).sum(axis=0) - np.log(np.exp(F - highest).sum(axis=0)) - highest)


def softmax(F: Array) -> Array:
    """Return the class probabilities, `(K, n)` like `F`."""
    e = np.exp(F - F.max(axis=0))
    return np.asarray(e / e.sum(axis=0))


def weighted_quantile(values: Array, w: Array, quantile: float) -> float:
    """Return the smallest value whose cumulative weight reaches `quantile`; the midpoint if it is met exactly."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(w[order]) / w.sum()
    at = min(int(np.searchsorted(share, quantile * (1.0 - 1e-12))), order.size - 1)
    exact = abs(share[at] - quantile) <= 1e-12 and at + 1 < order.size
    return float(0.5 * (values[order[at]] + values[order[at + 1]]) if exact else values[order[at]])


def _quotient(numerator: Array, denominator: Array) -> Array:
    """Return Newton's step, finite for any curvature; the trust radius and the line search limit its size."""
    return np.asarray(np.clip(numerator / np.maximum(denominator, TINY), -1e100, 1e100))
