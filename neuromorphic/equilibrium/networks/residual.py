"""Convolutional Hopfield networks with skip connections: blocks of two layers, with strides in place of pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, linear

from relaxon.core import validation
from relaxon.neuromorphic.equilibrium.networks.activations import Activation, find_activation
from relaxon.neuromorphic.equilibrium.networks.network import Drive, LossName
from relaxon.neuromorphic.equilibrium.networks.readout_network import (
    ReadoutNetwork,
    check_choices,
    check_images,
    check_loss,
)

KERNEL = 3
STRIDE = 2
SKIP_GAIN, HEAD_GAIN = 0.7 / 0.6, 0.8 / 0.6
"""Gains of the initial weights of skip connections and of the head, relative to those of the other convolutions."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A convolution between two layers (0 is the image) that acts forward and, transposed, backward."""

    below: int
    above: int
    kernel: int
    stride: int


class ResidualNetwork(ReadoutNetwork):
    """A network of blocks of two layers, with a 1×1 convolution from a block's input to its second layer as a skip.

    `P_n = Σ W_e ∗ r_below + Σ W_eᵀ ∗ r_above + b_n`. A 3×3 convolution leads to the first layer of a block and another,
    of stride 2, to the second; the skip has stride 2 as well. Every weight acts in both directions, so the network has
    an energy. The activations "relu6" (rates clipped to [0, 6]) and "hard-sigmoid" (to [0, 1]) allow at most two
    nudges; "sigmoid" and "tanh" allow a complex contour.

    Parameters
    ----------
    image : channels, height and width.
    channels : number of channels of each block, in both of its layers.
    classes : number of classes.
    loss, tau : "squared" makes the output a layer of linear units with `L = ½‖r − y‖²`, as in the source.
        "cross-entropy" and "comp-sum" make it a softmax readout outside the dynamics.
    gain : the initial weights are uniform in `±gain/√fan-in`; those of skips and head are larger by 7/6 and 4/3.
    activation, seed, dtype : as for `LayeredNetwork`.

    Source: E P and Srinivasan 2025, "Scaling equilibrium propagation to deeper neural network architectures".

    >>> from relaxon.neuromorphic.equilibrium import ResidualNetwork
    >>> network = ResidualNetwork((1, 8, 8), (4, 8), 10)
    >>> [tuple(shape) for shape in network.shapes], network.units
    ([(4, 8, 8), (4, 4, 4), (8, 4, 4), (8, 2, 2)], 490)
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        channels: Sequence[int],
        classes: int,
        *,
        activation: str = "relu6",
        loss: LossName = "squared",
        tau: float = 1.0,
        gain: float = 0.6,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.image, self.channels = check_images(image, channels, "block")
        self.input_shape = self.image
        self.classes = validation.positive_int("classes", classes)
        check_choices("tied", 0.0, loss, dtype)
        validation.positive_float("gain", gain)
        self.loss_name, self.tau = loss, check_loss(loss, tau)
        self.inner = find_activation(activation)
        self.declared_holomorphic = self.inner.holomorphic
        self.symmetric = True
        self._lay_out()
        self.activation = _with_linear_end(self.inner, self.classes) if loss == "squared" else self.inner
        self._draw(gain, seed, dtype)

    def _lay_out(self) -> None:
        """Set the shapes and the edges; block k consists of layers 2k + 1 and 2k + 2."""
        side = tuple(self.image[1:])
        self.shapes: list[tuple[int, int, int]] = []
        self.edges: list[Edge] = []
        for block, count in enumerate(self.channels):
            below, first, second = 2 * block, 2 * block + 1, 2 * block + 2
            half = tuple(-(-length // STRIDE) for length in side)
            self.shapes += [(count, side[0], side[1]), (count, half[0], half[1])]
            self.edges += [
                Edge(below, first, KERNEL, 1),
                Edge(first, second, KERNEL, STRIDE),
                Edge(below, second, 1, STRIDE),
            ]
            side = half
        self.sizes = [math.prod(shape) for shape in self.shapes]
        if self.loss_name == "squared":
            self.sizes = [*self.sizes, self.classes]
        self.units = sum(self.sizes)
        self.read_units = math.prod(self.shapes[-1])

    def _draw(self, gain: float, seed: int, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(shape: tuple[int, ...], scale: float) -> nn.Parameter:
            bound = scale / math.sqrt(math.prod(shape[1:]))
            values = torch.rand(shape, generator=generator, dtype=torch.float64) * (2 * bound) - bound
            return nn.Parameter(values.to(dtype))

        counts = [self.image[0], *(shape[0] for shape in self.shapes)]
        self.weights = nn.ParameterList(
            [
                draw(
                    (counts[edge.above], counts[edge.below], edge.kernel, edge.kernel),
                    gain * (SKIP_GAIN if edge.kernel == 1 else 1.0),
                )
                for edge in self.edges
            ]
        )
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(count, dtype=dtype)) for count in counts[1:]])
        self.readout = draw((self.classes, self.read_units), gain * HEAD_GAIN)
        self.readout_bias = nn.Parameter(torch.zeros(self.classes, dtype=dtype))
        self.bind_parameters()

    def bind_parameters(self) -> None:
        # A plain list beside the registered one, slices of which would register the parameters again.
        self._kernels = list(self.weights)

    def readout_parameters(self) -> tuple[Tensor, Tensor]:
        return self.readout, self.readout_bias

    def config(self) -> dict[str, Any]:
        """Return the arguments that build a network of this form, as JSON values."""
        return {
            "image": list(self.image),
            "channels": list(self.channels),
            "classes": self.classes,
            "activation": self.inner.name,
            "loss": self.loss_name,
            **({} if self.tau is None else {"tau": self.tau}),
        }

    def drive(self, x: Tensor) -> Drive:
        """Return the contribution of image and biases to each unit."""
        parts = [
            bias[:, None, None].expand(len(x), *shape) for bias, shape in zip(self.biases, self.shapes, strict=True)
        ]
        for edge, weight in zip(self.edges, self._kernels, strict=True):
            if edge.below == 0:
                parts[edge.above - 1] = parts[edge.above - 1] + _convolve(x, weight, edge)
        flat = [part.flatten(1) for part in parts]
        if self.loss_name == "squared":
            flat.append(self.readout_bias.expand(len(x), -1))
        return torch.cat(flat, -1)

    def pull(self, r: Tensor, drive: Drive) -> Tensor:
        return drive + self._couple(r)

    def couple(self, v: Tensor, r: Tensor, drive: Drive) -> Tensor:
        return self._couple(v)

    def couple_transpose(self, v: Tensor, r: Tensor, drive: Drive) -> Tensor:
        return self._couple(v)

    def adjoint_pull(self, anchor: Tensor, drive: Drive) -> Callable[[Tensor], Tensor]:
        return lambda r: self.pull(r, drive)

    def _couple(self, r: Tensor) -> Tensor:
        """Return the symmetric coupling of the relaxing layers, which is linear in the rates."""
        if r.is_complex():
            parts = self._couple(torch.cat([r.real, r.imag]))
            return torch.complex(parts[: len(r)], parts[len(r) :])
        split = torch.split(r, self.sizes, -1)
        rates = [part.reshape(-1, *shape) for part, shape in zip(split, self.shapes, strict=False)]
        pulled: list[Tensor | None] = [None] * len(self.sizes)

        def add(place: int, part: Tensor) -> None:
            there = pulled[place]
            pulled[place] = part if there is None else there + part

        for edge, weight in zip(self.edges, self._kernels, strict=True):
            if edge.below:
                below, above = edge.below - 1, edge.above - 1
                add(above, _convolve(rates[below], weight, edge).flatten(1))
                add(below, _convolve_back(rates[above], weight, edge, self.shapes[below]).flatten(1))
        if self.loss_name == "squared":
            add(len(self.shapes), linear(split[len(self.shapes) - 1], self.readout))
            add(len(self.shapes) - 1, split[-1] @ self.readout)
        return torch.cat([p if p is not None else torch.zeros_like(s) for p, s in zip(pulled, split, strict=True)], -1)


def adjacency_norm(network: ResidualNetwork) -> float:
    """Return a bound on the norm of the coupling of relaxing layers whose convolutions (and head) have norm 1 each."""
    count = len(network.sizes)
    beside = np.zeros((count, count))
    for edge in network.edges:
        if edge.below:
            beside[edge.below - 1, edge.above - 1] = beside[edge.above - 1, edge.below - 1] = 1.0
    if network.loss_name == "squared":
        beside[-1, -2] = beside[-2, -1] = 1.0
    return float(np.linalg.norm(beside, 2))


def _convolve(r: Tensor, weight: Tensor, edge: Edge) -> Tensor:
    return conv2d(r, weight, stride=edge.stride, padding=edge.kernel // 2)


def _convolve_back(r: Tensor, weight: Tensor, edge: Edge, shape: tuple[int, int, int]) -> Tensor:
    """Apply the transpose of `_convolve` on images of `shape`."""
    # The part of a side that the strides do not reach.
    over = [
        there - ((here - 1) * edge.stride - 2 * (edge.kernel // 2) + edge.kernel)
        for there, here in zip(shape[1:], r.shape[2:], strict=True)
    ]
    padding = edge.kernel // 2
    return conv_transpose2d(r, weight, stride=edge.stride, padding=padding, output_padding=(over[0], over[1]))


def _with_linear_end(inner: Activation, count: int) -> Activation:
    """Return an activation whose last `count` units are linear."""

    def function(u: Tensor) -> Tensor:
        return torch.cat([inner(u[..., :-count]), u[..., -count:]], -1)

    def derivative(u: Tensor) -> Tensor:
        return torch.cat([inner.derivative(u[..., :-count]), torch.ones_like(u[..., -count:])], -1)

    return Activation(inner.name, function, derivative, inner.holomorphic)
