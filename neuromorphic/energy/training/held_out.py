"""Hold-out rows, and the selection of the weights under which they are most likely."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from relaxon.neuromorphic.energy.energies.families import TiltedEnergy

CHECK_EVERY = 50
"""Steps between two evaluations on the hold-out rows."""


def ensure_variation(z: Tensor, order: Tensor, count: int) -> Tensor:
    """Return the order with hold-out rows exchanged so that the remaining rows vary in every feature.

    Each exchange puts a row in which a constant feature differs in a place of its own, so that no later one undoes it.
    """
    for own in range(count, len(order) - 1):
        rest = z[order[count:]]
        lacking = (rest == rest[-1]).all(0) & (z != rest[-1]).any(0)
        if not bool(lacking.any()):
            break
        feature = int(lacking.nonzero()[0])
        place = int(torch.nonzero(z[order[:count], feature] != rest[-1, feature])[0])
        order = order.clone()
        order[[place, own]] = order[[own, place]]
    return order


class HoldOutJudge(nn.Module):
    """Keeps the weights under which the hold-out rows are most likely.

    Its state is in buffers, so that a checkpoint contains it and a resumed run ends like an uninterrupted one. `fit`
    describes, in JSON values, what the weights are fitted to; a checkpoint of another fit is refused.
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
        # Kept in a tuple, so that they are not part of this module's state.
        self._held = (energy, draws, held)
        self._names = [name for name, parameter in energy.named_parameters() if parameter.requires_grad]
        for place, weight in enumerate(self._current()):
            self.register_buffer(f"best_{place}", weight)
        device = held.device
        # Includes one evaluation before the first step and one after the last.
        scores = torch.full((steps // CHECK_EVERY + 2,), math.nan, dtype=torch.float64)
        self.register_buffer("scores", scores)
        self.register_buffer("looks", torch.zeros((), dtype=torch.int64))
        self.register_buffer("top", torch.tensor(-math.inf, dtype=torch.float64))
        self.register_buffer("since", torch.zeros((), dtype=torch.int64))
        self.to(device)

    @property
    def best(self) -> dict[str, Tensor]:
        """The weights of the best evaluation."""
        return {name: self.get_buffer(f"best_{place}") for place, name in enumerate(self._names)}

    @property
    def found(self) -> NDArray[np.float64]:
        """Mean log-likelihood of the hold-out rows at each evaluation, `(looks,)`."""
        return self.scores[: int(self.looks)].cpu().numpy().copy()

    @property
    def done(self) -> bool:
        """Whether there was no improvement for `patience` evaluations."""
        return int(self.since) >= self.patience

    def describe(self) -> dict[str, Any]:
        """Return, as JSON values, what a checkpoint must match for a run to resume it."""
        return {"patience": self.patience, **self.fit}

    def look_now(self) -> None:
        """Evaluate the current weights of the energy."""
        self.look(dict(zip(self._names, self._current(), strict=True)))

    @torch.no_grad()
    def look(self, weights: dict[str, Tensor]) -> None:
        """Score the hold-out rows under these weights, and keep the weights if they are the best so far."""
        energy, draws, held = self._held
        kept = dict(zip(self._names, self._current(), strict=True))
        energy.load_state_dict(weights, strict=False)
        # The noise is the base, and its part of the likelihood is the same for all weights.
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
