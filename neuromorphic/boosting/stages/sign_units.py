"""Boosting stages of sign units: `h = sign(s·c + b)` with `s` and the inputs' code `c` of −1 and 1.

A table is coded by thresholds: bit `k·d + j` of a row says whether column j is above its threshold k. A stage's units
are fitted one after another, each to what the ones before have left, and their outputs together by least squares.
A unit starts along the correlation of code and residual; its latent weights then follow the gradient of the residual's
square through the sign of the sum and the sign of the weights, both seen as ReSTE sees them (Wu et al. 2023), with the
bias the best there is at each step: all are tried, as a sum of D signs has D + 1 values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting.stages.fitting import Draws, FittedStage, Sample, StageSettings

Array = NDArray[np.float64]

MOST_ITERATIONS = 40
"""Of the latent weights; `stage_iterations` where that is less."""
STEP, LAST_STEP = 0.3, 0.02
"""Root mean square of a step of the latent weights, whose own is 1 at the start: the first one's and the last one's."""
LAST_POWER = 3.0
NEAREST, FARTHEST = 0.1, 1.5
"""Where ReSTE's slope is a chord's, and where it ends: as in `relaxon.neuromorphic.binary`, which needs torch."""
JITTER = 1e-12


def choose_thresholds(x: Array, w: Array, bits: int) -> Array:
    """Return the thresholds of each column of `x` (n, d): `(bits, d)`, ascending.

    They lie half-way between neighbouring values, at equal shares of the rows' weights, and where many rows have one
    value, at equal shares of the values. A column of fewer values has thresholds at infinity, which no row passes.
    """
    found = np.full((bits, x.shape[1]), np.inf)
    shares = np.arange(1, bits + 1) / (bits + 1)
    for j, column in enumerate(x.T):
        present = ~np.isnan(column)
        values, where = np.unique(column[present], return_inverse=True)
        middles = values[:-1] + 0.5 * (values[1:] - values[:-1])
        if len(middles) > bits:
            passed = np.cumsum(np.bincount(where, weights=w[present]))[:-1] / w[present].sum()
            taken = set(np.minimum(np.searchsorted(passed, shares), len(middles) - 1).tolist())
            spare = np.linspace(0, len(middles) - 1, bits + len(taken)).round().astype(int).tolist()
            rest = [place for place in [*spare, *range(len(middles))] if place not in taken]
            for place in dict.fromkeys(rest):
                if len(taken) == bits:
                    break
                taken.add(place)
            middles = middles[sorted(taken)]
        found[: len(middles), j] = middles
    return found


def encode(x: Array, thresholds: Array, missing: Array) -> Array:
    """Return the code of rows `x` (n, d), `(n, bits·d)` of −1 and 1; what is missing counts as `missing` (d,)."""
    filled = np.where(np.isnan(x), missing, x)
    above = filled[:, None, :] > thresholds
    return np.asarray(2.0 * above.reshape(len(x), -1) - 1.0)


def sign_activations(weights: Array, bias: Array, x: Array) -> Array:
    """Return `sign(W x + b)` of a stage's units on all rows, `(J, n)`, for codes `x` (D, n)."""
    return unit_signs(weights @ x + bias[:, None])


def unit_signs(sums: Array) -> Array:
    """Return 1 where a sum is above 0, else −1."""
    return np.where(sums > 0.0, 1.0, -1.0)


