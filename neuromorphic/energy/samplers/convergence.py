"""Convergence of Markov chains: rank-normalised split R-hat and effective sample sizes, after Vehtari et al. 2021."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core.masked import plain_array

Floats = NDArray[np.float64]
FEWEST_DRAWS = 8
"""Of a chain: its halves need four draws each for a variance and an autocorrelation that mean anything."""
BLOM_SHIFT, BLOM_TOTAL = 3 / 8, 1 / 4
"""Blom's plotting positions `(r − 3/8) / (S + 1/4)`, by which ranks become normal quantiles."""


def r_hat(draws: ArrayLike) -> Floats:
    """Rank-normalised split R-hat, the larger of that of the draws and of their distances from the median.

    `draws` is `(draws, chains, …)`; the result has the axes after the first two. 1 says that halves of chains cannot be
    told apart; above 1.01 they have not mixed (Vehtari, Gelman, Simpson, Carpenter, Bürkner 2021, eq. 14). NaN where
    there are fewer than eight draws, where a draw is not finite, and where all of a coordinate's draws are the same.

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
    """How many independent draws say as much of the bulk of each coordinate, from the rank-normalised split chains.

    Shapes, and where it is NaN, as for `r_hat`. Geyer's initial monotone sequence ends the autocorrelations' sum.

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
    """The same for the mean of the draws as they are, which the error of an average over the chains needs."""
    chains, shape = _flatten(draws)
    if len(chains) < FEWEST_DRAWS:
        return np.full(shape, np.nan)
    size = _effective_sample_size(_split_halves(chains))
    return np.where(_find_sound(chains), size, np.nan).reshape(shape)


def _flatten(draws: ArrayLike) -> tuple[Floats, tuple[int, ...]]:
    """As `(draws, chains, coordinates)` with the coordinates' own shape."""
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
    """Each chain as two, the middle draw of an odd number left out."""
    half = len(chains) // 2
    return np.concatenate([chains[:half], chains[len(chains) - half :]], axis=1)


def _rank_normalise(chains: Floats) -> Floats:
    """Each coordinate's draws replaced by the normal quantiles of their ranks among all chains; ties share a rank."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    pooled = chains.reshape(-1, chains.shape[-1])
    ranks: Floats = rankdata(pooled, axis=0)
    quantiles: Floats = ndtri((ranks - BLOM_SHIFT) / (len(pooled) + BLOM_TOTAL))
    return quantiles.reshape(chains.shape)


def _variances(chains: Floats) -> tuple[Floats, Floats]:
    """The mean variance within chains, and the estimate of the whole's variance (Vehtari et al. 2021, eq. 3)."""
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
    # Geyer 1992: sums of neighbouring autocorrelations are positive and fall; what does not is noise.
    kept = np.minimum.accumulate(np.where(np.isnan(pairs), -1.0, pairs) > 0, axis=0)
    falling = np.minimum.accumulate(np.where(kept, pairs, 0.0), axis=0)
    first_left_out = np.minimum(2 * kept.sum(axis=0), draws - 1)
    tail = np.maximum(np.take_along_axis(correlation, first_left_out[None], axis=0)[0], 0.0)
    length = -1 + 2 * falling.sum(axis=0) + np.where(kept.all(axis=0), 0.0, tail)
    total = draws * count
    # Antithetic chains can be better than independent ones, but an estimate of by how much is not to be believed.
    sizes: Floats = total / np.maximum(length, 1 / np.log10(total))
    return sizes


def _autocovariance(chains: Floats) -> Floats:
    """Of each chain at all lags, by the Fourier transform of the chain padded to twice its length."""
    draws = len(chains)
    centred = chains - chains.mean(axis=0)
    spectrum: NDArray[Any] = np.fft.rfft(centred, 2 * draws, axis=0)
    covariance: Floats = np.fft.irfft(np.abs(spectrum) ** 2, 2 * draws, axis=0)[:draws] / draws
    return covariance
