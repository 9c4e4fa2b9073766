"""A reference implementation of MECO without torch, in double precision: compiled kernels and a plain NumPy twin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.energy import kernels

Array = NDArray[np.float64]
Backend = Literal["numba", "numpy"]


@dataclass(frozen=True, slots=True)
class FamilyReference:
    """An exponential family with polynomial statistics: `powers (k, features)` and the weight of −‖x‖²."""

    powers: NDArray[np.int64]
    confinement: float

    @classmethod
    def of(cls, energy: Any) -> tuple[Self, Array]:
        """Return the reference of an `ExponentialFamilyEnergy` with `PolynomialStatistics`, and its θ."""
        statistics = energy.statistics
        if not hasattr(statistics, "powers"):
            raise TypeError(f"energy must have PolynomialStatistics, got {type(statistics).__name__}")
        powers = np.zeros((len(statistics.powers), energy.features), np.int64)
        for row, axes in zip(powers, statistics.powers, strict=True):
            for axis in axes:
                row[axis] += 1
        return cls(powers, energy.confinement), energy.theta.detach().double().cpu().numpy().copy()

    def log_density(self, x: Array, theta: Array, backend: Backend = "numba") -> Array:
        if backend == "numpy":
            return np.asarray(self._statistics(x) @ theta - self.confinement * (x**2).sum(1))
        out = np.empty(len(x))
        kernels.family_log_density(x, theta, self.powers, self.confinement, out)
        return out

    def gradient(self, x: Array, coefficients: Array, theta: Array, backend: Backend = "numba") -> Array:
        """Return `Σ_n c_n ∂ log p⁰(x_n)/∂θ`."""
        if backend == "numpy":
            return coefficients @ self._statistics(x)
        found = np.zeros(len(theta))
        kernels.family_gradient(x, coefficients, self.powers, found)
        return found

    def _statistics(self, x: Array) -> Array:
        return np.asarray((x[:, None, :] ** self.powers).prod(2))


@dataclass(frozen=True, slots=True)
class HiddenReference:
    """One layer of `hidden` tanh units over `features` numbers."""

    features: int
    hidden: int
    confinement: float

    @classmethod
    def of(cls, energy: Any) -> tuple[Self, Array]:
        """Return the reference of an `MLPEnergy` with one "tanh" layer, and its parameters in torch's order."""
        form = (len(energy.hidden), energy.activation, energy.fourier, energy.bound)
        if form != (1, "tanh", 0, None):
            raise ValueError(f"energy must have one hidden layer of 'tanh' and neither octaves nor a bound, got {form}")
        flat = [parameter.detach().double().cpu().numpy().ravel() for parameter in energy.parameters()]
        return cls(energy.features, energy.hidden[0], energy.confinement), np.concatenate(flat)

    def log_density(self, x: Array, theta: Array, backend: Backend = "numba") -> Array:
        if backend == "numpy":
            w, b, v, s = self._parts(theta)
            return np.asarray(-(np.tanh(x @ w.T + b) @ v + s) - self.confinement * (x**2).sum(1))
        out = np.empty(len(x))
        kernels.hidden_log_density(x, theta, self.hidden, self.confinement, out)
        return out

    def gradient(self, x: Array, coefficients: Array, theta: Array, backend: Backend = "numba") -> Array:
        if backend == "numpy":
            w, b, v, _ = self._parts(theta)
            r = np.tanh(x @ w.T + b)
            slope = coefficients[:, None] * v * (1 - r**2)
            parts = [-(slope.T @ x).ravel(), -slope.sum(0), -(coefficients @ r), [-coefficients.sum()]]
            return np.concatenate(parts)
        found = np.zeros(len(theta))
        kernels.hidden_gradient(x, coefficients, theta, self.hidden, found)
        return found

    def _parts(self, theta: Array) -> tuple[Array, Array, Array, float]:
        places = np.cumsum([self.hidden * self.features, self.hidden, self.hidden])
        w, b, v, s = np.split(theta, places)
        return w.reshape(self.hidden, self.features), b, v, float(s[0])


@dataclass(slots=True)
class MECOReference:
    """MECO with a fixed γ and a dampened momentum: `log u`, the average v of the gradients, and the last θ."""

    energy: FamilyReference | HiddenReference
    theta: Array
    rate: float
    gamma: float = 0.1
    momentum: float = 0.0
    drift: bool = True
    centred: bool = True
    backend: Backend = "numba"
    log_u: float = -math.inf
    velocity: Array | None = None
    before: Array | None = None

    def step(self, x: Array, z: Array, log_q: Array) -> float:
        """Take a step on data `x (n, d)` and noise `z (m, d)` with log-density `log_q (m,)`; return its `log u`."""
        energy, backend = self.energy, self.backend
        log_w = energy.log_density(z, self.theta, backend) - log_q
        log_g = log_mean_exp(log_w)
        if self.before is None:
            self.log_u = log_g
        else:
            if self.drift:
                self.log_u += log_g - log_mean_exp(energy.log_density(z, self.before, backend) - log_q)
            self.log_u = float(np.logaddexp(self.log_u + math.log1p(-self.gamma), log_g + math.log(self.gamma)))
        w = np.exp(log_w - self.log_u)
        pull = w.mean() if self.centred else 1.0
        both = np.concatenate([x, z])
        coefficients = np.concatenate([np.full(len(x), -pull / len(x)), w / len(z)])
        found = energy.gradient(both, coefficients, self.theta, backend)
        if self.velocity is None:
            self.velocity = found
        else:
            self.velocity = self.momentum * self.velocity + (1 - self.momentum) * found
        self.before = self.theta
        self.theta = self.theta - self.rate * self.velocity
        return self.log_u


def log_mean_exp(values: Array) -> float:
    """Return the logarithm of the mean exponential."""
    top = float(values.max())
    return top + math.log(float(np.exp(values - top).mean()))
