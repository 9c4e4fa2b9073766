"""Jacobian homeostasis: a penalty `2‖A‖²_F` on the antisymmetric part of the Jacobian, estimated with random vectors.

Source: Laborieux and Zenke 2024. The penalty's gradient treats the states as constant: it does not pass through the
relaxation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from relaxon.core import validation
from relaxon.neuromorphic.equilibrium.networks.network import Drive, Network

Form = Literal["product", "difference"]
Space = Literal["rate", "state"]


@dataclass(frozen=True, slots=True)
class Penalty:
    """An estimate of the penalty.

    `mean` is differentiable in the parameters; `standard_error` is over the random vectors of all samples.
    """

    mean: Tensor
    standard_error: float


@dataclass(frozen=True, slots=True)
class JacobianHomeostasis:
    """The penalty `E[‖Jε‖² − εᵀJ²ε] = 2‖A‖²_F` of a sample, `ε ~ N(0, I)`.

    Training adds `weight` times its mean, divided by the number of units, to the loss.

    Parameters
    ----------
    weight : λ, the weight of the penalty.
    form : "product" is the paper's form, with two JVPs for each vector; "difference" is `½ E‖Jε − Jᵀε‖²`, with one more
        VJP and a lower variance.
    vectors : number of Gaussian vectors for each sample.
    space : "rate" uses J in the coordinate in which the estimators measure and nudge, where tied weights are symmetric
        (without its symmetric diagonal `−λ/φ'`, which would only add variance); "state" uses `J = ∂F/∂u`.
    """

    weight: float = 1.0
    form: Form = "difference"
    vectors: int = 5
    space: Space = "rate"

    def __post_init__(self) -> None:
        validation.non_negative_float("weight", self.weight)
        validation.positive_int("vectors", self.vectors)
        if self.form not in get_args(Form):
            raise ValueError(f"form must be 'product' or 'difference', got {self.form!r}")
        if self.space not in get_args(Space):
            raise ValueError(f"space must be 'rate' or 'state', got {self.space!r}")

    def estimate(self, network: Network, state: Tensor, drive: Drive, generator: torch.Generator) -> Penalty:
        """Estimate the batch's mean `2‖A‖²_F` at real states `(batch, units)`."""
        state, drive = state.detach().repeat(self.vectors, 1), drive.detach()
        drive = drive.repeat(self.vectors, *[1] * (drive.ndim - 1))
        jacobian = Jacobian(network, state, drive, self.space)
        noise = torch.randn(state.shape, generator=generator, dtype=state.dtype).to(state.device)
        image = jacobian.times(noise)
        if self.form == "difference":
            values = 0.5 * (image - jacobian.transpose_times(noise)).square().sum(-1)
        else:
            values = image.square().sum(-1) - (noise * jacobian.times(image)).sum(-1)
        error = float(values.detach().std() / len(values) ** 0.5) if len(values) > 1 else float("nan")
        return Penalty(values.mean(), error)

    def loss(self, network: Network, state: Tensor, drive: Drive, generator: torch.Generator) -> tuple[Tensor, Penalty]:
        """Return the term that training adds to its loss, and the estimate of the penalty."""
        penalty = self.estimate(network, state, drive, generator)
        return self.weight * penalty.mean / network.units, penalty


@dataclass(frozen=True, slots=True)
class Jacobian:
    """The Jacobian of each sample as a linear map on `(batch, units)`, in the rates or the states."""

    network: Network
    state: Tensor
    drive: Drive
    space: Space

    def times(self, v: Tensor) -> Tensor:
        rates = self.network.activation(self.state)
        if self.space == "rate":
            return self.network.couple(v, rates, self.drive)
        slope = self.network.activation.derivative(self.state)
        return self.network.couple(slope * v, rates, self.drive) - self.network.leak * v

    def transpose_times(self, v: Tensor) -> Tensor:
        rates = self.network.activation(self.state)
        image = self.network.couple_transpose(v, rates, self.drive)
        if self.space == "rate":
            return image
        return self.network.activation.derivative(self.state) * image - self.network.leak * v


@torch.no_grad()
def antisymmetry(network: Network, state: Tensor, drive: Drive, space: Space = "rate") -> Tensor:
    """Return `2‖A‖²_F` of each sample, `(batch,)`, from dense Jacobians; for small networks."""
    jacobian = Jacobian(network, state, drive, space)
    columns = []
    for unit in range(network.units):
        v = torch.zeros_like(state)
        v[:, unit] = 1
        columns.append(jacobian.times(v))
    dense = torch.stack(columns, -1)
    return 0.5 * (dense - dense.mT).square().sum((1, 2))
