"""Gradient and Laplacian of a perceptron's energy in x, propagated forward from layer to layer.

Each layer propagates, besides its values, their derivatives along every coordinate and their Laplacian (Li et al. 2024,
"A computational framework for neural network-based variational Monte Carlo with Forward Laplacian"). A single backward
pass then gives the parameter gradient of both, whereas autograd alone differentiates a gradient once per coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from relaxon.neuromorphic.energy.energies.families import MLPEnergy

Derivatives = tuple[Tensor, Tensor, Tensor, Tensor]


def _silu(h: Tensor) -> Derivatives:
    s = torch.sigmoid(h)
    u, v = s * (1 - s), 1 - 2 * s
    hv = h * v
    return h * s, torch.addcmul(s, h, u), u * (2 + hv), u * (v * (3 + hv) - 2 * h * u)


def _softplus(h: Tensor) -> Derivatives:
    s = torch.sigmoid(h)
    u = s * (1 - s)
    return nn.functional.softplus(h), s, u, u * (1 - 2 * s)


def _tanh(h: Tensor) -> Derivatives:
    t = torch.tanh(h)
    first = 1 - t.square()
    return t, first, -2 * t * first, first * (6 * t.square() - 2)


def _elu(h: Tensor) -> Derivatives:
    small = torch.exp(h.clamp(max=0))
    curved = torch.where(h > 0, 0.0, small)
    return nn.functional.elu(h), torch.where(h > 0, 1.0, small), curved, curved


def _gelu(h: Tensor) -> Derivatives:
    below = 0.5 * (1 + torch.erf(h * math.sqrt(0.5)))
    density = torch.exp(-0.5 * h.square()) / math.sqrt(2 * math.pi)
    square = h.square()
    return h * below, torch.addcmul(below, h, density), density * (2 - square), density * h * (square - 4)


DERIVATIVES: dict[type[nn.Module], Callable[[Tensor], Derivatives]] = {
    nn.SiLU: _silu,
    nn.Softplus: _softplus,
    nn.Tanh: _tanh,
    nn.ELU: _elu,
    nn.GELU: _gelu,
}
"""Value and first three derivatives of each activation."""


class _Activated(torch.autograd.Function):
    """An activation applied to values `h (n, m)`, slopes `j (d, n or 1, m)` and Laplacians `c (n, m)` or None for 0."""

    @staticmethod
    def forward(ctx: Any, kind: type[nn.Module], h: Tensor, j: Tensor, c: Tensor | None) -> tuple[Tensor, ...]:
        value, first, second, third = DERIVATIVES[kind](h)
        square = j.square().sum(0)
        curved = second * square
        ctx.save_for_backward(j, c, first, second, third, square)
        return value, first * j, curved if c is None else torch.addcmul(curved, first, c)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_value: Tensor, to_slope: Tensor, to_curve: Tensor) -> tuple[Tensor | None, ...]:
        j, c, first, second, third, square = ctx.saved_tensors
        along = torch.einsum("dnm,dnm->nm", to_slope, j.expand_as(to_slope))
        to_h = torch.addcmul(to_value * first, second, along)
        to_h.addcmul_(to_curve, third * square if c is None else torch.addcmul(third * square, second, c))
        to_j = torch.addcmul(first * to_slope, 2 * to_curve * second, j)
        if j.shape[1] == 1:
            to_j = to_j.sum(1, keepdim=True)
        return None, to_h, to_j, None if c is None else first * to_curve


def gradient_and_laplacian(energy: MLPEnergy, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return `∂E/∂x (d, n)` and `Σ ∂²E/∂x² (n,)` with a graph to the parameters, if `has_hand_gradient(energy)`."""
    layers: list[Any] = list(energy.net)
    linear, kind = layers[0::2], type(layers[1])
    value, slope, curve = _differentiate_inputs(energy, x)
    for layer in linear[:-1]:
        weight = layer.weight.T
        value, slope, curve = _Activated.apply(  # type: ignore[no-untyped-call]
            kind,
            torch.addmm(layer.bias, value, weight),
            slope @ weight,
            None if curve is None else curve @ weight,
        )
    weight = linear[-1].weight[0]
    assert curve is not None  # there is a hidden layer
    slope, curve = slope @ weight, curve @ weight
    if energy.bound is not None:
        _, first, second, _ = _tanh((value @ weight + linear[-1].bias) / energy.bound)
        slope, curve = first * slope, first * curve + second / energy.bound * slope.square().sum(0)
    if energy.confinement:
        slope = slope + 2 * energy.confinement * x.T
        curve = curve + 2 * energy.confinement * energy.features
    return slope, curve


def _differentiate_inputs(energy: MLPEnergy, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the perceptron's inputs `(n, p)`, their slopes `(d, n or 1, p)` and their Laplacians or None for 0."""
    d = energy.features
    eye = torch.eye(d, dtype=x.dtype, device=x.device)[:, None]
    if not energy.fourier:
        return x, eye, None
    values, slopes, curves = [x], [torch.ones_like(x)], [torch.zeros_like(x)]
    for rate, angle in energy.octaves(x):
        sine, cosine = angle.sin(), angle.cos()
        values += [sine, cosine]
        slopes += [rate * cosine, -rate * sine]
        curves += [-(rate**2) * sine, -(rate**2) * cosine]
    own = eye.repeat(1, 1, len(values))
    return torch.cat(values, 1), own * torch.cat(slopes, 1), torch.cat(curves, 1)
