"""Bounds on the recurrent weights that guarantee convergence of the relaxation.

Where `|φ'| ≤ 1`, as for the sigmoids, the map `r ↦ P(φ(u))` contracts distances by the norm of the network's coupling.
Training increases that norm until the network has several equilibria and no gradient at any of them. A norm below 1
keeps the equilibrium unique.

*Layered networks*: the coupling is a block tridiagonal matrix, at most `max ‖W_n‖` times 1, √2 or 2 for two, three or
more relaxing layers.

*Convolutional networks*: layers are connected through the softmax mean `m(h)` of a window of four. For any `h`, the
norm of its gradient is at most `POOL_SLOPE` and that of its second derivative at most `POOL_BEND` (the tests search for
larger values). With convolutions of norm c (as maps of zero-padded images) and rates of at most ρ, the coupling's norm
is at most that of the tridiagonal matrix with `POOL_SLOPE·c` beside the diagonal and `POOL_BEND·ρ·c²` on it, where the
last layer's entry is 0. Bisection finds the largest c that satisfies the bound.

*Residual networks*: the coupling is linear; its norm is at most the convolutions' norm times that of the graph of
layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from relaxon.neuromorphic.equilibrium.networks.convolutional import ConvolutionalNetwork
from relaxon.neuromorphic.equilibrium.networks.layered import LayeredNetwork
from relaxon.neuromorphic.equilibrium.networks.network import Network
from relaxon.neuromorphic.equilibrium.networks.residual import ResidualNetwork, adjacency_norm

ITERATIONS = 2
"""Iterations of the power method at each training step; they continue from the last step's vector."""
CHAIN_NORM = {1: 1.0, 2: 1.0, 3: 2.0**0.5}
"""Norm of the coupling of one, two or three relaxing layers whose matrices have norm 1; at most 2 for more layers."""
POOL_SLOPE = 1.2174
"""The largest `‖m'(h)‖`, reached where one entry exceeds the three others by 2.845."""
POOL_BEND = 1.0211
"""The largest `‖m''(h)‖`, reached where two entries exceed the two others by 3.244."""
LARGEST_RATE = {"sigmoid": 1.0, "hard-sigmoid": 1.0, "relu6": 6.0, "tanh": 1.0, "dsilu": 1.1}
"""Bounds on the rates, for the activations that are bounded and have a slope of at most 1."""
HALVINGS = 60
"""Steps of the bisection for the largest norm of convolutions."""


class Contraction:
    """A projection that scales recurrent weights down until the norm of their coupling is at most `bound`.

    It also scales the matrix of a softmax readout down until its norm is at most `readout`, unless that is None.

    A nudge adds `−β Vᵀ S V` to the Jacobian, V the readout and `‖S‖ ≤ ½`: the radius of analyticity shrinks as `‖V‖⁻²`.
    """

    def __init__(self, network: Network, bound: float, readout: float | None) -> None:
        self.maps: list[tuple[WeightMap, float]] = []
        if isinstance(network, LayeredNetwork):
            most = bound / CHAIN_NORM.get(len(network.layers), 2.0)
            coupled = [*network.weights[1 : len(network.layers)], *network.backward_weights]
            self.maps = [(Matrix(weight), most) for weight in coupled]
            last = network.weights[-1] if network.loss_name != "squared" else None
        elif isinstance(network, ConvolutionalNetwork):
            most = largest_convolution(bound, len(network.channels), _largest_rate(network))
            self.maps = [
                (Convolution(weight, side), most)
                for weights in (list(network.weights)[1:], network.backward_weights)
                for weight, (_, *side) in zip(weights, network.shapes, strict=False)
            ]
            last = network.readout
        elif isinstance(network, ResidualNetwork):
            most = bound / adjacency_norm(network) if len(network.sizes) > 1 else float("inf")
            self.maps = [
                (Convolution(weight, list(network.shapes[edge.below - 1][1:]), edge.stride), most)
                for edge, weight in zip(network.edges, network.weights, strict=True)
                if edge.below
            ]
            last = network.readout
            if network.loss_name == "squared":
                self.maps.append((Matrix(last), most))
                last = None
        else:
            raise TypeError(
                f"contraction must be None for a {type(network).__name__}: "
                "only layered, convolutional and residual networks have a bound"
            )
        if readout is not None and last is not None:
            self.maps.append((Matrix(last), readout))

    @property
    def vectors(self) -> list[Tensor]:
        """The vectors of the power method, which checkpoints contain."""
        return [linear.vector for linear, _ in self.maps]

    @torch.no_grad()
    def apply(self, iterations: int = ITERATIONS) -> None:
        """Project the weights in place."""
        for linear, bound in self.maps:
            norm = linear.norm(iterations)
            if norm > bound:
                linear.weight.mul_(bound / norm)


