"""Activation functions of the units: the rate `r = φ(u)`, its derivative for real u, and whether φ is holomorphic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from relaxon.neuromorphic.equilibrium.networks.chain_kernels import sigmoid_planes
from relaxon.solvers.kernels.compiled import threads_for
from relaxon.solvers.kernels.threads import divide

SLOPE, OFFSET = 4.0, 2.0
"""σ(4u − 2) maps [0, 1] approximately onto [0, 1], with slope 1 in the middle (Laborieux and Zenke 2022)."""
LARGEST_EXPONENT = {torch.float32: 40.0, torch.float64: 300.0}
"""Exponents are limited to these values, above which exp(−z)² would overflow; the sigmoid is below 1e-17 there."""


class InnerFunction(Protocol):
    """A function of real numbers that writes its values into a buffer."""

    def __call__(self, values: Tensor, /, *, out: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation function φ.

    `function` accepts real tensors and, where `holomorphic`, complex ones; `derivative` accepts real tensors.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    holomorphic: bool
    planes: Callable[[Tensor, Tensor], None] | None = None
    """As `inner_planes`, where this is cheaper than complex arithmetic."""

    slope: float = 1.0
    offset: float = 0.0
    """φ(u) is an inner function of `slope·u + offset`; both numbers can be absorbed in the weights that lead to u."""
    inner_into: InnerFunction | None = None
    """The inner function for real numbers, writing into a buffer, where torch provides it."""

    def inner_planes(self, planes: Tensor, rates: Tensor) -> None:
        """Write the inner function of complex numbers, given as real then imaginary parts `(batch, …)`."""
        if self.planes is not None:
            self.planes(planes, rates)
            return
        r = self(torch.complex(*planes.chunk(2)))
        torch.cat([r.real, r.imag], out=rates)

    def __call__(self, u: Tensor) -> Tensor:
        if u.is_complex() and not self.holomorphic:
            raise ValueError(f"activation {self.name!r} is not holomorphic: it is not defined at complex states")
        return self.function(u)


def logistic(z: Tensor) -> Tensor:
    """Return `1 / (1 + e^{−z})`; complex numbers in real arithmetic, about four times as fast as torch's own."""
    if not z.is_complex():
        return torch.sigmoid(z)
    return torch.complex(*_logistic_parts(z.real, z.imag))


def _logistic_parts(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the real and the imaginary part of `1/(1 + e^{−a}(cos b − i sin b))`."""
    e = torch.exp((-a).clamp(max=LARGEST_EXPONENT[a.dtype]))
    cosine, sine = e * torch.cos(b), e * torch.sin(b)
    p = 1 + cosine
    d = torch.addcmul(p * p, sine, sine).reciprocal()
    return p * d, sine * d


def _logistic_into(planes: Tensor, rates: Tensor) -> None:
    """Write the logistic function of complex numbers, given as real then imaginary parts `(2·batch, …)`."""
    batch = len(planes) // 2
    if planes.dtype == torch.float32 and planes.device.type == "cpu":
        divide(sigmoid_planes, batch, planes.numpy(), rates.numpy(), chunks=threads_for(planes.numel()))
        return
    (a, b), (real, imaginary) = planes.chunk(2), rates.chunk(2)
    e = torch.neg(a).clamp_(max=LARGEST_EXPONENT[a.dtype]).exp_()
    p = torch.cos(b).mul_(e).add_(1)
    sine = torch.sin(b).mul_(e)
    d = torch.mul(p, p, out=e).addcmul_(sine, sine).reciprocal_()
    torch.mul(p, d, out=real)
    torch.mul(sine, d, out=imaginary)


def _steep(u: Tensor) -> Tensor:
    if u.is_complex():
        return torch.complex(*_logistic_parts(SLOPE * u.real - OFFSET, SLOPE * u.imag))
    return torch.sigmoid(SLOPE * u - OFFSET)


def _steep_derivative(u: Tensor) -> Tensor:
    r = _steep(u)
    return SLOPE * r * (1 - r)


def _dsilu(u: Tensor) -> Tensor:
    s = logistic(u)
    return s * (1 + u * (1 - s))


def _dsilu_derivative(u: Tensor) -> Tensor:
    s = logistic(u)
    return s * (1 - s) * (2 + u * (1 - 2 * s))


ACTIVATIONS = {
    activation.name: activation
    for activation in (
        Activation("sigmoid", _steep, _steep_derivative, True, _logistic_into, SLOPE, -OFFSET, torch.sigmoid),
        Activation("dsilu", _dsilu, _dsilu_derivative, True),
        Activation("tanh", torch.tanh, lambda u: 1 - torch.tanh(u).square(), True, inner_into=torch.tanh),
        Activation("identity", lambda u: u, torch.ones_like, True),
        Activation("hard-sigmoid", lambda u: u.clamp(0, 1), lambda u: ((u > 0) & (u < 1)).to(u.dtype), False),
        Activation("relu6", lambda u: u.clamp(0, 6), lambda u: ((u > 0) & (u < 6)).to(u.dtype), False),
        Activation("relu", torch.relu, lambda u: (u > 0).to(u.dtype), False),
    )
}
"""The activations by name. "sigmoid" is σ(4u − 2), "dsilu" the derivative of `u σ(u)`; the last three are not
holomorphic."""


def find_activation(name: str) -> Activation:
    """Return the activation of this name; ValueError for an unknown name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(map(repr, ACTIVATIONS))}, got {name!r}")
    return ACTIVATIONS[name]