class SignStageFitter:
    """Fits stages of sign units; the counterpart of `StageFitter`."""

    def __init__(self, settings: StageSettings, features: int, outputs: int) -> None:
        self.settings, self.features, self.outputs = settings, features, outputs

    def fit(self, x: Array, r: Array, w: Array, draws: Draws, sample: Sample | None = None) -> FittedStage:
        """Fit targets `r` (K, n) at codes `x` (D, n) with weights `w` (n,) that sum to 1, on the rows of `sample`."""
        if sample is not None:
            kept = sample.positions()
            x, r, w = x[:, kept], r[:, kept], w[kept] / w[kept].sum()
        units, d, rng = self.settings.units, self.features, draws.generator()
        W, b, left, evaluations = np.empty((units, d)), np.empty(units), r, 0
        for j in range(units):
            W[j], b[j], tried = self._unit(x, left, w, rng)
            evaluations += tried
            h = unit_signs(W[: j + 1] @ x + b[: j + 1, None])
            C, c = self._outputs(h, r, w)
            left = r - C.T @ h - c[:, None]
        value = 0.5 * float((np.square(left) @ w).sum() + self.settings.ridge * np.square(C).sum())
        theta = np.concatenate([W.ravel(), b, C.ravel(), c])
        return FittedStage(theta, value, min(self.settings.iterations, MOST_ITERATIONS), evaluations)

    def _unit(self, x: Array, r: Array, w: Array, rng: np.random.Generator) -> tuple[Array, float, int]:
        """Signs (D,), bias and how many sets of signs were tried."""
        settings = self.settings
        starts = self._starts(x, r, w, rng, settings.restarts * settings.candidates)
        sums = _signs(starts) @ x
        gains = [best_bias(row, r, w, self.features)[0] for row in sums]
        order = np.argsort(-np.array(gains), kind="stable")[: settings.restarts]
        best, tried = (-np.inf, starts[0], 0.0), len(starts)
        for start in starts[order]:
            found = self._follow(start, x, r, w)
            tried += min(settings.iterations, MOST_ITERATIONS)
            best = max(best, found, key=lambda one: one[0])
        return best[1], best[2], tried

    def _starts(self, x: Array, r: Array, w: Array, rng: np.random.Generator, count: int) -> Array:
        """Correlations of code and residual: along its largest variation, then along random ones of random rows."""
        along = rng.normal(size=(count, len(r)))
        rows = rng.exponential(size=(count, w.size))
        along[0] = np.linalg.eigh((r * w) @ r.T)[1][:, -1]
        rows[0] = 1.0
        starts = ((along @ r) * (w * rows)) @ x.T
        size = np.sqrt(np.square(starts).mean(axis=1, keepdims=True))
        return np.asarray(starts / np.where(size > 0.0, size, 1.0))

    def _follow(self, start: Array, x: Array, r: Array, w: Array) -> tuple[float, Array, float]:
        """The largest gain on the way of the latent weights from `start`, with its signs and bias."""
        iterations, root = min(self.settings.iterations, MOST_ITERATIONS), np.sqrt(self.features)
        z, best = start.copy(), (-np.inf, _signs(start), 0.0)
        for taken in range(iterations):
            share = taken / iterations
            power, step = 1.0 + (LAST_POWER - 1.0) * share, STEP + (LAST_STEP - STEP) * share
            s = _signs(z)
            sums = s @ x
            gain, bias = best_bias(sums, r, w, self.features)
            if gain > best[0]:
                best = (gain, s, bias)
            h = unit_signs(sums + bias)
            C, c = self._outputs(h[None], r, w)
            error = C.T * h + c[:, None] - r
            through = w * (C @ error)[0] * reste_slope((sums + bias) / root, power)
            slope = (x @ through) * reste_slope(z, power)
            size = np.sqrt(np.square(slope).mean())
            if not size > 0.0:
                break
            z = np.clip(z - step * slope / size, -FARTHEST, FARTHEST)
        return best

    def _outputs(self, h: Array, r: Array, w: Array) -> tuple[Array, Array]:
        """`C` (J, K) and `c` (K,) by least squares for the units' signs `h` (J, n)."""
        units = len(h)
        rows = np.concatenate([h, np.ones((1, h.shape[1]))])
        gram = (rows * w) @ rows.T
        gram[np.arange(units), np.arange(units)] += self.settings.ridge
        gram += np.eye(units + 1) * JITTER * np.trace(gram) / (units + 1)
        solved = np.linalg.solve(gram, (rows * w) @ r.T)
        return np.asarray(solved[:-1]), np.asarray(solved[-1])


def best_bias(sums: Array, r: Array, w: Array, features: int) -> tuple[float, float]:
    """Return the largest fall of `Σ w ‖r − C h − c‖²` by a unit with these sums (n,), and the bias that has it.

    The sums are whole numbers from −D to D with D's parity; between two of them lies a bias that makes no sum 0.
    """
    place = ((sums + features) * 0.5).astype(np.int64)
    below = np.cumsum(np.bincount(place, weights=w, minlength=features + 1))[:-1]
    if not below.size:
        return 0.0, 1.0
    total = r @ w
    parts = [np.cumsum(np.bincount(place, weights=w * row, minlength=features + 1))[:-1] for row in r]
    apart = np.square(np.array(parts) - total[:, None] * below).sum(axis=0)
    spread = below * (1.0 - below)
    usable = spread > JITTER
    gains = np.where(usable, apart / np.where(usable, spread, 1.0), 0.0)
    at = int(np.argmax(gains))
    return float(gains[at]), float(features - 2 * at - 1)


def reste_slope(z: Array, o: float) -> Array:
    """Return ReSTE's slope, as `relaxon.neuromorphic.binary.activations.reste_slope` does for tensors."""
    size = np.abs(z)
    slope = np.maximum(size, NEAREST) ** ((1.0 - o) / o) / o
    slope = np.where(size <= NEAREST, NEAREST ** (1.0 / o) / NEAREST, slope)
    return np.where(size > FARTHEST, 0.0, slope)


def _signs(z: Array) -> Array:
    return np.where(z < 0.0, -1.0, 1.0)