class WeightMap(ABC):
    """A linear map A given by weights, with an estimate of the right singular vector of its largest singular value."""

    def __init__(self, weight: Tensor, vector: Tensor) -> None:
        self.weight, self.vector = weight, vector

    @abstractmethod
    def image(self, v: Tensor) -> Tensor:
        """Return `A v`."""

    @abstractmethod
    def image_transpose(self, v: Tensor) -> Tensor:
        """Return `Aᵀ v`."""

    def norm(self, iterations: int) -> float:
        """Return the spectral norm by the power method on `AᵀA`."""
        norm = 0.0
        for _ in range(iterations):
            image = self.image_transpose(self.image(self.vector))
            square = float(image.norm())
            if not square > 0:
                return 0.0
            self.vector.copy_(image / square)
            norm = square**0.5
        return norm


class Matrix(WeightMap):
    """The linear map of a matrix `(rows, columns)`."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight, torch.ones_like(weight[0]) / weight.shape[1] ** 0.5)

    def image(self, v: Tensor) -> Tensor:
        return self.weight @ v

    def image_transpose(self, v: Tensor) -> Tensor:
        return self.weight.T @ v


class Convolution(WeightMap):
    """The linear map of kernels `(out, in, k, k)` on images `(rows, columns)`, zero-padded by half a kernel."""

    def __init__(self, weight: Tensor, side: list[int], stride: int = 1) -> None:
        generator = torch.Generator().manual_seed(0)
        # A vector with entries of one sign could be orthogonal to the singular vector.
        drawn = torch.randn(1, weight.shape[1], *side, generator=generator, dtype=torch.float64)
        super().__init__(weight, (drawn / drawn.norm()).to(weight))
        kernel = weight.shape[-1]
        self.padding, self.stride = kernel // 2, stride
        # The part of a side that the strides do not reach.
        self.over = tuple((length + 2 * self.padding - kernel) % stride for length in side)

    def image(self, v: Tensor) -> Tensor:
        return conv2d(v, self.weight, stride=self.stride, padding=self.padding)

    def image_transpose(self, v: Tensor) -> Tensor:
        return conv_transpose2d(
            v, self.weight, stride=self.stride, padding=self.padding, output_padding=(self.over[0], self.over[1])
        )


def spectral_norm(weight: Tensor, vector: Tensor, iterations: int) -> float:
    """Return the spectral norm of a matrix; `vector` is updated towards the right singular vector."""
    matrix = Matrix(weight)
    matrix.vector = vector
    return matrix.norm(iterations)


def coupling_bound(norm: float, layers: int, rate: float) -> float:
    """Return a bound on the coupling's norm for convolutions of norm `norm` and rates of at most `rate`."""
    beside = np.full(layers - 1, POOL_SLOPE * norm)
    diagonal = np.r_[np.full(layers - 1, POOL_BEND * rate * norm**2), 0.0]
    return float(np.linalg.norm(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1), 2))


def largest_convolution(bound: float, layers: int, rate: float) -> float:
    """Return the norm of convolutions at which `coupling_bound` equals `bound`; infinity where nothing is coupled."""
    if layers == 1:
        return float("inf")
    low, high = 0.0, bound / POOL_SLOPE
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if coupling_bound(middle, layers, rate) <= bound else (low, middle)
    return low


def _largest_rate(network: ConvolutionalNetwork) -> float:
    name = network.activation.name
    if name not in LARGEST_RATE:
        names = ", ".join(map(repr, LARGEST_RATE))
        raise ValueError(f"contraction of a convolutional network needs an activation of {names}, got {name!r}")
    return LARGEST_RATE[name]
