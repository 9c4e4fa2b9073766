"""A search for modes of an energy that no draw of the noise has met: tempered chains from the data and from outside.

Chains from the data are heated until they leave them, and cooled again (Neal 1996, tempered transitions, without the
rejection that would bring them back); others start outside, at all distances and in all directions, and are cooled.
Where they come to rest at points that weigh more than every draw of the noise, the mass about these points is estimated
by importance sampling from a distribution fitted there. A search can find a mode; it cannot show that there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relaxon.neuromorphic.energy.energies.events import flatten_events
from relaxon.neuromorphic.energy.noise.distributions import GaussianNoise, StudentNoise, standard_normal
from relaxon.neuromorphic.energy.partition.importance_weights import weight_statistics
from relaxon.neuromorphic.energy.partition.log_partition import log_ratio
from relaxon.neuromorphic.energy.samplers.euclidean import MALA, MALA_ACCEPTANCE
from relaxon.neuromorphic.energy.samplers.transitions import Energy, Target, evaluate_energies, leapfrog

if TYPE_CHECKING:
    from relaxon.neuromorphic.energy.noise.distributions import Noise

INSIDE, OUTSIDE = 64, 192
"""Chains from the data and from outside."""
NEAREST, FARTHEST = 4.0, 80.0
"""Where chains outside start, in deviations of the draws: a mode 30 away in ten dimensions attracts a fifth of those
that start 60 away, and fewer of the nearer ones."""
HOTTEST = 1000.0
"""Temperature at which chains from the data are: its deviations are 30 times the data's."""
LUKEWARM = 100.0
"""Where chains from outside begin to cool: hot enough to leave ripples, too cold to cross from one mode to another."""
STAGES, MOVES = 7, 4
"""Temperatures from 1 to the hottest, and moves at each."""
GAIN = 0.3
"""Of the step size, in its logarithm, for each unit that the acceptance is off."""
SETTLING = 20
"""Moves at temperature 1 in the end."""
COPIES, SPREADING, KEPT = 64, 60, 20
"""Chains that leave the lowest point of a mode to learn its form, their moves before that, and those that count."""
WIDEN, FREEDOM = 1.2, 5.0
LOCAL_DRAWS = 4000
MOST_MODES = 4
"""That are looked at, from the lowest energy on."""
BARRIER = 8.0
"""Nats by which the energy must rise between two points for them to be of two modes."""
LEAST_GAP = 2.0
"""Deviations between a far mode and every draw: what lies nearer is a tail, which the weights' own index judges."""
BETWEEN = 9
"""Points between two at which that is seen."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FarMode:
    """A mode that the noise has not met."""

    log_mass: float
    """log of the integral of `e^{−energy}` over its unmet part."""
    distance: float
    """Of its lowest point from the mean of the noise's draws, in their deviations."""


@dataclass(frozen=True, slots=True)
class _Whitened:
    """Coordinates in which the noise's draws have mean 0 and covariance 1."""

    mean: Tensor
    factor: Tensor
    shape: tuple[int, ...]

    @classmethod
    def from_draws(cls, draws: Tensor) -> _Whitened:
        flat = flatten_events(draws)
        covariance = torch.cov(flat.T).reshape(flat.shape[1], flat.shape[1])
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if int(failed) or not bool(torch.isfinite(factor).all()):
            factor = torch.diag(flat.std(0).clamp(min=torch.finfo(flat.dtype).tiny))
        return cls(flat.mean(0), factor, tuple(draws.shape[1:]))

    @property
    def log_volume(self) -> float:
        """log of the volume of a unit cube of these coordinates."""
        return float(self.factor.diagonal().log().sum())

    def unwhiten(self, y: Tensor) -> Tensor:
        """From these coordinates, `(n, d)`."""
        return (self.mean + y @ self.factor.T).reshape(len(y), *self.shape)

    def whiten(self, x: Tensor) -> Tensor:
        """To these coordinates."""
        found: Tensor = torch.linalg.solve_triangular(self.factor, (flatten_events(x) - self.mean).T, upper=False).T
        return found


