"""Diagnostics of importance weights: effective sample size, standard error and the index of their Pareto tail."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core.masked import plain_array

Floats = NDArray[np.float64]
TAIL_SHARE, TAIL_FACTOR = 0.2, 3.0
"""Length of the fitted tail: the largest `min(0.2 S, 3 √S)` of S weights (Vehtari et al. 2024, §2.4)."""
FEWEST_IN_TAIL = 5
"""Minimum number of weights in the tail."""
PRIOR_QUANTILE_FACTOR, LEAST_GRID = 3.0, 30
"""Width of the prior, and size of the grid for its posterior mean, of Zhang and Stephens 2009, §4."""
PRIOR_WEIGHT, PRIOR_INDEX = 10.0, 0.5
"""A weak prior that pulls the index of a short tail towards ½ (Vehtari et al. 2024, app. C)."""
ROUNDING = 1e-10
"""Relative difference below which weights count as equal, so that there is no tail."""


@dataclass(frozen=True, slots=True)
class WeightStatistics:
    """Statistics of `count` importance weights `w`, given by their logarithms."""

    count: int
    log_mean: float
    """`log (Σ w / count)`; −∞ if all are 0, NaN if one is NaN."""
    relative_error: float
    """Standard error of the mean divided by the mean."""
    effective_sample_size: float
    """`(Σ w)² / Σ w²`."""
    pareto_k: float
    """Tail index: moments of order `1/k` and above are infinite. −∞ if all weights are equal."""
    largest: float
    """Logarithm of the largest weight."""

    @property
    def finite(self) -> bool:
        return math.isfinite(self.log_mean)


def weight_statistics(log_weights: ArrayLike) -> WeightStatistics:
    """Return the statistics of log weights `(count,)`; −∞ stands for a weight of 0, and other non-finite ones show.

    >>> import numpy as np
    >>> found = weight_statistics(np.zeros(100))
    >>> found.log_mean, found.effective_sample_size, found.pareto_k
    (0.0, 100.0, -inf)
    """
    logs = validate_log_weights(log_weights)
    count = len(logs)
    top = float(logs.max())
    if not math.isfinite(top):
        # All 0 (a mean of 0), or one infinite or NaN.
        return WeightStatistics(count, top, math.nan, 0.0, math.nan, top)
    relative = np.exp(logs - top)
    mean = float(relative.mean())
    deviation = float(relative.std(ddof=1)) if count > 1 else math.inf
    return WeightStatistics(
        count,
        top + math.log(mean),
        deviation / math.sqrt(count) / mean,
        float(relative.sum() ** 2 / np.square(relative).sum()),
        pareto_k(logs),
        top,
    )


def resample_systematically(log_weights: Floats, count: int, shift: float) -> NDArray[np.int64]:
    """Return the indices of `count` draws by systematic resampling with the given weights and `shift` from 0 to 1."""
    ends = np.cumsum(np.exp(log_weights - log_weights.max()))
    places = (np.arange(count) + shift) / count * ends[-1]
    return np.asarray(np.minimum(np.searchsorted(ends, places, side="right"), len(ends) - 1))


def validate_log_weights(log_weights: ArrayLike) -> Floats:
    """Return the log weights as float64; raise `ValueError` unless they have one axis and an entry."""
    logs = np.asarray(plain_array("log_weights", log_weights), np.float64)
    if logs.ndim != 1 or not logs.size:
        raise ValueError(f"log_weights must have one axis and at least one entry, got shape {logs.shape}")
    return logs


def pareto_k(log_weights: ArrayLike) -> float:
    """Return the index of a generalised Pareto distribution fitted to the upper tail of the weights.

    Above ½ the variance of the weights is infinite, and above 1 their mean. The result is NaN if a weight is NaN or
    infinite, +∞ if the tail has fewer than five weights or is mostly 0, and −∞ if all weights are equal. Source:
    Vehtari, Simpson, Gelman, Yao, Gabry 2024, "Pareto smoothed importance sampling", with the fit of Zhang and Stephens
    2009.

    >>> import numpy as np
    >>> u = np.random.default_rng(0).random(100_000)
    >>> abs(pareto_k(-0.7 * np.log(u)) - 0.7) < 0.1
    True
    """
    logs = validate_log_weights(log_weights)
    top = float(logs.max())
    if not math.isfinite(top):
        return math.nan
    tail, cutoff = _split_tail(logs, top)
    if len(tail) < FEWEST_IN_TAIL:
        return math.inf
    excess = tail - cutoff
    if excess[-1] <= ROUNDING * max(cutoff, np.finfo(float).tiny):
        return -math.inf
    return _fit_pareto_index(excess)


def _split_tail(logs: Floats, top: float) -> tuple[Floats, float]:
    """Return the tail in ascending order, relative to the largest weight, and the largest of the remaining weights."""
    count = len(logs)
    length = math.ceil(min(TAIL_SHARE * count, TAIL_FACTOR * math.sqrt(count)))
    if length >= count:
        return np.empty(0), 0.0
    ordered = np.sort(np.exp(np.partition(logs, count - length - 1)[count - length - 1 :] - top))
    return ordered[1:], float(ordered[0])


def _fit_pareto_index(excess: Floats) -> float:
    """Return the quasi-Bayesian estimate of Zhang and Stephens from ascending excesses, with the weak prior."""
    count = len(excess)
    quartile = excess[int(count / 4 + 0.5) - 1]
    if quartile <= 0:
        return math.inf
    grid = LEAST_GRID + int(math.sqrt(count))
    places = np.arange(1, grid + 1) - 0.5
    slopes = 1 / excess[-1] + (1 - np.sqrt(grid / places)) / (PRIOR_QUANTILE_FACTOR * quartile)
    indices = np.log1p(-slopes[:, None] * excess).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        likelihood = count * (np.log(-slopes / indices) - indices - 1)
    likelihood = np.where(np.isfinite(likelihood), likelihood, -np.inf)
    weights = np.exp(likelihood - likelihood.max())
    slope = float((weights * slopes).sum() / weights.sum())
    index = float(np.log1p(-slope * excess).mean())
    return (count * index + PRIOR_WEIGHT * PRIOR_INDEX) / (count + PRIOR_WEIGHT)
