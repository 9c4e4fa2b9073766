"""Convolutional networks with feedback and softmax pooling; every part is holomorphic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from relaxon.core import validation
from relaxon.neuromorphic.equilibrium.networks.activations import find_activation
from relaxon.neuromorphic.equilibrium.networks.network import Drive, Feedback, LossName, soft_max
from relaxon.neuromorphic.equilibrium.networks.readout_network import (
    FeedbackNetwork,
    check_choices,
    check_images,
    check_loss,
)

POOL = 2
Draw = Literal["normal", "orthogonal"]


class ConvolutionalNetwork(FeedbackNetwork):
    """A convolutional network: `P_n = pool(W_n ∗ r_{n−1} + b_n) + ∂/∂r_n [r_{n+1} · pool(B_{n+1} ∗ r_n + b_{n+1})]`.

    Pooling is the softmax-weighted mean of each 2×2 window. A softmax outside the dynamics reads out the last layer.

    Parameters
    ----------
    image : channels, height and width; with L layers, height and width must be divisible by 2^L.
    channels : numbers of channels of the relaxing layers.
    classes : number of classes.
    kernel : side of the kernels, an odd number; borders are padded with zeros.
    loss, tau : "cross-entropy", or "comp-sum" with its τ.
    draw : initial kernels between relaxing layers. "normal" draws them from a normal distribution; "orthogonal" puts
        `gain` times a matrix of orthonormal rows or columns at the middle of the kernel and 0 elsewhere (Xiao et al.
        2018), so that a bound on the kernels' norm preserves as much of every pattern as possible.
    feedback, angle, activation, gain, input_gain, seed, dtype : as for `LayeredNetwork`.

    Source: Laborieux and Zenke 2022, 2024.

    >>> from relaxon.neuromorphic.equilibrium import ConvolutionalNetwork
    >>> ConvolutionalNetwork((1, 8, 8), (4, 8), 10).units
    96
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        channels: Sequence[int],
        classes: int,
        *,
        kernel: int = 3,
        activation: str = "sigmoid",
        feedback: Feedback = "tied",
        angle: float = 0.0,
        loss: LossName = "cross-entropy",
        tau: float = 1.0,
        gain: float = 0.3,
        input_gain: float = 1.0,
        draw: Draw = "normal",
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.image, self.channels = check_images(image, channels, "layer")
        self.input_shape = self.image
        self.classes = validation.positive_int("classes", classes)
        self.kernel = validation.positive_int("kernel", kernel)
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {kernel}")
        if any(side % POOL ** len(self.channels) for side in self.image[1:]):
            raise ValueError(
                f"image must have sides divisible by {POOL ** len(self.channels)} for {len(self.channels)} layers, "
                f"got {self.image[1]}×{self.image[2]}"
            )
        check_choices(feedback, angle, loss, dtype)
        if loss == "squared":
            raise ValueError("loss must be 'cross-entropy' or 'comp-sum' for a convolutional network, got 'squared'")
        self.loss_name, self.tau = loss, check_loss(loss, tau)
        if draw not in get_args(Draw):
            raise ValueError(f"draw must be 'normal' or 'orthogonal', got {draw!r}")
        validation.non_negative_float("gain", gain)
        validation.positive_float("input_gain", input_gain)
        self.activation = find_activation(activation)
        self.declared_holomorphic = self.activation.holomorphic
        self.symmetric = feedback == "tied"
        self.feedback, self.angle = feedback, float(angle)
        sides = [(self.image[1] // POOL**n, self.image[2] // POOL**n) for n in range(1, len(self.channels) + 1)]
        self.shapes = [(c, *side) for c, side in zip(self.channels, sides, strict=True)]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.units, self.read_units = sum(self.sizes), self.sizes[-1]
        generator = torch.Generator().manual_seed(seed)
        drawn = []
        for n, (rows, columns) in enumerate(zip(self.channels, (self.image[0], *self.channels), strict=False)):
            fan_in = columns * self.kernel**2
            shape = (rows, columns, self.kernel, self.kernel)
            scale = (gain if n else input_gain) / math.sqrt(fan_in)
            normal = torch.randn(shape, generator=generator, dtype=torch.float64)
            drawn.append(orthogonalise(normal) * gain if n and draw == "orthogonal" else normal * scale)
        readout = torch.randn(self.classes, self.sizes[-1], generator=generator, dtype=torch.float64)
        self.weights = nn.ParameterList([nn.Parameter(weight.to(dtype)) for weight in drawn])
        middle = 0.5 if activation == "sigmoid" else 0.0
        self.biases = nn.ParameterList([nn.Parameter(torch.full((len(w),), middle, dtype=dtype)) for w in drawn])
        self.readout = nn.Parameter((readout * gain / math.sqrt(self.sizes[-1])).to(dtype))
        self.readout_bias = nn.Parameter(torch.zeros(self.classes, dtype=dtype))
        self.draw_feedback(drawn[1:], angle, generator, dtype)
        self.bind_parameters()

    def bind_parameters(self) -> None:
        # Plain lists beside the registered ones: slicing a ParameterList would register its parameters again at each
        # step.
        self._forward_weights, self._inner_biases = list(self.weights)[1:], list(self.biases)[1:]
        self._feedback_weights = self._forward_weights if self.feedback == "tied" else list(self.backward_weights)

    def readout_parameters(self) -> tuple[Tensor, Tensor]:
        return self.readout, self.readout_bias

    def config(self) -> dict[str, Any]:
        """Return the arguments that build a network of this form, as JSON values."""
        return {
            "image": list(self.image),
            "channels": list(self.channels),
            "classes": self.classes,
            "kernel": self.kernel,
            "activation": self.activation.name,
            "feedback": self.feedback,
            "angle": self.angle,
            **({} if self.tau is None else {"loss": self.loss_name, "tau": self.tau}),
        }

    def drive(self, x: Tensor) -> Drive:
        return pool(self._convolved(x, self.weights[0], self.biases[0])).flatten(1)

    def _convolved(self, r: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        padding = self.kernel // 2
        if not r.is_complex():
            return conv2d(r, weight, bias, padding=padding)
        parts = conv2d(torch.cat([r.real, r.imag]), weight, padding=padding)
        return torch.complex(parts[: len(r)] + bias[:, None, None], parts[len(r) :])

    def _convolved_back(self, h: Tensor, weight: Tensor) -> Tensor:
        padding = self.kernel // 2
        if not h.is_complex():
            return conv_transpose2d(h, weight, padding=padding)
        parts = conv_transpose2d(torch.cat([h.real, h.imag]), weight, padding=padding)
        return torch.complex(parts[: len(h)], parts[len(h) :])

    def pull(self, r: Tensor, drive: Drive) -> Tensor:
        rates = [
            part.reshape(-1, *shape) for part, shape in zip(torch.split(r, self.sizes, -1), self.shapes, strict=True)
        ]
        pulled = [drive.reshape(-1, *self.shapes[0])]
        tied = self.feedback == "tied"
        for n, (up, down) in enumerate(zip(self._forward_weights, self._feedback_weights, strict=True)):
            bias = self._inner_biases[n]
            h = self._convolved(rates[n], up, bias)
            pulled.append(pool(h))
            other = h if tied else self._convolved(rates[n], down, bias)
            pulled[n] = pulled[n] + self._convolved_back(pool_back(other, rates[n + 1]), down)
        return torch.cat([part.flatten(1) for part in pulled], -1).to(r.dtype)


def orthogonalise(kernels: Tensor) -> Tensor:
    """Return kernels `(out, in, k, k)` with the orthogonal factor of the given ones at their middle and 0 elsewhere."""
    middle = kernels.shape[-1] // 2
    left, _, right = torch.linalg.svd(kernels[:, :, middle, middle], full_matrices=False)
    found = torch.zeros_like(kernels)
    found[:, :, middle, middle] = left @ right
    return found


def _split_windows(h: Tensor) -> Tensor:
    """Return the 2×2 windows of images: `(batch, c, n0, n1) → (batch, c, n0/2, n1/2, 4)`."""
    batch, channels, rows, columns = h.shape
    blocks = h.reshape(batch, channels, rows // POOL, POOL, columns // POOL, POOL)
    return blocks.permute(0, 1, 2, 4, 3, 5).flatten(-2)


def _join_windows(w: Tensor) -> Tensor:
    """Return the images of which these are the windows: the inverse of `_split_windows`."""
    batch, channels, rows, columns, _ = w.shape
    blocks = w.reshape(batch, channels, rows, columns, POOL, POOL).permute(0, 1, 2, 4, 3, 5)
    return blocks.reshape(batch, channels, rows * POOL, columns * POOL)


def pool(h: Tensor) -> Tensor:
    """Return `Σ_i h_i e^{h_i} / Σ_i e^{h_i}` over each 2×2 window."""
    w = _split_windows(h)
    return (soft_max(w) * w).sum(-1)


def pool_back(h: Tensor, v: Tensor) -> Tensor:
    """Return the derivative of `Σ v · pool(h)` with respect to `h`: `p_i (1 + h_i − pool(h)) v`."""
    w = _split_windows(h)
    p = soft_max(w)
    mean = (p * w).sum(-1, keepdim=True)
    return _join_windows(p * (1 + w - mean) * v[..., None])
