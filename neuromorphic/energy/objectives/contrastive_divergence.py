"""Persistent contrastive divergence: the model term of the gradient comes from chains that are never restarted.

Source: Tieleman 2008; with Langevin chains and a share of restarts, Du and Mordatch 2019.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from relaxon.core import validation
from relaxon.neuromorphic.energy.energies.derivatives import has_hand_gradient, input_gradient
from relaxon.neuromorphic.energy.energies.families import MLPEnergy
from relaxon.neuromorphic.energy.noise.distributions import standard_normal
from relaxon.neuromorphic.energy.objectives.noise_contrastive import Objective, ObjectiveState, StepReading
from relaxon.neuromorphic.energy.samplers.euclidean import ULA, Sampler
from relaxon.neuromorphic.parameters import check_methods, check_real

Start = Literal["data", "normal"]


@dataclass(frozen=True)
class PCD(Objective):
    """`∇E(x) − ∇E(s)` at the ends s of persistent chains, which `sampler` moves `moves` times in each step.

    There are `chains` chains, or as many as the noise batch if None. They start at rows of the data or, with
    `start="normal"`, at normal numbers with the data's mean and standard deviation. A share `restart` of them is
    restarted in each step. `decay` adds `decay (E(x)² + E(s)²)`, which keeps the level of the energies fixed.
    """

    sampler: Sampler = field(default_factory=ULA)
    moves: int = 10
    chains: int | None = None
    start: Start = "data"
    restart: float = 0.0
    decay: float = 0.0
    name: ClassVar[str] = "pcd"
    needs_noise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_methods("sampler", self.sampler, ("run",))
        validation.positive_int("moves", self.moves)
        if self.chains is not None:
            validation.positive_int("chains", self.chains)
        if self.start not in get_args(Start):
            raise ValueError(f"start must be 'data' or 'normal', got {self.start!r}")
        check_real("restart", self.restart, least=0.0, up_to=1.0)
        validation.non_negative_float("decay", self.decay)

    def begin(self, energy: nn.Module, noise: Any, data: Tensor, noise_batch: int, seed: int) -> ObjectiveState:
        return _Persistent(energy, noise, data, self.chains or noise_batch, self, seed)


class _Persistent(ObjectiveState):
    settings: PCD
    places: Tensor

    def __init__(self, energy: nn.Module, noise: Any, data: Tensor, chains: int, settings: PCD, seed: int) -> None:
        super().__init__(energy, noise, settings)
        self._data = (data, data.mean(0), data.std(0))
        self.register_buffer("places", self._draw_starts(chains, torch.Generator().manual_seed(seed)))

    def _draw_starts(self, count: int, generator: torch.Generator) -> Tensor:
        data, mean, deviation = self._data
        if self.settings.start == "normal":
            return mean + deviation * standard_normal((count, *data.shape[1:]), generator, data)
        chosen = torch.randint(len(data), (count,), generator=generator, device=generator.device)
        return data[chosen.to(data.device)].clone()

    def _move_chains(self, start: Tensor, generator: torch.Generator) -> Tensor:
        """Return where the moves of the sampler end."""
        settings, state = self.settings, generator.get_state()
        if type(settings.sampler) is ULA and has_hand_gradient(self.energy):
            ends = run_langevin(self.energy, start, settings.moves, settings.sampler.step_size, generator)
            if bool(torch.isfinite(ends).all()):
                return ends
            generator.set_state(state)  # a chain diverged; the sampler leaves such chains where they were
        moved = settings.sampler.run(self.energy, start, settings.moves, generator, thin=settings.moves)
        return moved.samples[-1].detach()

    def read(self, x: Tensor, generator: torch.Generator) -> StepReading:
        settings = self.settings
        start = self.places
        if settings.restart:
            u = torch.rand(len(start), generator=generator, device=generator.device)
            again = (u < settings.restart).to(start.device).reshape(-1, *[1] * (start.ndim - 1))
            start = torch.where(again, self._draw_starts(len(start), generator), start)
        ends = self._move_chains(start, generator)
        # A diverged chain would never come back.
        lost = ~torch.isfinite(ends).flatten(1).all(1)
        if bool(lost.any()):
            ends[lost] = self._draw_starts(int(lost.sum()), generator)
        self.places.copy_(ends)
        log_x, log_s = self.log_probabilities(x, ends)
        loss = log_s.mean() - log_x.mean()
        value = float(loss.detach())
        if settings.decay:
            loss = loss + settings.decay * (log_x.square().mean() + log_s.square().mean())
        return StepReading(loss, value=value)


def run_langevin(energy: MLPEnergy, start: Tensor, moves: int, step: float, generator: torch.Generator) -> Tensor:
    """Return the ends of `moves` unadjusted Langevin moves, like those of `ULA` but without evaluating the energy."""
    x = start.clone()
    for _ in range(moves):
        gradient = input_gradient(energy, x)
        x.add_(gradient, alpha=-0.5 * step**2).add_(standard_normal(tuple(x.shape), generator, x), alpha=step)
    return x
