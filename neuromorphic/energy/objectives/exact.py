"""Maximum likelihood with the exact log Z: by quadrature in one or two dimensions, or as a sum over a small support."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from relaxon.neuromorphic.energy.energies.events import validate_events
from relaxon.neuromorphic.energy.objectives.noise_contrastive import Objective, ObjectiveState, StepReading
from relaxon.neuromorphic.energy.partition.quadrature import Quadrature

MOST_NODES = 2**18


@dataclass(frozen=True)
class ExactMLE(Objective):
    """Mean energy of the data plus log Z: a quadrature on a box, or the sum over all events of `support (k, d)`.

    Where both are None, the box is that of the data, wider by half its side at each end.
    """

    quadrature: Quadrature | None = None
    support: Tensor | None = None
    name: ClassVar[str] = "exact"
    needs_noise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.quadrature is not None and self.support is not None:
            raise ValueError("support must be None where a quadrature is given")
        if self.support is not None:
            validate_events("support", self.support)

    def begin(self, energy: nn.Module, noise: Any, data: Tensor, noise_batch: int, seed: int) -> ObjectiveState:
        if self.support is not None:
            return _Sum(energy, noise, self.support.to(data), 0.0)
        rule = self.quadrature or enclose_data(data)
        if data.ndim != 2 or data.shape[1] != len(rule.low):
            got = tuple(data.shape[1:])
            raise ValueError(f"quadrature must have the axes of the data's events, got {len(rule.low)} for {got}")
        points = rule.points(data.dtype, data.device)
        if len(points) > MOST_NODES:
            raise ValueError(f"quadrature must have at most {MOST_NODES} nodes for training, got {len(points)}")
        return _Sum(energy, noise, points, rule.log_cell)


class _Sum(ObjectiveState):
    def __init__(self, energy: nn.Module, noise: Any, points: Tensor, log_cell: float) -> None:
        super().__init__(energy, noise)
        self._points = (points, log_cell)

    def read(self, x: Tensor, generator: torch.Generator) -> StepReading:
        points, log_cell = self._points
        log_x, log_points = self.log_probabilities(x, points)
        log_z = torch.logsumexp(log_points, 0) + log_cell
        loss = log_z - log_x.mean()
        return StepReading(loss, float(log_z.detach()), value=float(loss.detach()))


TRAINING_NODES = {1: 2000, 2: 128}
MARGIN = 0.5


def enclose_data(data: Tensor) -> Quadrature:
    """A box around data in one or two dimensions; ValueError for more."""
    if data.ndim != 2 or data.shape[1] not in TRAINING_NODES:
        raise ValueError(f"data must be (n, 1) or (n, 2) for ExactMLE without a support, got {tuple(data.shape)}")
    low, high = data.amin(0).double(), data.amax(0).double()
    side = torch.where(high > low, high - low, torch.ones_like(low))
    low, high = low - MARGIN * side, high + MARGIN * side
    return Quadrature(tuple(low.tolist()), tuple(high.tolist()), TRAINING_NODES[data.shape[1]])
