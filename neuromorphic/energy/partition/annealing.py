"""log Z by annealed importance sampling: from the noise to the model through many intermediate densities."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relaxon.core import validation
from relaxon.neuromorphic.energy.energies.events import validate_events
from relaxon.neuromorphic.energy.partition.importance_sampling import explain_unseen, resample
from relaxon.neuromorphic.energy.partition.importance_weights import weight_statistics
from relaxon.neuromorphic.energy.partition.log_partition import LogPartition, estimate_from_weights, log_ratio
from relaxon.neuromorphic.energy.samplers.adaptation import DualAveraging, RunningDeviation, find_first_step
from relaxon.neuromorphic.energy.samplers.euclidean import HMC, MALA
from relaxon.neuromorphic.energy.samplers.transitions import Energy, Target
from relaxon.neuromorphic.parameters import check_methods, check_real

if TYPE_CHECKING:
    from relaxon.neuromorphic.energy.noise.distributions import Noise

BISECTIONS = 40
"""Number of bisections for the next temperature."""
FIRST_MOVES = 30
"""Number of moves of the pilot in the noise, to find a step size."""
GAIN = 0.3
"""Change of the logarithm of the pilot's step size per unit of deviation from the target acceptance."""
RESAMPLE_BELOW = 0.5
"""Effective sample size, relative to the pilot's draws, below which they are resampled."""
MODEL_MOVES = 20
"""Number of moves at the model's density before the way back, so that approximate draws become true ones."""
LARGEST_FINITE = float(np.finfo(np.float64).max)
PROBES = 256
"""Number of final points that are moved further."""
APART = 4.0
"""Standard errors by which both directions may differ, in addition to `agreement`."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Temperature:
    """An intermediate density `q^{1−t} p⁰^t`, with the step size and the scales of its moves."""

    t: float
    step: float
    scale: Tensor


@dataclass(frozen=True, slots=True)
class AIS:
    """Annealed importance sampling along `q^{1−t} p⁰^t` (Neal 2001).

    A pilot run of `pilot` draws first chooses the temperatures `t`, spaced such that the conditional effective sample
    size is the share `conditional_size` (Zhou, Johansen, Aston 2016), and the step size and scales of each. `count`
    other draws then follow this schedule, so that their weights are independent and the mean is unbiased.

    `reference`, draws of the model or its training data, follows the schedule backwards, which gives too large an
    estimate where the forward one is too small (Grosse, Ancha, Roy 2016). If the two differ by more than `agreement`
    nats plus four standard errors, a part of the model is missed or the path is too short, and the result is not
    trusted.
    """

    noise: Noise
    count: int = 1000
    transition: HMC | MALA = field(default_factory=lambda: HMC(leapfrog_steps=5))
    moves: int = 1
    """Number of moves at each temperature."""
    conditional_size: float = 0.99
    max_temperatures: int = 1000
    pilot: int = 256
    reference: Tensor | None = None
    agreement: float = 0.1

    def __post_init__(self) -> None:
        check_methods("noise", self.noise, ("sample", "log_prob"))
        for name in ("count", "moves", "max_temperatures", "pilot"):
            validation.positive_int(name, getattr(self, name))
        check_real("conditional_size", self.conditional_size, above=0.0, below=1.0)
        if not isinstance(self.transition, HMC | MALA):
            raise TypeError(f"transition must be HMC or MALA, got {type(self.transition).__name__}")
        validation.non_negative_float("agreement", self.agreement)
        if self.reference is not None:
            validate_events("reference", self.reference, tuple(self.noise.event_shape))

    def estimate(self, energy: Energy, generator: torch.Generator) -> LogPartition:
        """Return the estimate with its verdict."""
        stages = self._run_pilot(energy, generator)
        x = self.noise.sample(self.count, generator)
        weights = np.zeros(self.count)
        before = 0.0
        for stage in stages:
            weights += (stage.t - before) * log_ratio(energy, self.noise, x)
            x = self._move(energy, x, stage, generator)
            before = stage.t
        found = estimate_from_weights(weights, "annealed importance sampling")
        if not found.trusted:
            return found
        last = x[:PROBES]
        for _ in range(MODEL_MOVES):
            last = self._move(energy, last, stages[-1], generator)
        # Along the path no point leaves the support of the noise; a larger support of the model shows only here.
        reason = explain_unseen(log_ratio(energy, self.noise, last), LARGEST_FINITE, "the last points, moved on,")
        opposite = None
        if not reason and self.reference is not None:
            there = weight_statistics(self._run_backward(energy, self.reference.to(x), stages, generator))
            opposite = -there.log_mean
            apart = self.agreement + APART * math.hypot(found.standard_error, there.relative_error)
            if not abs(found.value - opposite) <= apart:
                reason = (
                    f"the reference's way back gives {opposite:.3f}, the way there {found.value:.3f}: a part "
                    "of the model is missed, the path is too short, or the reference is not like the model's draws"
                )
        return estimate_from_weights(weights, "annealed importance sampling", opposite, reason)

    def _run_pilot(self, energy: Energy, generator: torch.Generator) -> list[_Temperature]:
        """Run the pilot; return its temperatures, step sizes and scales."""
        x = self.noise.sample(self.pilot, generator)
        step, t = self._find_first_step(energy, x, generator), 0.0
        weights = np.zeros(self.pilot)
        stages: list[_Temperature] = []
        while t < 1:
            ratio = log_ratio(energy, self.noise, x)
            last = len(stages) + 1 >= self.max_temperatures
            following = 1.0 if last else _find_next_temperature(ratio, weights, t, self.conditional_size)
            sound = np.isfinite(weights) & np.isfinite(ratio)
            weights[sound] += (following - t) * ratio[sound]
            t = following
            if not sound.any():
                stages.append(_Temperature(1.0, step, torch.ones_like(x[0])))
                break
            weights = np.where(sound, weights, -np.inf)
            if weight_statistics(weights).effective_sample_size < RESAMPLE_BELOW * len(x):
                x, weights = resample(x, weights, self.pilot, generator), np.zeros(self.pilot)
            scale = _estimate_scale(x)
            state = self._build_target(energy, t).at(x)
            for _ in range(self.moves):
                move = self.transition.move(self._build_target(energy, t), state, step, scale, generator)
                state = move.state
                off = float(move.acceptance.double().mean()) - self.transition.target_acceptance
                step *= math.exp(GAIN * off)
            x = state.position
            stages.append(_Temperature(t, step, scale))
        return stages

    def _find_first_step(self, energy: Energy, x: Tensor, generator: torch.Generator) -> float:
        """Return a step size for the noise itself, from discarded moves of its own draws."""
        target, scale = self._build_target(energy, 0.0), _estimate_scale(x)
        state = target.at(x)

        def acceptance(step: float) -> float:
            return float(self.transition.move(target, state, step, scale, generator).acceptance.double().mean())

        sizes = DualAveraging(find_first_step(acceptance, self.transition.step_size), self.transition.target_acceptance)
        for _ in range(FIRST_MOVES):
            sizes.update(acceptance(sizes.step))
        return sizes.settled

    def _run_backward(
        self, energy: Energy, x: Tensor, stages: list[_Temperature], generator: torch.Generator
    ) -> Floats:
        """Return the log weights, of mean `1/Z`, from the model's points back to the noise."""
        for _ in range(MODEL_MOVES):
            x = self._move(energy, x, stages[-1], generator)
        weights = np.zeros(len(x))
        for stage, below in zip(reversed(stages), [*reversed(stages[:-1]), None], strict=True):
            weights -= (stage.t - (below.t if below else 0.0)) * log_ratio(energy, self.noise, x)
            if below is not None:
                x = self._move(energy, x, below, generator)
        return weights

    def _move(self, energy: Energy, x: Tensor, stage: _Temperature, generator: torch.Generator) -> Tensor:
        target = self._build_target(energy, stage.t)
        state = target.at(x)
        for _ in range(self.moves):
            state = self.transition.move(target, state, stage.step, stage.scale, generator).state
        return state.position

    def _build_target(self, energy: Energy, t: float) -> Target:
        if t == 1:
            return Target(energy)
        if t == 0:
            return Target(lambda x: -self.noise.log_prob(x) + 0 * x.flatten(1).sum(1))
        return Target(lambda x: t * energy(x) - (1 - t) * self.noise.log_prob(x))


def _estimate_scale(x: Tensor) -> Tensor:
    spread = RunningDeviation()
    spread.add(x)
    return spread.deviation(x[0])


def _find_next_temperature(ratio: Floats, weights: Floats, t: float, size: float) -> float:
    """Return the largest temperature at which the conditional effective sample size is at least `size`."""
    sound = np.isfinite(ratio) & np.isfinite(weights)
    if not sound.any():
        return 1.0
    ratio, share = ratio[sound], np.exp(weights[sound] - weights[sound].max())
    share = share / share.sum()

    def large_enough(to: float) -> bool:
        growth = np.exp((to - t) * (ratio - ratio.max()))
        return bool((share * growth).sum() ** 2 >= size * (share * growth**2).sum())

    if large_enough(1.0):
        return 1.0
    low, high = t, 1.0
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if large_enough(middle) else (low, middle)
    return max(low, math.nextafter(t, 1.0))
