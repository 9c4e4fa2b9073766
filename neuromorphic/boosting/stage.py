"""Fitting one boosting stage: starts, screening, L-BFGS with buffers that all stages share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting import descent_kernels

Array = NDArray[np.float64]
Rows = NDArray[Any]
"""float64 or float32."""

MEMORY = 10
"""Pairs that L-BFGS keeps, as SciPy's does."""
STEEPEST = 10.0
"""Of a candidate, per standard deviation: a unit that rises from 0.1 to 0.9 within 0.4 of them."""
SCREENED = 512
"""Rows that starts are screened on."""
BEGUN, LEAST_BEGUN, BEGUN_TOLERANCE = 4, 1000, 1e-3
"""The part of the rows that a descent begins on, how many those must be, and where it ends there."""


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
    """Fits stages of one shape; the buffers are made at the first and used again.

    Where there are many rows, starts are screened on some of them, and a descent begins on a quarter of them: what it
    has gone by then need not be gone on all rows.
    """

    def __init__(self, settings: StageSettings, features: int, outputs: int) -> None:
        self.settings, self.features, self.outputs = settings, features, outputs
        self._buffers: Any = None

    def fit(self, x: Rows, r: Rows, w: Rows, rng: np.random.Generator) -> FittedStage:
        """Fit targets `r` (K, n) at features `x` (d, n) with weights `w` (n,) that sum to 1, in an order by chance.

        Arrays are C-contiguous, all float64 or all float32.
        """
        settings, n = self.settings, x.shape[1]
        if self._buffers is None or self._buffers[0].shape[1] != n or self._buffers[0].dtype != x.dtype:
            self._buffers = descent_kernels.buffers(self.features, n, settings.units, self.outputs, MEMORY, x.dtype)
        self._buffers[-1][:] = 0
        many = settings.project and n >= 2 * SCREENED
        starts, evaluations = self._starts(x, r, w, SCREENED if many else n, rng), 0
        if many and n >= BEGUN * LEAST_BEGUN:
            evaluations += self._descents(starts, x, r, w, n // BEGUN, BEGUN_TOLERANCE)[2]
        values, iterations, further = self._descents(starts, x, r, w, n, 0.0)
        best = int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
        return FittedStage(starts[best], float(values[best]), int(iterations[best]), evaluations + further)

    def _descents(
        self, starts: Array, x: Rows, r: Rows, w: Rows, rows: int, tolerance: float
    ) -> tuple[Array, NDArray[np.int64], int]:
        """Move `starts` to minima on the first `rows` rows; their values and iterations, and the evaluations of all."""
        settings = self.settings
        ridge = settings.ridge * _weight(w, rows)
        values, counts = np.empty(len(starts)), np.empty((len(starts), 2), np.int64)
        options = (settings.units, ridge, settings.project, settings.iterations, max(tolerance, settings.tolerance))
        if len(starts) == 1:
            found = descent_kernels.minimise(starts[0], x, r, w, rows, *options, settings.least_scale, *self._buffers)
            values[0], counts[0] = found[0], found[1:]
        else:
            descent_kernels.minimise_batch(
                starts, values, counts, x, r, w, rows, *options, settings.least_scale, MEMORY
            )
        return values, counts[:, 0], int(counts[:, 1].sum())

    def _starts(self, x: Rows, r: Rows, w: Rows, screened: int, rng: np.random.Generator) -> Array:
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
        steep = count - settings.restarts
        W = rng.normal(size=(steep, units, d))
        W *= STEEPEST ** rng.random((steep, units, 1)) / np.sqrt(np.square(W).sum(axis=2, keepdims=True))
        rows = np.take(x, rng.integers(screened, size=steep * units), axis=1).T.reshape(steep, units, d)
        starts[settings.restarts :, : units * d] = W.reshape(steep, -1)
        starts[settings.restarts :, units * d : hidden] = -(W * rows).sum(axis=2)
        values = np.empty(count)
        ridge = settings.ridge * _weight(w, screened)
        descent_kernels.screen(starts, values, x, r, w, screened, units, ridge, self._buffers)
        order = np.argsort(values, kind="stable")
        return np.ascontiguousarray(starts[order[: settings.restarts]])


def _weight(w: Rows, rows: int) -> float:
    """The weight of the first rows, against which the ridge counts: 1 for all of them."""
    return 1.0 if rows == w.size else float(w[:rows].sum())
