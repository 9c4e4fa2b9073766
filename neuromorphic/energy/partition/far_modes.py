"""A search for modes of an energy that no draw of the noise has met, by tempered chains from the data and from outside.

Chains from the data are heated until they leave it and cooled again (tempered transitions, Neal 1996, without the
rejection that would bring them back). Others start outside, at all distances and in all directions, and are cooled. If
they end at points that weigh more than every draw of the noise, the mass around these points is estimated by importance
sampling from a distribution fitted there. The search can find a mode but cannot prove that there is none.
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
"""Number of chains from the data and from outside."""
NEAREST, FARTHEST = 4.0, 80.0
"""Starting distances of the chains outside, in standard deviations of the draws: a mode 30 away in ten dimensions
attracts a fifth of those that start 60 away, and fewer of the nearer ones."""
HOTTEST = 1000.0
"""Highest temperature of the chains from the data; standard deviations are then about 30 times those of the data."""
LUKEWARM = 100.0
"""Initial temperature of the chains from outside: high enough to leave ripples, too low to cross between modes."""
STAGES, MOVES = 7, 4
"""Number of temperatures from 1 to the hottest, and of moves at each."""
GAIN = 0.3
"""Change of the logarithm of the step size per unit of deviation from the target acceptance."""
SETTLING = 20
"""Number of final moves at temperature 1."""
COPIES, SPREADING, KEPT = 64, 60, 20
"""Chains that explore a mode from its lowest point, their warm-up moves, and their kept moves."""
WIDEN, FREEDOM = 1.2, 5.0
"""Widening and degrees of freedom of the distribution fitted to a mode."""
LOCAL_DRAWS = 4000
"""Number of draws for the mass of a mode."""
MOST_MODES = 4
"""Maximum number of modes examined, from the lowest energy on."""
BARRIER = 8.0
"""Nats by which the energy must rise between two points that belong to different modes."""
LEAST_GAP = 2.0
"""Minimum distance of a far mode from every draw, in standard deviations; nearer points belong to a tail, which the
Pareto index of the weights judges."""
BETWEEN = 9
"""Number of intermediate points at which the barrier is looked for."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FarMode:
    """A mode that no draw of the noise has met."""

    log_mass: float
    """Logarithm of the integral of `e^{−energy}` over its unmet part."""
    distance: float
    """Distance of its lowest point from the mean of the noise's draws, in their standard deviations."""


@dataclass(frozen=True, slots=True)
class _Whitened:
    """Coordinates in which the noise's draws have mean 0 and the identity as covariance."""

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
        """Logarithm of the volume of a unit cube of these coordinates."""
        return float(self.factor.diagonal().log().sum())

    def unwhiten(self, y: Tensor) -> Tensor:
        """Map points `(n, d)` from these coordinates to events."""
        return (self.mean + y @ self.factor.T).reshape(len(y), *self.shape)

    def whiten(self, x: Tensor) -> Tensor:
        """Map events to these coordinates, `(n, d)`."""
        found: Tensor = torch.linalg.solve_triangular(self.factor, (flatten_events(x) - self.mean).T, upper=False).T
        return found


def find_far_modes(
    energy: Energy, noise: Noise, draws: Tensor, largest: float, near: Tensor, generator: torch.Generator
) -> list[FarMode]:
    """Return the modes found whose log weight `−energy − log q` exceeds `largest`, by increasing energy.

    `draws (n, *event_shape)` are those of the noise; `near` are rows of the data or draws of the model to start from.
    """
    space = _Whitened.from_draws(draws)

    def inner(y: Tensor) -> Tensor:
        return energy(space.unwhiten(y))

    def is_unmet(y: Tensor) -> NDArray[np.bool_]:
        return log_ratio(energy, noise, space.unwhiten(y)) > largest

    start = _draw_some(space.whiten(near), generator)
    heated = _move_through(inner, start, np.geomspace(1.0, HOTTEST, STAGES), generator)
    cooled = _cool(inner, heated, HOTTEST, generator)
    ends = torch.cat([cooled, _cool(inner, _draw_outside(space, generator), LUKEWARM, generator)])
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
    """Draw points in all directions, with equally many in each octave of distance."""
    direction = standard_normal((OUTSIDE, len(space.mean)), generator, space.mean)
    shares = torch.linspace(0, 1, OUTSIDE, dtype=space.mean.dtype, device=space.mean.device)[:, None]
    radius: Tensor = NEAREST * (FARTHEST / NEAREST) ** shares
    length: Tensor = torch.linalg.vector_norm(direction, dim=1, keepdim=True)
    return radius * direction / length


def _cool(inner: Energy, y: Tensor, hottest: float, generator: torch.Generator) -> Tensor:
    y = _move_through(inner, y, np.geomspace(hottest, 1.0, STAGES), generator)
    return _move_through(inner, y, np.ones(SETTLING // MOVES), generator)


def _move_through(inner: Energy, y: Tensor, temperatures: Floats, generator: torch.Generator) -> Tensor:
    """Make Langevin moves with rejection at each temperature in turn; steps scale with its square root."""
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
    """Return for each end whether the energy rises by at most the barrier on the line from the lowest point to it."""
    shares = torch.linspace(0, 1, BETWEEN + 2, dtype=ends.dtype, device=ends.device)[:, None, None]
    way = lowest + shares * (ends - lowest)
    level = evaluate_energies(inner, way.flatten(0, 1)).reshape(len(shares), len(ends))
    top = torch.maximum(level[0], level[-1]) + BARRIER
    found: NDArray[np.bool_] = (level.amax(0) <= top).cpu().numpy()
    found[int(level[-1].argmin())] = True  # the lowest point itself, regardless of rounding
    return found


def _estimate_log_mass(
    inner: Energy, is_unmet: Callable[[Tensor], NDArray[np.bool_]], lowest: Tensor, generator: torch.Generator
) -> float:
    """Estimate the log integral of `e^{−inner}` around the lowest point, over its unmet part; −∞ if it has no mass."""
    start = lowest.expand(COPIES, -1).contiguous()
    samples = MALA().run(inner, start, KEPT, generator, warm_up=SPREADING).flat.double()
    try:
        fitted = GaussianNoise.fit(samples, widen=WIDEN)
    except ValueError:  # the chains did not leave the point, so that there is no mass
        return -math.inf
    local = StudentNoise(fitted.mean, fitted.factor @ fitted.factor.T, FREEDOM)
    drawn = local.sample(LOCAL_DRAWS, generator)
    weights = log_ratio(lambda x: inner(x.to(lowest.dtype)), local, drawn)
    weights = np.where(is_unmet(drawn.to(lowest.dtype)), weights, -np.inf)
    return weight_statistics(weights).log_mean
