"""The logarithm of an energy's normaliser, `log Z = log ∫ e^{−energy(x)} dx`, its error, and whether to trust it."""

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

if TYPE_CHECKING:
    from relaxon.neuromorphic.energy.noise.distributions import Noise

LEVEL = 0.95
LARGEST_PARETO_K = 0.5
"""Above it the weights' variance is infinite: no interval holds, however small the spread of the sample looks."""
FEWEST_EFFECTIVE = 100.0
"""With fewer effective draws neither the interval nor the tail's index means much."""


@dataclass(frozen=True, slots=True)
class LogPartition:
    """An estimate of log Z. Where not `trusted`, the numbers are what was found, and no statement on log Z."""

    value: float
    interval: tuple[float, float]
    """95 % confidence."""
    standard_error: float
    effective_sample_size: float
    pareto_k: float
    """Index of the importance weights' tail; NaN for a bridge, whose terms are bounded."""
    trusted: bool
    reason: str
    """Why it is not trusted; empty where it is."""
    method: str
    draws: int
    """Points, paths or pairs that the estimate is made of."""
    opposite: float | None = None
    """The estimate from the other side, from draws of the model, where the method makes one."""


class Method(Protocol):
    """A way to estimate log Z: `ImportanceSampling`, `AIS`, `Bridge`."""

    def estimate(self, energy: Energy, generator: torch.Generator) -> LogPartition: ...


def log_partition(energy: Energy, method: Method, seed: int | torch.Generator = 0) -> LogPartition:
    """Estimate log Z of `energy`, `(n, …) → (n,)`, by `method`.

    Not trusted are results from noise that is far off, misses a part of the model or has lighter tails, from too few
    effective draws, from chains that did not mix, and from weights that are not finite. `ImportanceSampling` looks for
    modes far from the noise too; what its chains do not find cannot be seen.

    >>> import torch
    >>> from relaxon.neuromorphic.energy import GaussianNoise, ImportanceSampling, log_partition
    >>> noise = GaussianNoise(torch.zeros(2), torch.eye(2))
    >>> found = log_partition(lambda x: x.square().sum(1) / 1.6, ImportanceSampling(noise))
    >>> found.trusted, found.interval[0] < 1.6148 < found.interval[1]
    (True, True)
    """
    generator = seed
    if not isinstance(generator, torch.Generator):
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"seed must be an integer or a torch.Generator, got {type(seed).__name__}")
        generator = torch.Generator().manual_seed(seed)
    return method.estimate(energy, generator)


def log_ratio(energy: Energy, noise: Noise, x: Tensor) -> NDArray[np.float64]:
    """`log p⁰(x) − log q(x)`, `(n,)`, the differences in double precision; +∞ where only the noise has no density."""
    with torch.no_grad():
        density = torch.cat([noise.log_prob(part) for part in torch.split(x, CHUNK)]).double()
        unnormalised = -evaluate_energies(energy, x).double()
    ratio = unnormalised - density
    # Where neither has a density the point has no weight.
    return torch.where(torch.isneginf(unnormalised), unnormalised, ratio).cpu().numpy()


def estimate_from_weights(
    log_weights: NDArray[np.float64], method: str, opposite: float | None = None, reason: str = ""
) -> LogPartition:
    """`log mean w` with the delta method's interval, of independent weights.

    The logarithm of a mean is too small by `var / (2 mean²)`, which is added. Student's quantile for the effective
    draws stands for the normal one. `reason` goes before the reasons that the weights themselves give.
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
    """95 % about a value with a standard error from so many effective draws; endless where there is no error."""
    from scipy.special import stdtrit

    if not math.isfinite(value) or not math.isfinite(error):
        return -math.inf, math.inf
    half = float(stdtrit(max(effective - 1, 1.0), 0.5 + LEVEL / 2)) * error
    return value - half, value + half


def explain_doubt(found: WeightStatistics) -> str:
    """Why weights are not to be trusted; empty where they are."""
    if not found.finite:
        if found.log_mean == -math.inf:
            return "all weights are 0: the noise and the model do not overlap"
        return f"the weights are not finite: the logarithm of the largest is {found.largest}"
    if found.pareto_k > LARGEST_PARETO_K:
        return (
            f"the weights' Pareto index is {found.pareto_k:.2f} (at most {LARGEST_PARETO_K:g} is taken): "
            "the noise is far off, or its tails are lighter than the model's"
        )
    if found.effective_sample_size < FEWEST_EFFECTIVE:
        return (
            f"the effective sample size is {found.effective_sample_size:.1f} of {found.count} draws (at least "
            f"{FEWEST_EFFECTIVE:.0f} is taken)"
        )
    return ""
