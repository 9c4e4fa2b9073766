"""Activation functions of the units: rate `r = φ(u)`, its derivative on the real line, and whether φ is holomorphic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SLOPE, OFFSET = 4.0, 2.0
"""σ(4u − 2) maps [0, 1] about onto [0, 1] with slope 1 in the middle (Laborieux and Zenke 2022)."""
LARGEST_EXPONENT = {torch.float32: 40.0, torch.float64: 300.0}
"""Above these exp(−z) squared would overflow; the sigmoid is below 1e-17 there, and is taken there instead."""


@dataclass(frozen=True, slots=True)
class Activation:
    """`function` takes real and, where `holomorphic`, complex tensors; `derivative` takes real ones."""

    name: str
    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    holomorphic: bool
    planes: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    """Real and imaginary part of φ from those of u, where that is dearer by way of a complex tensor."""

    def on_planes(self, planes: Tensor) -> Tensor:
        """φ of complex numbers whose imaginary parts `(batch, …)` lie behind their real ones."""
        real, imaginary = planes.chunk(2)
        if self.planes is not None:
            return torch.cat(self.planes(real, imaginary))
        r = self(torch.complex(real, imaginary))
        return torch.cat([r.real, r.imag])

    def __call__(self, u: Tensor) -> Tensor:
        if u.is_complex() and not self.holomorphic:
            raise ValueError(f"activation {self.name!r} is not holomorphic: it has no value at complex states")
        return self.function(u)


def logistic(z: Tensor) -> Tensor:
    """`1 / (1 + e^{−z})`; the complex case in real arithmetic, about four times as fast as torch's own."""
    return torch.complex(*_logistic_planes(z.real, z.imag)) if z.is_complex() else torch.sigmoid(z)


def _logistic_planes(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """`1/(1 + e^{−a}(cos b − i sin b))`."""
    e = torch.exp((-a).clamp(max=LARGEST_EXPONENT[a.dtype]))
    cosine, sine = e * torch.cos(b), e * torch.sin(b)
    p = 1 + cosine
    d = torch.addcmul(p * p, sine, sine).reciprocal()
    return p * d, sine * d


def _steep(u: Tensor) -> Tensor:
    if u.is_complex():
        return torch.complex(*_steep_planes(u.real, u.imag))
    return torch.sigmoid(SLOPE * u - OFFSET)


def _steep_planes(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return _logistic_planes(SLOPE * a - OFFSET, SLOPE * b)


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
        Activation("sigmoid", _steep, _steep_derivative, True, _steep_planes),
        Activation("dsilu", _dsilu, _dsilu_derivative, True),
        Activation("tanh", torch.tanh, lambda u: 1 - torch.tanh(u).square(), True),
        Activation("identity", lambda u: u, torch.ones_like, True),
        Activation("hard-sigmoid", lambda u: u.clamp(0, 1), lambda u: ((u > 0) & (u < 1)).to(u.dtype), False),
        Activation("relu6", lambda u: u.clamp(0, 6), lambda u: ((u > 0) & (u < 6)).to(u.dtype), False),
        Activation("relu", torch.relu, lambda u: (u > 0).to(u.dtype), False),
    )
}
"""By name. "sigmoid" is σ(4u − 2), "dsilu" the derivative of `u σ(u)`; the last three are not holomorphic."""


def activation_named(name: str) -> Activation:
    """The activation of that name; ValueError for an unknown one."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(map(repr, ACTIVATIONS))}, got {name!r}")
    return ACTIVATIONS[name]
