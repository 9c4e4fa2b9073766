"""Hand-written gradients of a perceptron's energy in x, which avoid the autograd graph in the loops of samplers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from relaxon.neuromorphic.energy.energies.families import MLPEnergy

Backward = Callable[[Tensor, Tensor], Tensor]
"""Maps the gradient at an activation's output and its input, both `(n, m)`, to the gradient at its input."""
BACKWARD: dict[type[nn.Module], Backward] = {
    nn.SiLU: torch.ops.aten.silu_backward,
    nn.Softplus: lambda g, h: torch.ops.aten.softplus_backward(g, h, 1.0, 20.0),
    nn.Tanh: lambda g, h: torch.ops.aten.tanh_backward(g, h.tanh()),
    nn.ELU: lambda g, h: torch.ops.aten.elu_backward(g, 1.0, 1.0, 1.0, False, h),
    nn.GELU: torch.ops.aten.gelu_backward,
}
NARROW = 16
"""Number of columns below which a product with a tall matrix is slower than one padded to so many columns."""


def has_hand_gradient(energy: object) -> TypeGuard[MLPEnergy]:
    """Return whether `input_gradient` supports this energy: an unmodified perceptron without hooks."""
    if type(energy) is not MLPEnergy or not energy.hidden:
        return False
    # A layer that was replaced or has hooks must be evaluated by autograd.
    layers = list(energy.net)
    plain = all(type(layer) is nn.Linear or type(layer) in BACKWARD for layer in layers)
    return plain and not any(module._forward_hooks or module._forward_pre_hooks for module in energy.modules())


@torch.no_grad()
def input_gradient(energy: MLPEnergy, x: Tensor) -> Tensor:
    """Return `∂E/∂x`, `(n, features)`, of an energy for which `has_hand_gradient` is true; nothing is checked."""
    layers: list[Any] = list(energy.net)
    linear, activation = layers[0::2], layers[1]
    backward = BACKWARD[type(activation)]
    befores = [torch.addmm(linear[0].bias, energy.inputs(x), linear[0].weight.T)]
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
    """Return `∂E/∂x` of any energy, without a graph."""
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


def _pull_back(energy: MLPEnergy, x: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient in x from that in the perceptron's inputs."""
    if not energy.fourier:
        return gradient
    parts = torch.split(gradient, energy.features, 1)
    found = parts[0].clone()
    for octave, (rate, angle) in enumerate(energy.octaves(x)):
        found += rate * (parts[1 + 2 * octave] * angle.cos() - parts[2 + 2 * octave] * angle.sin())
    return found
