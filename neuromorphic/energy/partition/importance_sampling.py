"""log Z by importance sampling from a noise distribution, with probes for regions that the noise misses."""

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
from relaxon.neuromorphic.energy.partition.far_modes import FarMode, find_far_modes
from relaxon.neuromorphic.energy.partition.importance_weights import resample_systematically
from relaxon.neuromorphic.energy.partition.log_partition import LogPartition, estimate_from_weights, log_ratio
from relaxon.neuromorphic.energy.samplers.euclidean import HMC, MALA
from relaxon.neuromorphic.energy.samplers.transitions import Energy
from relaxon.neuromorphic.parameters import check_methods

if TYPE_CHECKING:
    from relaxon.neuromorphic.energy.noise.distributions import Noise

PROBES = 256
"""Number of probing chains."""
PROBE_WARM_UP, PROBE_STEPS = 30, 30
"""Moves of the probing chains: enough to leave their starting points, though not to mix."""
UNSEEN_SHARE = 0.02
"""Accepted share of the model's own points that weigh more than every draw of the noise; log Z is too small by about
this share."""
FAR_SHARE = 0.05
"""Accepted share of the mass in modes that no draw has met; about what the probing chains accept, including chance."""
MOST_NATS = 500.0
"""Bound on a mode's log mass relative to log Z, far above the value at which its share is 1."""
CHANCE = 3.0
"""Standard errors by which a share must exceed the accepted one to be significant."""


@dataclass(frozen=True, slots=True)
class ImportanceSampling:
    """`Z = E_q[e^{−energy} / q]` from `count` draws of the noise.

    `probe` is the sampler of 256 probing chains, or None. They start from resampled draws and move under the energy. If
    too many of them reach points that weigh more than every draw of the noise, the noise misses a part of the model,
    and the result is not trusted. The same check applies to the points of `reference`, which are draws of the model or
    its training data. With `far_modes`, tempered chains from the reference (or from resampled draws) and from outside
    search for modes that no draw has met. If those hold more than 5 % of the mass, the result is not trusted either.
    """

    noise: Noise
    count: int = 10_000
    reference: Tensor | None = None
    probe: HMC | MALA | None = field(default_factory=lambda: HMC(leapfrog_steps=8))
    far_modes: bool = True

    def __post_init__(self) -> None:
        check_methods("noise", self.noise, ("sample", "log_prob"))
        validation.positive_int("count", self.count)
        if self.reference is not None:
            validate_events("reference", self.reference, tuple(self.noise.event_shape))
        if self.probe is not None and not isinstance(self.probe, HMC | MALA):
            raise TypeError(f"probe must be HMC, MALA or None, got {type(self.probe).__name__}")

    def estimate(self, energy: Energy, generator: torch.Generator) -> LogPartition:
        """Return the estimate with its verdict."""
        draws = self.noise.sample(self.count, generator)
        weights = log_ratio(energy, self.noise, draws)
        found = estimate_from_weights(weights, "importance sampling")
        if not found.trusted:
            return found
        reason, largest = "", float(weights.max())
        if self.reference is not None:
            reason = explain_unseen(
                log_ratio(energy, self.noise, self.reference.to(draws)), largest, "the reference's points"
            )
        if not reason and self.probe is not None:
            starts = resample(draws, weights, PROBES, generator)
            moved = self.probe.run(energy, starts, PROBE_STEPS, generator, warm_up=PROBE_WARM_UP, thin=PROBE_STEPS)
            reason = explain_unseen(log_ratio(energy, self.noise, moved.samples[-1]), largest, "the probing chains")
        if not reason and self.far_modes:
            near = (
                self.reference.to(draws) if self.reference is not None else resample(draws, weights, PROBES, generator)
            )
            modes = find_far_modes(energy, self.noise, draws, largest, near, generator)
            reason = explain_unmet_modes(modes, found.value)
        return estimate_from_weights(weights, "importance sampling", reason=reason) if reason else found


def explain_unseen(log_weights: NDArray[np.float64], largest: float, whose: str) -> str:
    """Return why the weights of the model's own points show that the noise misses a part of it, or an empty string."""
    beyond, count = int((log_weights > largest).sum()), len(log_weights)
    chance = CHANCE * math.sqrt(UNSEEN_SHARE * (1 - UNSEEN_SHARE) / count)
    if beyond / count <= UNSEEN_SHARE + chance:
        return ""
    return (
        f"{beyond} of {count} of {whose} weigh more than every draw of the noise (a share of "
        f"{UNSEEN_SHARE:g} is accepted): the noise misses a part of the model"
    )


def explain_unmet_modes(modes: list[FarMode], log_z: float) -> str:
    """Return why modes that no draw of the noise has met invalidate log Z, or an empty string if they hold little."""
    masses = [math.exp(min(mode.log_mass - log_z, MOST_NATS)) for mode in modes]
    share = sum(masses) / (1 + sum(masses))
    if share <= FAR_SHARE:
        return ""
    distance = max(zip(masses, modes, strict=True), key=lambda pair: pair[0])[1].distance
    return (
        f"a mode {distance:.3g} deviations away from the noise, which no draw of the noise has met, holds about "
        f"{share:.2g} of the mass (a share of {FAR_SHARE:g} is accepted)"
    )


def resample(x: Tensor, log_weights: NDArray[np.float64], count: int, generator: torch.Generator) -> Tensor:
    """Resample `count` rows in proportion to their weights."""
    shift = float(torch.rand((), generator=generator, dtype=torch.float64, device=generator.device))
    return x[torch.from_numpy(resample_systematically(log_weights, count, shift)).to(x.device)]
