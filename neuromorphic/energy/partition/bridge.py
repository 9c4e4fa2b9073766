"""log Z by bridge sampling between draws of the noise and of the model."""

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
from relaxon.neuromorphic.energy.partition.importance_weights import WeightStatistics, weight_statistics
from relaxon.neuromorphic.energy.partition.log_partition import (
    FEWEST_EFFECTIVE,
    LogPartition,
    confidence_interval,
    explain_doubt,
    log_ratio,
)
from relaxon.neuromorphic.energy.samplers.chains import Chains, Mixing
from relaxon.neuromorphic.energy.samplers.convergence import FEWEST_DRAWS, mean_effective_sample_size
from relaxon.neuromorphic.energy.samplers.euclidean import HMC, MALA
from relaxon.neuromorphic.energy.samplers.transitions import Energy
from relaxon.neuromorphic.parameters import check_methods

if TYPE_CHECKING:
    from relaxon.neuromorphic.energy.noise.distributions import Noise

ITERATIONS = 1000
"""Maximum number of iterations of the fixed point."""
TOLERANCE = 1e-10
"""Change of log Z between two iterations, in nats, at which the iteration has converged."""
LARGEST_R_HAT = 1.05
"""Larger than for draws in general, as the error estimate includes the differences between chains that overlap."""
APART = 4.0
"""Standard errors by which importance sampling from the noise alone may differ, if its own weights are reliable."""

Floats = NDArray[np.float64]
NAME = "bridge sampling"


@dataclass(frozen=True, slots=True)
class Bridge:
    """Bridge sampling with the optimal bridge of Meng and Wong 1996; the error follows Frühwirth-Schnatter 2004.

    `samples` are draws of the model, `(n, …)`, which are treated as independent, or `Chains`. If None, `chains` chains
    of `sampler` make `draws` draws each, from `start` (such as rows of the data) or from draws of the noise. If the
    chains have not mixed, the result is not trusted.
    """

    noise: Noise
    count: int = 10_000
    """Number of draws of the noise."""
    samples: Chains | Tensor | None = None
    sampler: HMC | MALA = field(default_factory=HMC)
    chains: int = 16
    draws: int = 1000
    warm_up: int = 500
    start: Tensor | None = None

    def __post_init__(self) -> None:
        check_methods("noise", self.noise, ("sample", "log_prob"))
        for name in ("count", "chains", "draws", "warm_up"):
            validation.positive_int(name, getattr(self, name))
        if not isinstance(self.sampler, HMC | MALA):
            raise TypeError(f"sampler must be HMC or MALA, got {type(self.sampler).__name__}")
        samples = self.samples.flat if isinstance(self.samples, Chains) else self.samples
        for name, points in (("start", self.start), ("samples", samples)):
            if points is not None:
                validate_events(name, points, tuple(self.noise.event_shape))
        if self.draws < FEWEST_DRAWS:
            raise ValueError(f"draws must be at least {FEWEST_DRAWS}, got {self.draws}")

    def estimate(self, energy: Energy, generator: torch.Generator) -> LogPartition:
        """Return the estimate with its verdict."""
        noise = self.noise.sample(self.count, generator)
        below = log_ratio(energy, self.noise, noise)
        samples = self.samples if self.samples is not None else self._draw_samples(energy, noise, generator)
        flat = samples.flat if isinstance(samples, Chains) else samples
        above = log_ratio(energy, self.noise, flat.to(noise))
        shape = (len(samples.samples), samples.samples.shape[1]) if isinstance(samples, Chains) else None
        return _estimate_bridge(below, above, shape, _explain_mixing(samples) if isinstance(samples, Chains) else "")

    def _draw_samples(self, energy: Energy, noise: Tensor, generator: torch.Generator) -> Chains:
        points = noise if self.start is None else self.start.to(noise)
        chosen = torch.randint(len(points), (self.chains,), generator=generator, device=generator.device)
        start = points[chosen.to(points.device)]
        return self.sampler.run(energy, start, self.draws, generator, warm_up=self.warm_up)


def _explain_mixing(chains: Chains) -> str:
    """Return why the chains do not represent the model, or an empty string if they do."""
    if chains.outcome in (Mixing.NON_FINITE, Mixing.STOPPED, Mixing.DIVERGENT):
        return f"the model's chains: {chains.message}"
    worst = float(chains.r_hat.max())
    if worst <= LARGEST_R_HAT:  # NaN is none
        return ""
    return f"the model's chains have R-hat {worst:.3f} (at most {LARGEST_R_HAT:g} is accepted): they have not mixed"


