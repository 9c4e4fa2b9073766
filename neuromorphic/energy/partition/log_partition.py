"""The log partition function of an energy, `log Z = log ∫ e^{−energy(x)} dx`: estimate, error and verdict."""
# Imported on first use, for their weight: scipy.

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relaxon.neuromorphic.energy.partition.importance_weights import WeightStatistics, weight_statistics
from relaxon.neuromorphic.energy.samplers.transitions import CHUNK, Energy, evaluate_energies
from relaxon.neuromorphic.parameters import check_methods

if TYPE_CHECKING:
    from relaxon.neuromorphic.energy.noise.distributions import Noise

LEVEL = 0.95
"""Confidence level of the interval."""
LARGEST_PARETO_K = 0.5
"""Pareto index above which the variance of the weights is infinite, so that no confidence interval is valid."""
FEWEST_EFFECTIVE = 100.0
"""Effective sample size below which neither the interval nor the Pareto index is meaningful."""


@dataclass(frozen=True, slots=True)
class LogPartition:
    """An estimate of log Z. If it is not `trusted`, its numbers must not be taken as a statement about log Z."""

    value: float
    interval: tuple[float, float]
    """95 % confidence interval."""
    standard_error: float
    effective_sample_size: float
    pareto_k: float
    """Tail index of the importance weights; NaN for a bridge, whose terms are bounded."""
    trusted: bool
    reason: str
    """Why the estimate is not trusted; empty if it is."""
    method: str
    draws: int
    """Number of points, paths or pairs behind the estimate."""
    opposite: float | None = None
    """The estimate in the opposite direction, from draws of the model, for methods that provide one."""


class Method(Protocol):
    """A method to estimate log Z: `ImportanceSampling`, `AIS` or `Bridge`."""

    def estimate(self, energy: Energy, generator: torch.Generator) -> LogPartition: ...


def log_partition(energy: Energy, method: Method, seed: int | torch.Generator = 0) -> LogPartition:
    """Estimate log Z of `energy`, `(n, …) → (n,)`, by `method`.

    A result is not trusted if the noise is far from the model, misses a part of it or has lighter tails, if there are
    too few effective draws, if chains did not mix, or if weights are not finite. `ImportanceSampling` also searches for
    modes far from the noise, but modes that its chains miss remain undetected.

    >>> import torch
    >>> from relaxon.neuromorphic.energy import GaussianNoise, ImportanceSampling, log_partition
    >>> noise = GaussianNoise(torch.zeros(2), torch.eye(2))
    >>> found = log_partition(lambda x: x.square().sum(1) / 1.6, ImportanceSampling(noise))
    >>> found.trusted, found.interval[0] < 1.6148 < found.interval[1]
    (True, True)
    """
    if not callable(energy):
        raise TypeError(f"energy must be callable, got {type(energy).__name__}")
    check_methods("method", method, ("estimate",))
    generator = seed
    if not isinstance(generator, torch.Generator):
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"seed must be an integer or a torch.Generator, got {type(seed).__name__}")
        generator = torch.Generator().manual_seed(seed)
    return method.estimate(energy, generator)


def log_ratio(energy: Energy, noise: Noise, x: Tensor) -> NDArray[np.float64]:
    """Return `log p⁰(x) − log q(x)`, `(n,)`, in double precision; +∞ where only the noise has no density."""
    with torch.no_grad():
        density = torch.cat([noise.log_prob(part) for part in torch.split(x, CHUNK)]).double()
        unnormalised = -evaluate_energies(energy, x).double()
    ratio = unnormalised - density
    # A point where neither has a density has weight 0.
    return torch.where(torch.isneginf(unnormalised), unnormalised, ratio).cpu().numpy()


def estimate_from_weights(
    log_weights: NDArray[np.float64], method: str, opposite: float | None = None, reason: str = ""
) -> LogPartition:
    """Estimate log Z as `log mean w` of independent weights, with an interval by the delta method.

    The bias of the logarithm of a mean, `−var / (2 mean²)`, is corrected. Student's quantile for the effective sample
    size replaces the normal one. `reason` is reported unless the weights themselves give one.
    """
    found = weight_statistics(log_weights)
    value = found.log_mean + 0.5 * found.relative_error**2 if found.finite else found.log_mean
    return LogPartition(
        value,
        confidence_interval(value, found.relative_error, found.effective_sample_size),
        found.relative_error,
        found.effective_sample_size,
        found.pareto_k,
        not (reason or explain_doubt(found)),
        explain_doubt(found) or reason,
        method,
        found.count,
        opposite,
    )


def confidence_interval(value: float, error: float, effective: float) -> tuple[float, float]:
    """Return the 95 % interval around a value from its error and effective sample size; infinite without an error."""
    from scipy.special import stdtrit

    if not math.isfinite(value) or not math.isfinite(error):
        return -math.inf, math.inf
    half = float(stdtrit(max(effective - 1, 1.0), 0.5 + LEVEL / 2)) * error
    return value - half, value + half


def explain_doubt(found: WeightStatistics) -> str:
    """Return why weights are unreliable, or an empty string if they are reliable."""
    if not found.finite:
        if found.log_mean == -math.inf:
            return "all weights are 0: the noise and the model do not overlap"
        return f"the weights are not finite: the logarithm of the largest is {found.largest}"
    if found.pareto_k > LARGEST_PARETO_K:
        return (
            f"the Pareto index of the weights is {found.pareto_k:.2f} (at most {LARGEST_PARETO_K:g} is accepted): "
            "the noise is far off, or its tails are lighter than the model's"
        )
    if found.effective_sample_size < FEWEST_EFFECTIVE:
        return (
            f"the effective sample size is {found.effective_sample_size:.1f} of {found.count} draws (at least "
            f"{FEWEST_EFFECTIVE:.0f} is needed)"
        )
    return ""
