"""log Z by importance sampling from a noise distribution, with probes for what the noise misses."""

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

if TYPE_CHECKING:
    from relaxon.neuromorphic.energy.noise.distributions import Noise

PROBES = 256
PROBE_WARM_UP, PROBE_STEPS = 30, 30
"""Of the chains that look for places which the noise misses: enough to leave where they began, not to mix."""
UNSEEN_SHARE = 0.02
"""Of the model's own points may weigh more than every draw of the noise: log Z is too small by about this share."""
FAR_SHARE = 0.05
"""Of the mass may lie in modes that no draw has met: about what the probing chains take, chance included."""
MOST_NATS = 500.0
"""By which a mode's log mass may be above log Z before it is cut: its share is 1 long before."""
CHANCE = 3.0
"""Standard errors above it, before it is more than chance."""


@dataclass(frozen=True, slots=True)
class ImportanceSampling:
    """`Z = E_q[e^{−energy} / q]` from `count` draws of the noise.

    `probe` (None for none) is the sampler of 256 chains that start from draws weighted to the model's density and move
    on under the energy: where they come to points that weigh more than every draw of the noise, the noise misses a part
    of the model, and the result is not trusted. So it is with the points of `reference`, draws of the model or data
    that it was trained on. `far_modes` has tempered chains, from the reference or from weighted draws and from outside,
    look for modes that no draw has met; where those hold more than 5 % of the mass, the result is not trusted either.
    """

    noise: Noise
    count: int = 10_000
    reference: Tensor | None = None
    probe: HMC | MALA | None = field(default_factory=lambda: HMC(leapfrog_steps=8))
    far_modes: bool = True

    def __post_init__(self) -> None:
        validation.positive_int("count", self.count)
        if self.reference is not None:
            validate_events("reference", self.reference, tuple(self.noise.event_shape))
        if self.probe is not None and not isinstance(self.probe, HMC | MALA):
            raise TypeError(f"probe must be HMC, MALA or None, got {type(self.probe).__name__}")

    def estimate(self, energy: Energy, generator: torch.Generator) -> LogPartition:
        """The estimate, with its verdict."""
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
    """Why weights of the model's own points say that the noise misses a part of it; empty where they do not."""
    beyond, count = int((log_weights > largest).sum()), len(log_weights)
    chance = CHANCE * math.sqrt(UNSEEN_SHARE * (1 - UNSEEN_SHARE) / count)
    if beyond / count <= UNSEEN_SHARE + chance:
        return ""
    return (
        f"{beyond} of {count} of {whose} weigh more than every draw of the noise (a share of "
        f"{UNSEEN_SHARE:g} is taken): the noise misses a part of the model"
    )


def explain_unmet_modes(modes: list[FarMode], log_z: float) -> str:
    """Why modes that no draw of the noise has met speak against a log Z without them; empty where they hold little."""
    masses = [math.exp(min(mode.log_mass - log_z, MOST_NATS)) for mode in modes]
    share = sum(masses) / (1 + sum(masses))
    if share <= FAR_SHARE:
        return ""
    distance = max(zip(masses, modes, strict=True), key=lambda pair: pair[0])[1].distance
    return (
        f"a mode {distance:.3g} deviations away from the noise, which no draw of the noise has met, holds about "
        f"{share:.2g} of the mass (a share of {FAR_SHARE:g} is taken)"
    )


def resample(x: Tensor, log_weights: NDArray[np.float64], count: int, generator: torch.Generator) -> Tensor:
    """`count` of the rows, each as often as its weight says."""
    shift = float(torch.rand((), generator=generator, dtype=torch.float64, device=generator.device))
    return x[torch.from_numpy(resample_systematically(log_weights, count, shift)).to(x.device)]
