"""What importance weights are worth: effective sample size, standard error, and the index of their Pareto tail."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core.masked import plain_array

Floats = NDArray[np.float64]
TAIL_SHARE, TAIL_FACTOR = 0.2, 3.0
"""The tail that is fitted: the largest `min(0.2 S, 3 √S)` of S weights (Vehtari et al. 2024, §2.4)."""
FEWEST_IN_TAIL = 5
PRIOR_QUANTILE_FACTOR, LEAST_GRID = 3.0, 30
"""Of Zhang and Stephens 2009, §4: the width of their prior, and the grid on which its posterior is averaged."""
PRIOR_WEIGHT, PRIOR_INDEX = 10.0, 0.5
"""A weak prior that draws the index of a short tail towards ½ (Vehtari et al. 2024, app. C)."""
ROUNDING = 1e-10
"""Weights that differ by less than this, relatively, are equal: there is no tail."""


@dataclass(frozen=True, slots=True)
class WeightStatistics:
    """Of `count` importance weights `w`, given by their logarithms."""

    count: int
    log_mean: float
    """`log (Σ w / count)`: −∞ where all are 0, NaN where one is NaN."""
    relative_error: float
    """Standard error of the mean, over the mean."""
    effective_sample_size: float
    """`(Σ w)² / Σ w²`."""
    pareto_k: float
    """Index of the tail: moments of order `1/k` and above are infinite. −∞ where all weights are equal."""
    largest: float
    """Logarithm of the largest weight."""

    @property
    def finite(self) -> bool:
        return math.isfinite(self.log_mean)


def weight_statistics(log_weights: ArrayLike) -> WeightStatistics:
    """Of weights `(count,)`, of which −∞ stands for 0; what is not finite otherwise is told by the result.

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
    """Places of `count` draws, each as often as its weight says: systematic resampling, `shift` from 0 to 1."""
    ends = np.cumsum(np.exp(log_weights - log_weights.max()))
    places = (np.arange(count) + shift) / count * ends[-1]
    found: NDArray[np.int64] = np.minimum(np.searchsorted(ends, places, side="right"), len(ends) - 1)
    return found


def validate_log_weights(log_weights: ArrayLike) -> Floats:
    """As float64; ValueError where there are none or more than one axis."""
    logs = np.asarray(plain_array("log_weights", log_weights), np.float64)
    if logs.ndim != 1 or not logs.size:
        raise ValueError(f"log_weights must have one axis and at least one entry, got shape {logs.shape}")
    return logs


def pareto_k(log_weights: ArrayLike) -> float:
    """Index of a generalised Pareto distribution fitted to the weights' upper tail.

    Above ½ the variance of the weights is infinite, above 1 their mean. NaN where a weight is NaN or infinite; +∞ where
    fewer than five weights make the tail or most of it is 0; −∞ where all weights are equal. Source: Vehtari, Simpson,
    Gelman, Yao, Gabry 2024, "Pareto smoothed importance sampling"; the fit of Zhang and Stephens 2009.

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
    """The largest weights in ascending order, relative to the largest, and the largest of the rest."""
    count = len(logs)
    length = math.ceil(min(TAIL_SHARE * count, TAIL_FACTOR * math.sqrt(count)))
    if length >= count:
        return np.empty(0), 0.0
    ordered = np.sort(np.exp(np.partition(logs, count - length - 1)[count - length - 1 :] - top))
    return ordered[1:], float(ordered[0])


def _fit_pareto_index(excess: Floats) -> float:
    """Zhang and Stephens' quasi-Bayesian estimate from excesses in ascending order, with the weak prior."""
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
