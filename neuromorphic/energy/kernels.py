"""Compiled log-densities and hand-written gradients of two small energies, for the reference of MECO.

Exponential family: `log p⁰(x) = Σ_k θ_k Π_i x_i^{p_ki} − c ‖x‖²`. One hidden layer:
`log p⁰(x) = −(s + Σ_j v_j tanh(a_j)) − c ‖x‖²` with `a = W x + b`; the parameters are concatenated as `W (h, d)`,
`b (h)`, `v (h)`, `s`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.compiled import kernel
from relaxon.solvers.kernels.threads import divide

Array = NDArray[np.float64]
CHUNKS = 16
"""Number of parts in which samples are summed, independent of the number of threads, so that results do not vary."""


@kernel(forceinline=True)
def statistic(x, powers, k):  # type: ignore[no-untyped-def]
    """Return `T_k(x)` of one event `x (d,)`; `powers (k, d)` are integers."""
    value = 1.0
    for i in range(len(x)):
        for _ in range(powers[k, i]):
            value *= x[i]
    return value


@kernel()
def family_log_density(x, theta, powers, confinement, out):  # type: ignore[no-untyped-def]
    """Compute `out (n,) ← log p⁰` of events `x (n, d)`."""
    for n in range(len(x)):
        total = 0.0
        for i in range(x.shape[1]):
            total -= confinement * x[n, i] * x[n, i]
        for k in range(len(theta)):
            total += theta[k] * statistic(x[n], powers, k)
        out[n] = total


@kernel()
def family_gradient(x, coefficients, powers, gradient):  # type: ignore[no-untyped-def]
    """Add `gradient (k,) += Σ_n c_n ∂ log p⁰(x_n)/∂θ = Σ_n c_n T(x_n)`."""
    for n in range(len(x)):
        for k in range(len(gradient)):
            gradient[k] += coefficients[n] * statistic(x[n], powers, k)


@kernel()
def hidden_log_density_run(start, stop, x, theta, hidden, confinement, out):  # type: ignore[no-untyped-def]
    """Compute `out[start:stop] ← log p⁰` of events `x (n, d)` under a layer of `hidden` units."""
    d = x.shape[1]
    bias, outer = hidden * d, hidden * (d + 1)
    for n in range(start, stop):
        total = -theta[hidden * (d + 2)]
        for i in range(d):
            total -= confinement * x[n, i] * x[n, i]
        for j in range(hidden):
            a = theta[bias + j]
            for i in range(d):
                a += theta[j * d + i] * x[n, i]
            total -= theta[outer + j] * math.tanh(a)
        out[n] = total


def hidden_log_density(x: Array, theta: Array, hidden: int, confinement: float, out: Array) -> None:
    """Compute `out (n,) ← log p⁰` of events `x (n, d)` under a layer of `hidden` units, shared among threads."""
    divide(hidden_log_density_run, len(x), x, theta, hidden, confinement, out)


@kernel()
def hidden_gradient_parts(start, stop, x, coefficients, theta, hidden, parts):  # type: ignore[no-untyped-def]
    """Add to each of `parts[start:stop]` its events' share of `hidden_gradient`."""
    count, d = x.shape
    bias, outer = hidden * d, hidden * (d + 1)
    for chunk in range(start, stop):
        part = parts[chunk]
        for n in range(chunk * count // CHUNKS, (chunk + 1) * count // CHUNKS):
            c = coefficients[n]
            part[hidden * (d + 2)] -= c
            for j in range(hidden):
                a = theta[bias + j]
                for i in range(d):
                    a += theta[j * d + i] * x[n, i]
                r = math.tanh(a)
                slope = c * theta[outer + j] * (1.0 - r * r)
                part[outer + j] -= c * r
                part[bias + j] -= slope
                for i in range(d):
                    part[j * d + i] -= slope * x[n, i]


def hidden_gradient(x: Array, coefficients: Array, theta: Array, hidden: int, gradient: Array) -> None:
    """Add `gradient += Σ_n c_n ∂ log p⁰(x_n)/∂θ`: `−tanh a` for v, `−v (1 − tanh² a)` for b and that times x for W."""
    parts = np.zeros((CHUNKS, len(gradient)))
    divide(hidden_gradient_parts, CHUNKS, x, coefficients, theta, hidden, parts)
    for part in parts:
        gradient += part
