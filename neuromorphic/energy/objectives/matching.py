"""Energies whose gradients transport noise to the data: equilibrium matching and energy matching.

Both draw a standard normal source point ε for each row x and fit the energy's gradient on the straight line between
them; the data should be standardised. Sources: Wang and Du 2025, "Equilibrium matching"; Balcerak et al. 2025, "Energy
matching".
"""
# Imported on first use, for their weight: scipy.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from relaxon.core import validation
from relaxon.neuromorphic.energy.energies.derivatives import energy_gradient
from relaxon.neuromorphic.energy.noise.distributions import standard_normal
from relaxon.neuromorphic.energy.objectives.noise_contrastive import Objective, ObjectiveState, StepReading
from relaxon.neuromorphic.parameters import check_real


@dataclass(frozen=True)
class EquilibriumMatching(Objective):
    """`‖∇E(γx + (1−γ)ε) − c(γ) (ε − x)‖²`, averaged over γ in (0, 1) and over the features.

    `c(γ) = scale · min(1, (1−γ)/(1−fall))` falls to 0 at the data, which become minima of the energy. Gradient descent
    on E generates samples; `e^{−E}` does not estimate the density of the data.
    """

    scale: float = 4.0
    fall: float = 0.8
    name: ClassVar[str] = "equilibrium-matching"
    needs_noise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        validation.positive_float("scale", self.scale)
        check_real("fall", self.fall, least=0.0, below=1.0)

    def begin(self, energy: nn.Module, noise: Any, data: Tensor, noise_batch: int, seed: int) -> ObjectiveState:
        return _Equilibrium(energy, noise, self)


@dataclass(frozen=True)
class EnergyMatching(Objective):
    """`w(t) ‖−T∇E(x_t) − (x − ε)‖² + weight · T (E(x) − E(s))`: transport far from the data, `e^{−E}` near them.

    ε and x are paired by optimal transport within the batch, `x_t = (1−t)ε + tx` plus `blur` times normal numbers, and
    `w(t)` falls from 1 at `fall` to 0 at the data. s are the ends of `moves` Langevin moves of step `dt` in the
    potential TE with T = `temperature`. Half of the chains start from the data at temperature T. The other half start
    from ε without noise for the share `fall` of the moves, after which the temperature rises to T. The share `trim` of
    the highest E(s) is dropped, and the second term is bounded below by `−floor`. The first `warm_up` steps use the
    first term only, whose potential transports noise to the data in unit time: `x ← x − dt T∇E` from 0 to 1.
    """

    temperature: float = 0.15
    weight: float = 2.0
    warm_up: int = 1000
    blur: float = 0.1
    fall: float = 0.8
    moves: int = 200
    dt: float = 0.01
    trim: float = 0.1
    floor: float = 0.02
    name: ClassVar[str] = "energy-matching"
    needs_noise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("temperature", "dt"):
            validation.positive_float(name, getattr(self, name))
        for name in ("weight", "blur", "floor"):
            validation.non_negative_float(name, getattr(self, name))
        validation.positive_int("moves", self.moves)
        if self.warm_up:
            validation.positive_int("warm_up", self.warm_up)
        check_real("fall", self.fall, least=0.0, below=1.0)
        check_real("trim", self.trim, least=0.0, below=1.0)

    def begin(self, energy: nn.Module, noise: Any, data: Tensor, noise_batch: int, seed: int) -> ObjectiveState:
        return _Transport(energy, noise, self)


class _Equilibrium(ObjectiveState):
    def read(self, x: Tensor, generator: torch.Generator) -> StepReading:
        settings = self.settings
        source = standard_normal(tuple(x.shape), generator, x)
        share = _draw_shares(x, generator)
        slope = _slope(self.energy, share * x + (1 - share) * source)
        fade = settings.scale * ((1 - share) / (1 - settings.fall)).clamp(max=1)
        loss = (slope - fade * (source - x)).square().mean()
        return StepReading(loss, value=float(loss.detach()))


class _Transport(ObjectiveState):
    settings: EnergyMatching
    steps: Tensor

    def __init__(self, energy: nn.Module, noise: Any, settings: EnergyMatching) -> None:
        super().__init__(energy, noise, settings)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def read(self, x: Tensor, generator: torch.Generator) -> StepReading:
        settings = self.settings
        source = standard_normal(tuple(x.shape), generator, x)
        target = x[pair_by_transport(source, x)]
        share = _draw_shares(x, generator)
        there = (1 - share) * source + share * target
        there = there + settings.blur * standard_normal(tuple(x.shape), generator, x)
        fade = ((1 - share) / (1 - settings.fall)).clamp(max=1)
        slope = settings.temperature * _slope(self.energy, there)
        loss = (fade * (slope + target - source).square()).mean()
        self.steps += 1
        if int(self.steps) > settings.warm_up and settings.weight:
            loss = loss + self._contrast(x, source, generator)
        return StepReading(loss, value=float(loss.detach()))

    def _contrast(self, x: Tensor, source: Tensor, generator: torch.Generator) -> Tensor:
        settings, half = self.settings, len(x) // 2
        start = torch.cat([source[:half], x[torch.randperm(len(x), generator=generator).to(x.device)[half:]]])
        log_x, log_s = self.log_probabilities(x, self._move_chains(start, half, generator))
        kept = len(log_s) - int(settings.trim * len(log_s))
        rise = torch.topk(log_s, kept).values.mean() - log_x.mean()
        return (settings.weight * settings.temperature * rise).clamp(min=-settings.floor)

    def _move_chains(self, start: Tensor, cold: int, generator: torch.Generator) -> Tensor:
        """Return the ends of the chains; the first `cold` of them are heated on the way."""
        settings, x = self.settings, start.clone()
        heat = torch.full_like(x[:, :1].flatten(1)[:, 0], settings.temperature)
        for move in range(settings.moves):
            rise = (move / settings.moves - settings.fall) / (1 - settings.fall)
            heat[:cold] = settings.temperature * max(0.0, rise)
            wide = (2 * settings.dt * heat).sqrt().reshape(-1, *[1] * (x.ndim - 1))
            slope = energy_gradient(self.energy, x)
            x = x - settings.dt * settings.temperature * slope + wide * standard_normal(tuple(x.shape), generator, x)
        return x


def pair_by_transport(source: Tensor, x: Tensor) -> Tensor:
    """Return the index of the row for each source point that minimises the sum of squared distances, `(n,)`."""
    from scipy.optimize import linear_sum_assignment

    distances = torch.cdist(source.flatten(1), x.flatten(1)).square()
    _, places = linear_sum_assignment(distances.cpu().numpy())
    return torch.from_numpy(places).to(x.device)


def _draw_shares(x: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a number in (0, 1) for each row, in a shape that broadcasts over it."""
    drawn = torch.rand(len(x), generator=generator, device=generator.device, dtype=x.dtype).to(x.device)
    return drawn.reshape(-1, *[1] * (x.ndim - 1))


def _slope(energy: nn.Module, x: Tensor) -> Tensor:
    """Return `∂E/∂x` with a graph to the parameters."""
    x = x.detach().requires_grad_(True)
    return torch.autograd.grad(energy(x).sum(), x, create_graph=True)[0]
