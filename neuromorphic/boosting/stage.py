"""Fitting one boosting stage: starts, screening, L-BFGS with buffers that all stages share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting import kernels

Array = NDArray[np.float64]

MEMORY = 10
"""Pairs that L-BFGS keeps, as SciPy's does."""
STEEPEST = 10.0
"""Of a candidate, per standard deviation: a unit that rises from 0.1 to 0.9 within 0.4 of them."""


@dataclass(frozen=True, slots=True)
class StageSettings:
    """How a stage is fitted.

    `ridge` is per row: the stage objective has `½ (ridge/n) ‖weights‖²`. `project` solves the output weights exactly
    in every evaluation. `candidates` random starts are drawn for each of `restarts` descents, the best followed.
    """

    units: int
    iterations: int
    tolerance: float
    least_scale: float
    ridge: float
    project: bool
    restarts: int
    candidates: int


@dataclass(frozen=True, slots=True)
class FittedStage:
    """`weights` (J, d), `bias` (J,), `output` (J, K), `intercept` (K,) and how the fit went."""

    theta: Array
    value: float
    iterations: int
    evaluations: int


class StageFitter:
    """Fits stages of one shape; the buffers are made at the first and used again."""

    def __init__(self, settings: StageSettings, features: int, outputs: int) -> None:
        self.settings, self.features, self.outputs = settings, features, outputs
        self._rows = 0
        self._scratch: Any = None

    def fit(self, x: Array, r: Array, w: Array, rng: np.random.Generator) -> FittedStage:
        """Fit targets `r` (K, n) at features `x` (d, n) with weights `w` (n,) that sum to 1; arrays C-contiguous."""
        settings = self.settings
        if self._rows != x.shape[1]:
            self._rows = x.shape[1]
            self._scratch = kernels.buffers(self.features, self._rows, settings.units, self.outputs, MEMORY)
        starts = self._starts(x, r, w, rng)
        if len(starts) == 1:
            value, iterations, evaluations = kernels.minimise(
                starts[0], x, r, w, settings.units, settings.ridge, settings.project, settings.iterations,
                settings.tolerance, settings.least_scale, *self._scratch,
            )  # fmt: skip
            return FittedStage(starts[0], value, iterations, evaluations)
        values, counts = np.empty(len(starts)), np.empty((len(starts), 2), np.int64)
        kernels.minimise_batch(
            starts, values, counts, x, r, w, settings.units, settings.ridge, settings.project, settings.iterations,
            settings.tolerance, settings.least_scale, MEMORY,
        )  # fmt: skip
        best = int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
        return FittedStage(starts[best], float(values[best]), int(counts[best, 0]), int(counts[:, 1].sum()))

    def _starts(self, x: Array, r: Array, w: Array, rng: np.random.Generator) -> Array:
        """Where the descents begin: the best of random starts, or Glorot's where there is no choice to make.

        Glorot's start for logistic units (Glorot & Bengio 2010; `MLPRegressor`'s) has weights so small that a stage
        sees slopes only, and every stage the same ones. Further candidates have steps: random directions, of steepness
        1 to `STEEPEST` (log-uniform), each through the features of a random row.
        """
        settings, d = self.settings, self.features
        units, hidden = settings.units, settings.units * (d + 1)
        count = settings.restarts * settings.candidates
        starts = np.empty((count, hidden + (units + 1) * self.outputs))
        bound = np.sqrt(2.0 / (d + units))
        starts[:, :hidden] = rng.uniform(-bound, bound, (count, hidden))
        bound = np.sqrt(2.0 / (units + self.outputs))
        starts[:, hidden:] = rng.uniform(-bound, bound, (count, (units + 1) * self.outputs))
        if settings.candidates == 1:
            return starts
        for start in starts[settings.restarts :]:
            directions = rng.normal(size=(units, d))
            steepness = STEEPEST ** rng.random((units, 1))
            W = steepness * directions / np.sqrt(np.square(directions).sum(axis=1, keepdims=True))
            rows = x[:, rng.integers(x.shape[1], size=units)]
            start[: units * d] = W.ravel()
            start[units * d : hidden] = -(W * rows.T).sum(axis=1)
        values = np.empty(count)
        kernels.screen(starts, values, x, r, w, units, settings.ridge, self._scratch)
        order = np.argsort(values, kind="stable")
        return np.ascontiguousarray(starts[order[: settings.restarts]])
