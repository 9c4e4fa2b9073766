"""Convergence of Markov chains: rank-normalised split R-hat and effective sample sizes, after Vehtari et al. 2021."""
# Imported on first use, for their weight: scipy.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core.masked import plain_array

Floats = NDArray[np.float64]
FEWEST_DRAWS = 8
"""Minimum number of draws of a chain: its halves need four each for a meaningful variance and autocorrelation."""
BLOM_SHIFT, BLOM_TOTAL = 3 / 8, 1 / 4
"""Blom's plotting positions `(r − 3/8) / (S + 1/4)`, which map ranks to normal quantiles."""


def r_hat(draws: ArrayLike) -> Floats:
    """Return the rank-normalised split R-hat, the larger of those of the draws and of their distances from the median.

    `draws` is `(draws, chains, …)`; the result has the axes after the first two. A value of 1 means that the half
    chains are indistinguishable; above 1.01 the chains have not mixed (Vehtari, Gelman, Simpson, Carpenter, Bürkner
    2021, eq. 14). The result is NaN for fewer than eight draws, for a non-finite draw, and for a constant coordinate.

    >>> import numpy as np
    >>> draws = np.random.default_rng(0).normal(size=(500, 4, 1))
    >>> bool(r_hat(draws)[0] < 1.01), bool(r_hat(draws + 3 * np.eye(4)[:, :1])[0] > 1.2)
    (True, True)
    """
    chains, shape = _flatten(draws)
    if len(chains) < FEWEST_DRAWS:
        return np.full(shape, np.nan)
    halves = _split_halves(chains)
    folded = np.abs(halves - np.median(halves, axis=(0, 1)))
    worse = np.maximum(_spread_ratio(_rank_normalise(halves)), _spread_ratio(_rank_normalise(folded)))
    return np.where(_find_sound(chains), worse, np.nan).reshape(shape)


def bulk_effective_sample_size(draws: ArrayLike) -> Floats:
    """Return the bulk effective sample size of each coordinate, from the rank-normalised split chains.

    Shapes and NaN are as for `r_hat`. The sum of the autocorrelations is truncated by Geyer's initial monotone
    sequence.

    >>> import numpy as np
    >>> float(bulk_effective_sample_size(np.random.default_rng(0).normal(size=(500, 4)))) > 1500
    True
    """
    chains, shape = _flatten(draws)
    if len(chains) < FEWEST_DRAWS:
        return np.full(shape, np.nan)
    size = _effective_sample_size(_rank_normalise(_split_halves(chains)))
    return np.where(_find_sound(chains), size, np.nan).reshape(shape)


def mean_effective_sample_size(draws: ArrayLike) -> Floats:
    """Return the effective sample size for the mean of the draws, without rank normalisation."""
    chains, shape = _flatten(draws)
    if len(chains) < FEWEST_DRAWS:
        return np.full(shape, np.nan)
    size = _effective_sample_size(_split_halves(chains))
    return np.where(_find_sound(chains), size, np.nan).reshape(shape)


def _flatten(draws: ArrayLike) -> tuple[Floats, tuple[int, ...]]:
    """Return the draws as `(draws, chains, coordinates)`, and the shape of the coordinates."""
    array = np.asarray(plain_array("draws", draws), np.float64)
    if array.ndim < 2 or 0 in array.shape:
        raise ValueError(f"draws must have axes for draws and chains, none of them empty, got shape {array.shape}")
    return array.reshape(*array.shape[:2], -1), array.shape[2:]


def _find_sound(chains: Floats) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        moving = np.ptp(chains, axis=(0, 1)) > 0
    found: NDArray[np.bool_] = np.isfinite(chains).all(axis=(0, 1)) & moving
    return found


def _split_halves(chains: Floats) -> Floats:
    """Split each chain in two, dropping the middle draw of an odd number."""
    half = len(chains) // 2
    return np.concatenate([chains[:half], chains[len(chains) - half :]], axis=1)


def _rank_normalise(chains: Floats) -> Floats:
    """Replace the draws of each coordinate by normal quantiles of their ranks over all chains; ties share a rank."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    pooled = chains.reshape(-1, chains.shape[-1])
    ranks: Floats = rankdata(pooled, axis=0)
    quantiles: Floats = ndtri((ranks - BLOM_SHIFT) / (len(pooled) + BLOM_TOTAL))
    return quantiles.reshape(chains.shape)


def _variances(chains: Floats) -> tuple[Floats, Floats]:
    """Return the mean variance within chains and the estimate of the total variance (Vehtari et al. 2021, eq. 3)."""
    draws = len(chains)
    within = chains.var(axis=0, ddof=1).mean(axis=0)
    return within, (draws - 1) / draws * within + chains.mean(axis=0).var(axis=0, ddof=1)


def _spread_ratio(chains: Floats) -> Floats:
    within, whole = _variances(chains)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.sqrt(whole / within)
    return ratio


def _effective_sample_size(chains: Floats) -> Floats:
    draws, count = chains.shape[:2]
    within, whole = _variances(chains)
    covariance = _autocovariance(chains).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = 1 - (within - covariance) / whole
    correlation[0] = 1.0
    pairs = correlation[: draws // 2 * 2].reshape(draws // 2, 2, -1).sum(axis=1)
    # Geyer 1992: sums of neighbouring autocorrelations are positive and decreasing; deviations from that are noise.
    kept = np.minimum.accumulate(np.where(np.isnan(pairs), -1.0, pairs) > 0, axis=0)
    falling = np.minimum.accumulate(np.where(kept, pairs, 0.0), axis=0)
    first_left_out = np.minimum(2 * kept.sum(axis=0), draws - 1)
    tail = np.maximum(np.take_along_axis(correlation, first_left_out[None], axis=0)[0], 0.0)
    length = -1 + 2 * falling.sum(axis=0) + np.where(kept.all(axis=0), 0.0, tail)
    total = draws * count
    # Antithetic chains can be better than independent ones, but an estimate of the gain is unreliable.
    sizes: Floats = total / np.maximum(length, 1 / np.log10(total))
    return sizes


def _autocovariance(chains: Floats) -> Floats:
    """Return the autocovariance of each chain at all lags, by the FFT of the chain padded to twice its length."""
    draws = len(chains)
    centred = chains - chains.mean(axis=0)
    spectrum: NDArray[Any] = np.fft.rfft(centred, 2 * draws, axis=0)
    covariance: Floats = np.fft.irfft(np.abs(spectrum) ** 2, 2 * draws, axis=0)[:draws] / draws
    return covariance
