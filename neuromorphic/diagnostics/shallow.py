"""Fitted networks with one hidden layer, boosted or convex, as sequences of torch layers with cheap gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]

FARTHEST = 1e6
"""Bound to which standardised inputs are clipped, as in the boosted network's prediction."""
CONVEX = ("hidden", "output", "shift", "scale", "target_shift", "target_unit")
"""The arrays of a convex estimator's network: `f(x) = target_shift + target_unit · (x̃ hiddenᵀ)₊ output`, where
`x̃ = ((x − shift) · scale, 1)`."""


class Affine(nn.Module):
    """The map `(x − shift) · scale`, clipped to ±`bound`, without trained parameters."""

    shift: Tensor
    scale: Tensor

    def __init__(self, shift: Array, scale: Array, bound: float = np.inf) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        self.bound = bound

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.shift) * self.scale).clamp(-self.bound, self.bound)


def build_shallow_module(model: Any) -> nn.Module | None:
    """Return the module, in float64, of a fitted estimator whose `network_` has one hidden layer; None for others."""
    network = getattr(model, "network_", None)
    if all(hasattr(network, name) for name in CONVEX):
        return _build_convex(network)
    if hasattr(network, "output_weights") and len(network.layers) == 1:  # type: ignore[union-attr]
        return _build_boosted(network)
    return None


def _build_boosted(network: Any) -> nn.Module:
    layer = network.layers[0]
    return nn.Sequential(
        Affine(network.shift, network.scale, FARTHEST),
        _build_linear(layer.weights, layer.bias),
        nn.Sigmoid(),
        _build_linear(network.output_weights.T, network.biases[-1]),
    )


def _build_convex(network: Any) -> nn.Module:
    outputs = network.output.shape[1]
    unit = np.asarray(network.target_unit, np.float64)
    made = nn.Sequential(
        Affine(network.shift, network.scale),
        _build_linear(network.hidden[:, :-1], network.hidden[:, -1]),
        nn.ReLU(),
        _build_linear(network.output.T, np.zeros(outputs)),
        Affine(-np.asarray(network.target_shift) / unit, unit),
    )
    # The network has no output bias, so none is trained.
    made[3].bias.requires_grad_(False)
    return made


def _build_linear(weights: Array, bias: Array) -> nn.Linear:
    # The weights are not drawn, so that torch's global generator is not used.
    made = nn.Linear(weights.shape[1], weights.shape[0], dtype=torch.float64, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        made.weight.copy_(torch.tensor(np.ascontiguousarray(weights)))
        made.bias.copy_(torch.tensor(np.ascontiguousarray(bias)))
    return made
