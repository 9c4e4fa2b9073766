"""The published direction network: a small geometry-blind 3-D CNN with one pooled level.

Torch is imported here and in the training modules alone, so that importing `relaxon.solvers` stays light.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Architecture:
    """How many layers the network has; the paper names its two by the box they were trained on."""

    fine_pairs: int
    """Residual pairs between the first and the last fine convolution before pooling."""
    coarse_pairs: int
    closing_pairs: int
    channels: int = 16

    @property
    def halo(self) -> int:
        """Cells, an even number, beyond which an input cell cannot change an output cell along an axis."""
        fine = 1 + (2 + 2 * self.fine_pairs) + 2 * self.closing_pairs
        # One cell more: pooling and upsampling spread a cell over its block of two.
        reach = fine + 2 * (2 * self.coarse_pairs) + 1
        return reach + reach % 2


ARCHITECTURES = {64: Architecture(1, 3, 2), 128: Architecture(2, 5, 3)}
"""The paper's networks: 97,457 and 152,881 parameters."""


class DirectionNetwork(nn.Module):
    """`f(r)`: from a residual to a search direction, both `(batch, 1, n0, n1, n2)`, any size.

    Sixteen channels, 3³ convolutions with bias and zero "same" padding; the input convolution and the closing
    dense layer are linear, all others ReLU: fine convolutions, 2³ average pooling, residual pairs
    `y = relu(conv x); x ← relu(conv y) + x`, nearest upsampling, addition of the fine features, residual pairs.

    An odd side is pooled with a last block of one cell (its mean), and cropped after upsampling. Where the first
    axis has length 1 the kernels are summed along it: the network acts as on a solid of equal slices, which is what
    a two-dimensional problem is.

    Source: Kaneda et al., "A Deep Conjugate Direction Method for Iteratively Solving Linear Systems", ICML 2023.
    """

    def __init__(self, architecture: Architecture = ARCHITECTURES[64]) -> None:
        super().__init__()
        self.architecture = architecture
        width = architecture.channels

        def convolutions(count: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv3d(width, width, 3, padding=1) for _ in range(count))

        self.opening = nn.Conv3d(1, width, 3, padding=1)
        self.fine = convolutions(2 + 2 * architecture.fine_pairs)
        self.coarse = convolutions(2 * architecture.coarse_pairs)
        self.closing = convolutions(2 * architecture.closing_pairs)
        self.dense = nn.Conv3d(width, 1, 1)

    def forward(self, r: Tensor) -> Tensor:
        x = _conv(self.opening, r)
        x = torch.relu(_conv(self.fine[0], x))
        x = _residual_pairs(self.fine[1:-1], x)
        features = torch.relu(_conv(self.fine[-1], x))
        x = _pooled(features)
        x = _residual_pairs(self.coarse, x)
        x = _upsample(x, features) + features
        x = _residual_pairs(self.closing, x)
        return _conv(self.dense, x)

    @property
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())


def _conv(layer: nn.Module, x: Tensor) -> Tensor:
    conv = cast(nn.Conv3d, layer)
    if x.shape[2] > 1 or conv.kernel_size[0] == 1:
        return cast(Tensor, conv(x))
    return F.conv3d(x, conv.weight.sum(2, keepdim=True), conv.bias, padding=(0, 1, 1))


def _residual_pairs(layers: nn.ModuleList, x: Tensor) -> Tensor:
    for first, second in zip(layers[::2], layers[1::2], strict=True):
        x = torch.relu(_conv(second, torch.relu(_conv(first, x)))) + x
    return x


def _pooled(x: Tensor) -> Tensor:
    """Return the means over blocks of two cells an axis, in float32, as torch averages in nothing shorter on a CPU."""
    means = F.avg_pool3d(x.float(), _blocks(x), ceil_mode=True)
    return means.to(x.dtype, memory_format=torch.channels_last_3d)


def _blocks(x: Tensor) -> tuple[int, int, int]:
    """Return the pooling blocks: two cells long, and one along an axis of one cell."""
    n0, n1, n2 = (min(n, 2) for n in x.shape[2:])
    return n0, n1, n2


def _upsample(x: Tensor, like: Tensor) -> Tensor:
    """Return each coarse cell's value in all its fine cells, cropped to the spatial shape of `like`."""
    for axis, n in enumerate(like.shape[2:], start=2):
        if x.shape[axis] < n:
            x = x.repeat_interleave(2, axis).narrow(axis, 0, n)
    return x
