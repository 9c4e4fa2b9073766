"""Rows that are held out of training, and the weights that they speak for."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from relaxon.neuromorphic.energy.energies import TiltedEnergy


def varied(z: Tensor, order: Tensor, count: int) -> Tensor:
    """Return the order with rows held out exchanged for others where the rest would not vary in some feature."""
    for feature in range(z.shape[1]):
        column = z[order, feature]
        differing = torch.nonzero(column[:count] != column[-1])
        if count and bool((column[count:] == column[-1]).all()) and len(differing):
            order = order.clone()
            place = int(differing[0])
            order[[place, count]] = order[[count, place]]
    return order


class Judge:
    """Keeps the weights under which the rows held out are likeliest."""

    def __init__(self, energy: TiltedEnergy, draws: Tensor, held: Tensor, patience: int) -> None:
        self.energy, self.draws, self.held, self.patience = energy, draws, held, patience
        self.best: dict[str, Tensor] = {}
        self.scores = list[float]()
        self.top, self.since = -math.inf, 0

    @property
    def done(self) -> bool:
        """Whether nothing has been gained for as many looks as there is patience for."""
        return self.since >= self.patience

    @torch.no_grad()
    def look(self, weights: dict[str, Tensor]) -> None:
        """Score the rows held out under other weights, and keep these where they are the best so far."""
        kept = {name: p.detach().clone() for name, p in self.energy.named_parameters() if p.requires_grad}
        self.energy.load_state_dict(weights, strict=False)
        # The noise is the base: its part of the likelihood is the same for all weights.
        log_z = float(torch.logsumexp(-self.energy.tilt(self.draws).double(), 0)) - math.log(len(self.draws))
        score = -float(self.energy.tilt(self.held).double().mean()) - log_z
        self.energy.load_state_dict(kept, strict=False)
        self.scores.append(score)
        if score > self.top:
            self.top, self.best, self.since = score, weights, 0
        else:
            self.since += 1
