"""Networks of layers that classify: checks of their arguments, and the readout of the last layer's rates."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from relaxon.core import validation
from relaxon.neuromorphic.equilibrium.networks.network import (
    Feedback,
    LossName,
    Network,
    readout_error,
    readout_loss,
    squared_loss,
)
from relaxon.neuromorphic.losses import CALIBRATED, check_tau


class ReadoutNetwork(Network):
    """A network whose classes are read from its last rates.

    With the loss "squared" the last `classes` units are the output, and they relax with the others. Otherwise the
    output is a softmax readout `V r + c` of the last `read_units` rates, which is not part of the dynamics.
    """

    input_shape: tuple[int, ...]
    """The shape of one input."""
    loss_name: LossName
    tau: float | None
    """τ of the comp-sum loss; None for the other losses."""
    read_units: int

    @abstractmethod
    def readout_parameters(self) -> tuple[Tensor, Tensor]:
        """Return V `(classes, read_units)` and c `(classes,)`."""

    def validate_input(self, x: Tensor) -> Tensor:
        x = super().validate_input(x)
        if x.shape[1:] != self.input_shape:
            expected = ", ".join(map(str, self.input_shape))
            raise ValueError(f"x must be (batch, {expected}), got shape {tuple(x.shape)}")
        return x

    def logits(self, r: Tensor) -> Tensor:
        """Return `V r + c`, `(batch, classes)`, for real or complex rates."""
        last = r[..., -self.read_units :]
        readout, bias = self.readout_parameters()
        if last.is_complex():
            return torch.complex(linear(last.real, readout, bias), linear(last.imag, readout))
        return linear(last, readout, bias)

    def loss(self, r: Tensor, target: Tensor) -> Tensor:
        if self.loss_name == "squared":
            return squared_loss(r[..., -self.classes :], target)
        return readout_loss(self.logits(r), target, self.tau)

    def nudge(self, r: Tensor, target: Tensor) -> Tensor:
        if self.loss_name == "squared":
            error = r[..., -self.classes :] - target
            return pad(error, (self.units - self.classes, 0))
        difference = readout_error(self.logits(r), target, self.tau)
        readout, _ = self.readout_parameters()
        if difference.is_complex():
            error = torch.complex(difference.real @ readout, difference.imag @ readout)
        else:
            error = difference @ readout
        return pad(error, (self.units - self.read_units, 0))

    def scores(self, r: Tensor) -> Tensor:
        return r[..., -self.classes :] if self.loss_name == "squared" else self.logits(r)


class FeedbackNetwork(ReadoutNetwork):
    """A network of layers with weights `W` forward and `B` backward, which are the same or independent."""

    feedback: Feedback
    backward_weights: nn.ParameterList
    _forward_weights: list[nn.Parameter]
    _feedback_weights: list[nn.Parameter]

    def draw_feedback(
        self, weights: Sequence[Tensor], angle: float, generator: torch.Generator, dtype: torch.dtype
    ) -> None:
        """Register independent feedback weights at `angle` degrees from `weights`; none where feedback is tied."""
        self.backward_weights = nn.ParameterList()
        if self.feedback == "independent":
            for weight in weights:
                self.backward_weights.append(nn.Parameter(rotate_randomly(weight, angle, generator).to(dtype)))

    def feedback_angles(self) -> list[float]:
        """Return the degrees between `B` and `W` for each pair of relaxing layers."""
        pairs = zip(self._forward_weights, self._feedback_weights, strict=True)
        return [angle_between(w.detach(), b.detach()) for w, b in pairs]


def rotate_randomly(weight: Tensor, angle: float, generator: torch.Generator) -> Tensor:
    """Return a random tensor of the same length as `weight` at `angle` degrees from it."""
    other = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    other -= weight * ((other * weight).sum() / weight.square().sum())
    other *= weight.norm() / other.norm()
    radians = math.radians(angle)
    return math.cos(radians) * weight + math.sin(radians) * other


def angle_between(a: Tensor, b: Tensor) -> float:
    """Return the angle in degrees between two tensors, taken as vectors."""
    a, b = a.double(), b.double()
    return angle_of(float((a * b).sum() / (a.norm() * b.norm())))


def angle_of(cosine: float) -> float:
    """Return the angle in degrees that has this cosine, within rounding; NaN where the cosine is not finite."""
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine)))) if math.isfinite(cosine) else math.nan


def check_choices(feedback: str, angle: float, loss: str, dtype: torch.dtype) -> None:
    """Raise `ValueError` or `TypeError` for an argument that no network accepts."""
    if feedback not in get_args(Feedback):
        raise ValueError(f"feedback must be 'tied' or 'independent', got {feedback!r}")
    if loss not in get_args(LossName):
        raise ValueError(f"loss must be 'squared', 'cross-entropy' or 'comp-sum', got {loss!r}")
    if not 0 <= validation.finite_float("angle", angle) <= 180:
        raise ValueError(f"angle must be between 0 and 180 degrees, got {angle!r}")
    if feedback == "tied" and angle:
        raise ValueError(f"angle must be 0 where feedback is tied, got {angle!r}")
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"dtype must be torch.float32 or torch.float64, got {dtype}")


def check_images(
    image: Sequence[int], channels: Sequence[int], parts: str
) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Return the validated shape of the images and the channels of each of the network's `parts`."""
    shape = tuple(validation.positive_int(f"image[{i}]", side) for i, side in enumerate(image))
    counts = tuple(validation.positive_int(f"channels[{i}]", count) for i, count in enumerate(channels))
    if len(shape) != 3:
        raise ValueError(f"image must be (channels, height, width), got {tuple(image)}")
    if not counts:
        raise ValueError(f"channels must name at least one {parts}, got none")
    return (shape[0], shape[1], shape[2]), counts


def check_loss(loss: str, tau: float) -> float | None:
    """Return τ for the comp-sum loss, and None for the others, whose `tau` must be 1."""
    number = check_tau(tau, CALIBRATED)
    if loss == "comp-sum":
        return number
    if number != 1.0:
        raise ValueError(f"tau must be 1 unless loss is 'comp-sum', got {tau!r} with loss {loss!r}")
    return None
