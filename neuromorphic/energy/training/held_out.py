"""Rows that are held out of training, and the weights that they speak for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from relaxon.neuromorphic.energy.energies.families import TiltedEnergy

CHECK_EVERY = 50
"""Steps between two looks at the rows held out."""


def ensure_variation(z: Tensor, order: Tensor, count: int) -> Tensor:
    """Return the order with rows held out exchanged for others where the rest would not vary in some feature."""
    for feature in range(z.shape[1]):
        column = z[order, feature]
        differing = torch.nonzero(column[:count] != column[-1])
        if count and bool((column[count:] == column[-1]).all()) and len(differing):
            order = order.clone()
            place = int(differing[0])
            order[[place, count]] = order[[count, place]]
    return order


class HoldOutJudge(nn.Module):
    """Keeps the weights under which the rows held out are likeliest.

    All that it has found is in buffers, so that a checkpoint holds it and a run that goes on ends where one that was
    never interrupted does. `fit` says, in JSON values, what the weights are fitted to: a checkpoint of another fit is
    refused.
    """

    scores: Tensor
    looks: Tensor
    top: Tensor
    since: Tensor

    def __init__(
        self,
        energy: TiltedEnergy,
        draws: Tensor,
        held: Tensor,
        patience: int,
        steps: int,
        fit: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.patience, self.fit = patience, fit or {}
        # In a tuple, so that they are no parts of this module's state.
        self._held = (energy, draws, held)
        self._names = [name for name, parameter in energy.named_parameters() if parameter.requires_grad]
        for place, weight in enumerate(self._current()):
            self.register_buffer(f"best_{place}", weight)
        device = held.device
        # One look before the first step, one after the last.
        scores = torch.full((steps // CHECK_EVERY + 2,), math.nan, dtype=torch.float64)
        self.register_buffer("scores", scores)
        self.register_buffer("looks", torch.zeros((), dtype=torch.int64))
        self.register_buffer("top", torch.tensor(-math.inf, dtype=torch.float64))
        self.register_buffer("since", torch.zeros((), dtype=torch.int64))
        self.to(device)

    @property
    def best(self) -> dict[str, Tensor]:
        """The weights of the best look."""
        return {name: self.get_buffer(f"best_{place}") for place, name in enumerate(self._names)}

    @property
    def found(self) -> NDArray[np.float64]:
        """Mean log-likelihood of the rows held out at each look, `(looks,)`."""
        return self.scores[: int(self.looks)].cpu().numpy().copy()

    @property
    def done(self) -> bool:
        """Whether nothing has been gained for as many looks as there is patience for."""
        return int(self.since) >= self.patience

    def describe(self) -> dict[str, Any]:
        """What a run must share with a checkpoint to go on with it, as JSON values."""
        return {"patience": self.patience, **self.fit}

    def look_now(self) -> None:
        """Look at the weights that the energy has."""
        self.look(dict(zip(self._names, self._current(), strict=True)))

    @torch.no_grad()
    def look(self, weights: dict[str, Tensor]) -> None:
        """Score the rows held out under these weights, and keep them where they are the best so far."""
        energy, draws, held = self._held
        kept = dict(zip(self._names, self._current(), strict=True))
        energy.load_state_dict(weights, strict=False)
        # The noise is the base: its part of the likelihood is the same for all weights.
        log_z = float(torch.logsumexp(-energy.tilt(draws).double(), 0)) - math.log(len(draws))
        score = -float(energy.tilt(held).double().mean()) - log_z
        energy.load_state_dict(kept, strict=False)
        self.scores[int(self.looks)] = score
        self.looks += 1
        if score > float(self.top):
            self.top.fill_(score)
            self.since.zero_()
            for name, best in self.best.items():
                best.copy_(weights[name])
        else:
            self.since += 1

    def _current(self) -> list[Tensor]:
        return [p.detach().clone() for p in self._held[0].parameters() if p.requires_grad]