def find_far_modes(
    energy: Energy, noise: Noise, draws: Tensor, largest: float, near: Tensor, generator: torch.Generator
) -> list[FarMode]:
    """Return the modes found whose points weigh more, `−energy − log q`, than `largest`, the lowest energy first.

    `draws (n, *event_shape)` are the noise's, `near` rows of the data or draws of the model to start from.
    """
    space = _Whitened.from_draws(draws)

    def inner(y: Tensor) -> Tensor:
        return energy(space.unwhiten(y))

    def is_unmet(y: Tensor) -> NDArray[np.bool_]:
        return log_ratio(energy, noise, space.unwhiten(y)) > largest

    ends = torch.cat(
        [
            _cool(inner, _heat(inner, _draw_some(space.whiten(near), generator), generator), HOTTEST, generator),
            _cool(inner, _draw_outside(space, generator), LUKEWARM, generator),
        ]
    )
    level = evaluate_energies(inner, ends).double().cpu().numpy()
    away = (torch.cdist(ends, space.whiten(draws)).amin(1) > LEAST_GAP).cpu().numpy()
    unmet = np.isfinite(level) & is_unmet(ends) & away
    ends, level = ends[torch.from_numpy(unmet).to(ends.device)], level[unmet]
    found: list[FarMode] = []
    while len(ends) and len(found) < MOST_MODES:
        lowest = ends[int(level.argmin())]
        mass = _estimate_log_mass(inner, is_unmet, lowest, generator)
        found.append(FarMode(mass + space.log_volume, float(lowest.norm())))
        others = ~_share_mode(inner, lowest, ends)
        ends, level = ends[torch.from_numpy(others).to(ends.device)], level[others]
    return found


def _draw_some(y: Tensor, generator: torch.Generator) -> Tensor:
    chosen = torch.randint(len(y), (INSIDE,), generator=generator, device=generator.device)
    return y[chosen.to(y.device)]


def _draw_outside(space: _Whitened, generator: torch.Generator) -> Tensor:
    """Points in all directions, at distances of which each octave has as many."""
    direction = standard_normal((OUTSIDE, len(space.mean)), generator, space.mean)
    shares = torch.linspace(0, 1, OUTSIDE, dtype=space.mean.dtype, device=space.mean.device)[:, None]
    radius: Tensor = NEAREST * (FARTHEST / NEAREST) ** shares
    length: Tensor = torch.linalg.vector_norm(direction, dim=1, keepdim=True)
    return radius * direction / length


def _heat(inner: Energy, y: Tensor, generator: torch.Generator) -> Tensor:
    return _move_through(inner, y, np.geomspace(1.0, HOTTEST, STAGES), generator)


def _cool(inner: Energy, y: Tensor, hottest: float, generator: torch.Generator) -> Tensor:
    y = _move_through(inner, y, np.geomspace(hottest, 1.0, STAGES), generator)
    return _move_through(inner, y, np.ones(SETTLING // MOVES), generator)


def _move_through(inner: Energy, y: Tensor, temperatures: Floats, generator: torch.Generator) -> Tensor:
    """Langevin moves with rejection at one temperature after the other; steps grow with its root."""
    log_step, ones = math.log(0.5), torch.ones_like(y[0])
    for temperature in temperatures.tolist():
        target = Target(lambda x, t=temperature: inner(x) / t)  # type: ignore[misc]
        state = target.at(y)
        for _ in range(MOVES):
            step = torch.full_like(y[:, 0], math.exp(log_step) * math.sqrt(temperature))
            move = leapfrog(target, state, step, ones, 1, generator)
            state = move.state
            log_step += GAIN * (float(move.acceptance.double().mean()) - MALA_ACCEPTANCE)
        y = state.position
    return y


def _share_mode(inner: Energy, lowest: Tensor, ends: Tensor) -> NDArray[np.bool_]:
    """Whether the energy rises by no more than the barrier on the straight way from the lowest point to each end."""
    shares = torch.linspace(0, 1, BETWEEN + 2, dtype=ends.dtype, device=ends.device)[:, None, None]
    way = lowest + shares * (ends - lowest)
    level = evaluate_energies(inner, way.flatten(0, 1)).reshape(len(shares), len(ends))
    top = torch.maximum(level[0], level[-1]) + BARRIER
    found: NDArray[np.bool_] = (level.amax(0) <= top).cpu().numpy()
    found[int(level[-1].argmin())] = True  # the lowest itself, whatever its rounding
    return found


def _estimate_log_mass(
    inner: Energy, is_unmet: Callable[[Tensor], NDArray[np.bool_]], lowest: Tensor, generator: torch.Generator
) -> float:
    """log of the integral of `e^{−inner}` about the lowest point, where the noise has not been; −∞ where none was
    found."""
    start = lowest.expand(COPIES, -1).contiguous()
    samples = MALA().run(inner, start, KEPT, generator, warm_up=SPREADING).flat.double()
    try:
        fitted = GaussianNoise.fit(samples, widen=WIDEN)
    except ValueError:  # the chains did not leave the point: there is no mass
        return -math.inf
    local = StudentNoise(fitted.mean, fitted.factor @ fitted.factor.T, FREEDOM)
    drawn = local.sample(LOCAL_DRAWS, generator)
    weights = log_ratio(lambda x: inner(x.to(lowest.dtype)), local, drawn)
    weights = np.where(is_unmet(drawn.to(lowest.dtype)), weights, -np.inf)
    return weight_statistics(weights).log_mean
