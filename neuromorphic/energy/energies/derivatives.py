"""Gradients of a perceptron's energy in x by hand: those of autograd without its graph, for samplers' inner loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from relaxon.neuromorphic.energy.energies.families import MLPEnergy

Backward = Callable[[Tensor, Tensor], Tensor]
"""From the gradient at an activation's output and from its input, `(n, m)` both, the gradient at its input."""
BACKWARD: dict[type[nn.Module], Backward] = {
    nn.SiLU: torch.ops.aten.silu_backward,
    nn.Softplus: lambda g, h: torch.ops.aten.softplus_backward(g, h, 1.0, 20.0),
    nn.Tanh: lambda g, h: torch.ops.aten.tanh_backward(g, h.tanh()),
    nn.ELU: lambda g, h: torch.ops.aten.elu_backward(g, 1.0, 1.0, 1.0, False, h),
    nn.GELU: torch.ops.aten.gelu_backward,
}
NARROW = 16
"""Columns below which a product with a tall matrix is slower than one with so many columns."""


def has_hand_gradient(energy: object) -> TypeGuard[MLPEnergy]:
    """Whether `input_gradient` knows this energy: a perceptron as it was made, without hooks of the caller's."""
    if type(energy) is not MLPEnergy or not energy.hidden:
        return False
    # A layer that was exchanged, or that something listens to, goes its own way.
    layers = list(energy.net)
    plain = all(type(layer) is nn.Linear or type(layer) in BACKWARD for layer in layers)
    return plain and not any(module._forward_hooks or module._forward_pre_hooks for module in energy.modules())


@torch.no_grad()
def input_gradient(energy: MLPEnergy, x: Tensor) -> Tensor:
    """`∂E/∂x`, `(n, features)`, of an energy that `has_hand_gradient`; nothing is checked."""
    layers: list[Any] = list(energy.net)
    linear, activation = layers[0::2], layers[1]
    backward = BACKWARD[type(activation)]
    befores = [torch.addmm(linear[0].bias, _fourier_inputs(energy, x), linear[0].weight.T)]
    for layer in linear[1:-1]:
        befores.append(torch.addmm(layer.bias, activation(befores[-1]), layer.weight.T))
    seed = linear[-1].weight.expand(len(x), -1)
    if energy.bound is not None:
        out = linear[-1](activation(befores[-1])) / energy.bound
        seed = seed * (1 - out.tanh().square())
    gradient = backward(seed, befores[-1])
    for layer, before in zip(reversed(linear[1:-1]), reversed(befores[:-1]), strict=True):
        gradient = backward(gradient @ layer.weight, before)
    found = _pull_back(energy, x, _multiply_narrow(gradient, linear[0].weight))
    return found.add_(x, alpha=2 * energy.confinement) if energy.confinement else found


def energy_gradient(energy: nn.Module, x: Tensor) -> Tensor:
    """`∂E/∂x` of any energy, without a graph."""
    if has_hand_gradient(energy):
        return input_gradient(energy, x)
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        return torch.autograd.grad(energy(x).sum(), x)[0]


def _multiply_narrow(tall: Tensor, weight: Tensor) -> Tensor:
    columns = weight.shape[1]
    if columns >= NARROW:
        return tall @ weight
    wide = weight.new_zeros(len(weight), NARROW)
    wide[:, :columns] = weight
    return (tall @ wide)[:, :columns]


def _fourier_angles(energy: MLPEnergy, x: Tensor) -> list[tuple[float, Tensor]]:
    rates = [math.pi * 2**octave / energy.reach for octave in range(energy.fourier)]
    return [(rate, x * rate) for rate in rates]


def _fourier_inputs(energy: MLPEnergy, x: Tensor) -> Tensor:
    if not energy.fourier:
        return x
    return torch.cat([x] + [part for _, angle in _fourier_angles(energy, x) for part in (angle.sin(), angle.cos())], 1)


def _pull_back(energy: MLPEnergy, x: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in x from that in the perceptron's inputs."""
    if not energy.fourier:
        return gradient
    parts = torch.split(gradient, energy.features, 1)
    found = parts[0].clone()
    for octave, (rate, angle) in enumerate(_fourier_angles(energy, x)):
        found += rate * (parts[1 + 2 * octave] * angle.cos() - parts[2 + 2 * octave] * angle.sin())
    return found