def _estimate_bridge(below: Floats, above: Floats, shape: tuple[int, int] | None, reason: str) -> LogPartition:
    """Estimate from `log p⁰/q` at draws of the noise and of the model, with `shape` (draws, chains) or independent."""
    draws = len(below) + len(above)
    alone = weight_statistics(below)
    # A draw of the model outside the support of the noise has the ratio +∞ and contributes a term of 0.
    if np.isnan(below).any() or np.isposinf(below).any() or np.isnan(above).any() or alone.log_mean == -math.inf:
        return _build_failure(
            reason or explain_doubt(alone) or "the weights of the model's draws are not finite", draws
        )
    independent = _count_independent(
        np.where(np.isposinf(above), above[np.isfinite(above)].max(initial=0.0), above), shape
    )
    shares = np.log([len(below) / (len(below) + independent), independent / (len(below) + independent)])
    value, settled = _iterate(below, above, shares)
    if not math.isfinite(value):
        return _build_failure(reason or "the draws of the noise and of the model do not overlap", draws)
    noise_side = weight_statistics(below - np.logaddexp(shares[1] + below, shares[0] + value))
    terms = -np.logaddexp(shares[1] + above, shares[0] + value)
    model_side = weight_statistics(terms)
    share = _count_independent(np.exp(terms - terms.max()), shape) / len(above)
    effective = min(noise_side.effective_sample_size, model_side.effective_sample_size * share)
    error = math.hypot(noise_side.relative_error, model_side.relative_error / math.sqrt(share))
    reason = reason or _explain_doubt(effective, settled) or _compare_with_importance_sampling(alone, value, error)
    return LogPartition(
        value, confidence_interval(value, error, effective), error, effective, math.nan, not reason, reason, NAME, draws
    )


def _iterate(below: Floats, above: Floats, shares: Floats) -> tuple[float, bool]:
    """Iterate Meng and Wong's fixed point for log Z; return it and whether the iteration converged."""
    value = 0.5 * (_take_finite_median(below) + _take_finite_median(above))
    for _ in range(ITERATIONS):
        upper = _average_logs(below - np.logaddexp(shares[1] + below, shares[0] + value))
        lower = _average_logs(-np.logaddexp(shares[1] + above, shares[0] + value))
        following = upper - lower
        if not math.isfinite(following) or abs(following - value) <= TOLERANCE:
            return following, math.isfinite(following)
        value = following
    return value, False


def _take_finite_median(logs: Floats) -> float:
    finite = logs[np.isfinite(logs)]
    return float(np.median(finite)) if len(finite) else 0.0


def _average_logs(logs: Floats) -> float:
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean())) if math.isfinite(top) else top


def _count_independent(values: Floats, shape: tuple[int, int] | None) -> float:
    """Return the effective number of independent draws for the mean of `values`."""
    if shape is None:
        return float(len(values))
    found = float(mean_effective_sample_size(values.reshape(shape)))
    # A constant has no error, regardless of the correlation of its draws.
    return found if math.isfinite(found) else float(len(values))


def _explain_doubt(effective: float, settled: bool) -> str:
    if not settled:
        return f"the iteration of the bridge did not converge within {ITERATIONS} steps"
    if effective < FEWEST_EFFECTIVE:
        return (
            f"the effective sample size is {effective:.1f} (at least {FEWEST_EFFECTIVE:.0f} is needed): "
            "the noise and the model hardly overlap, or the chains are too short"
        )
    return ""


def _compare_with_importance_sampling(alone: WeightStatistics, value: float, error: float) -> str:
    """Return why reliable importance sampling from the noise alone contradicts the bridge, or an empty string.

    A contradiction means that the chains miss a region that the noise covers.
    """
    if explain_doubt(alone) or abs(alone.log_mean - value) <= APART * math.hypot(error, alone.relative_error):
        return ""
    return (
        f"importance sampling from the noise gives {alone.log_mean:.3f} where the bridge gives {value:.3f}: "
        "the model's draws miss a part of it"
    )


def _build_failure(reason: str, draws: int) -> LogPartition:
    return LogPartition(math.nan, (-math.inf, math.inf), math.nan, 0.0, math.nan, False, reason, NAME, draws)
