"""A bound on the recurrent weights under which relaxation must converge.

Where `|φ'| ≤ 1`, as for the sigmoids, the map `r ↦ P(φ(u))` of a layered network shrinks distances by the norm of its
coupling, a block tridiagonal matrix: at most `max ‖W_n‖` times 1, √2 or 2 for two, three or more relaxing layers.
Training pushes that norm up until the network has several equilibria and no gradient at any; keeping it below 1 keeps
the equilibrium unique.
"""

from __future__ import annotations

import torch
from torch import Tensor

from relaxon.neuromorphic.equilibrium.layered import LayeredNetwork
from relaxon.neuromorphic.equilibrium.network import Network

ITERATIONS = 2
"""Of the power method, at each training step, from where the last step's ended."""
CHAIN_NORM = {1: 1.0, 2: 1.0, 3: 2.0**0.5}
"""Norm of the coupling of that many relaxing layers whose matrices have norm 1; 2 at most for more."""


class Contraction:
    """Scales the recurrent matrices of a layered network down until their coupling's norm is at most `bound`, and the
    softmax readout's matrix until its own is at most `readout` (None: as it is).

    A nudge adds `−β Vᵀ S V` to the Jacobian, V the readout and `‖S‖ ≤ ½`: the radius of analyticity shrinks as `‖V‖⁻²`.
    """

    def __init__(self, network: Network, bound: float, readout: float | None) -> None:
        if not isinstance(network, LayeredNetwork):
            raise TypeError(
                f"contraction must be None for a {type(network).__name__}: only layered networks have a bound"
            )
        self.weights = [*network.weights[1 : len(network.layers)], *network.backward_weights]
        self.bounds = [bound / CHAIN_NORM.get(len(network.layers), 2.0)] * len(self.weights)
        if readout is not None and network.loss_name != "squared":
            self.weights.append(network.weights[-1])
            self.bounds.append(readout)
        self.vectors = [torch.ones_like(weight[0]) / weight.shape[1] ** 0.5 for weight in self.weights]

    @torch.no_grad()
    def apply(self, iterations: int = ITERATIONS) -> None:
        """Project in place."""
        for weight, vector, bound in zip(self.weights, self.vectors, self.bounds, strict=True):
            norm = spectral_norm(weight, vector, iterations)
            if norm > bound:
                weight.mul_(bound / norm)


def spectral_norm(weight: Tensor, vector: Tensor, iterations: int) -> float:
    """Return the spectral norm by the power method on `WᵀW`; `vector` is moved towards the right singular vector."""
    norm = 0.0
    for _ in range(iterations):
        image = weight.T @ (weight @ vector)
        square = float(image.norm())
        if not square > 0:
            return 0.0
        vector.copy_(image / square)
        norm = square**0.5
    return norm
