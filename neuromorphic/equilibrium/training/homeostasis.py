"""Jacobian homeostasis: a penalty `2‖A‖²_F` on the antisymmetric part of the Jacobian, from random vectors.

Source: Laborieux and Zenke 2024. The penalty's gradient takes the states as given: it does not flow through the
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
    """`mean` is differentiable in the parameters; `standard_error` is over the random vectors of all samples."""

    mean: Tensor
    standard_error: float


@dataclass(frozen=True, slots=True)
class JacobianHomeostasis:
    """`E[‖Jε‖² − εᵀJ²ε] = 2‖A‖²_F` a sample, `ε ~ N(0, I)`; trained with `weight` times that by the number of units.

    Parameters
    ----------
    weight : λ of the training loss.
    form : "product" is the paper's, two JVPs a vector; "difference" is `½ E‖Jε − Jᵀε‖²`, one VJP more and a lower
        variance.
    vectors : Gaussian vectors a sample.
    space : "rate" takes J in the coordinate that the estimators measure and nudge in, where tied weights are symmetric
        (its symmetric diagonal `−λ/φ'` is left out: it would add variance only); "state" takes `J = ∂F/∂u`.
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
        """Estimate of the batch's mean `2‖A‖²_F` at real states `(batch, units)`."""
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
        """What training adds to its loss, and the estimate it comes from."""
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
    """`2‖A‖²_F` of each sample from the dense Jacobian, `(batch,)`: units products a sample, for small networks."""
    jacobian = Jacobian(network, state, drive, space)
    columns = []
    for unit in range(network.units):
        v = torch.zeros_like(state)
        v[:, unit] = 1
        columns.append(jacobian.times(v))
    dense = torch.stack(columns, -1)
    return 0.5 * (dense - dense.mT).square().sum((1, 2))
