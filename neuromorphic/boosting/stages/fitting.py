"""Fitting one boosting stage: starts, screening, L-BFGS with buffers that all stages share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting.stages import descent_kernels, kernels
from relaxon.neuromorphic.boosting.stages.kernels import BLOCK
from relaxon.neuromorphic.boosting.stages.start_kernels import draw_starts

Array = NDArray[np.float64]
Rows = NDArray[Any]
"""float64 or float32."""

MEMORY = 10
"""Pairs that L-BFGS keeps, as SciPy's does."""
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


class Draws:
    """The random numbers of a stage, of NumPy's generator or in the kernels that use them; each its own."""

    def __init__(self, seed: int, stage: int) -> None:
        self._seed, self._stage = seed, stage
        self._state: NDArray[np.uint64] | None = None
        self._generator: np.random.Generator | None = None

    def state(self) -> NDArray[np.uint64]:
        """The state of the kernels' generator, `(1,)`."""
        if self._state is None:
            # Two odd factors, so that neighbouring seeds and stages have states far apart.
            mixed = (self._seed * 0xD1342543DE82EF95 + self._stage * 0xA24BAED4963EE407 + 1) % 2**64
            self._state = np.array([mixed], np.uint64)
        return self._state

    def generator(self) -> np.random.Generator:
        """NumPy's generator."""
        if self._generator is None:
            self._generator = np.random.default_rng([self._seed, self._stage])
        return self._generator


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows that a stage is fitted to: so many, in blocks of `BLOCK` rows that begin at `places`, the last cut."""

    rows: int
    places: NDArray[np.int64]

    def positions(self) -> NDArray[np.int64]:
        """Where each of the rows is."""
        return (self.places[:, None] + np.arange(BLOCK)).ravel()[: self.rows]


def select_all_rows(rows: int) -> Sample:
    """All rows, in their order."""
    return Sample(rows, np.arange(0, max(rows, 1), BLOCK))


class StageFitter:
    """Fits stages of one shape; the buffers are made at the first and used again.

    Where there are many rows, starts are screened on some of them, and a descent begins on a quarter of them: what it
    has gone by then need not be gone on all rows.
    """

    def __init__(self, settings: StageSettings, features: int, outputs: int) -> None:
        self.settings, self.features, self.outputs = settings, features, outputs
        self._buffers: Any = None

    def fit(self, x: Rows, r: Rows, w: Rows, draws: Draws, sample: Sample | None = None) -> FittedStage:
        """Fit targets `r` (K, n) at features `x` (d, n) with weights `w` (n,), on all rows or those of `sample`.

        Arrays are C-contiguous, all float64 or all float32; rows are in an order by chance.
        """
        settings, sample = self.settings, sample or select_all_rows(x.shape[1])
        n = sample.rows
        if self._buffers is None or self._buffers[2].shape[1] != n or self._buffers[2].dtype != x.dtype:
            self._buffers = descent_kernels.buffers(self.features, n, settings.units, self.outputs, MEMORY, x.dtype)
        self._buffers = (sample.places, *self._buffers[1:])
        self._buffers[-1][:] = 0
        many = settings.project and n >= 2 * SCREENED
        starts = self._starts(x, r, w, SCREENED if many else n, sample, draws)
        values, iterations, evaluations = self._follow(starts, x, r, w, sample)
        best = int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
        return FittedStage(starts[best], float(values[best]), int(iterations[best]), evaluations)

    def _follow(self, starts: Array, x: Rows, r: Rows, w: Rows, sample: Sample) -> tuple[Array, NDArray[np.int64], int]:
        """Each start to a minimum on all rows of the sample; values, iterations, evaluations."""
        n, begun = sample.rows, 0
        if self.settings.project and n >= max(2 * SCREENED, BEGUN * LEAST_BEGUN):
            begun = self._descents(starts, x, r, w, n // BEGUN, BEGUN_TOLERANCE, sample)[2]
        values, iterations, evaluations = self._descents(starts, x, r, w, n, 0.0, sample)
        return values, iterations, begun + evaluations

    def _descents(
        self, starts: Array, x: Rows, r: Rows, w: Rows, rows: int, tolerance: float, sample: Sample
    ) -> tuple[Array, NDArray[np.int64], int]:
        """Move `starts` to minima on the first `rows` rows; their values and iterations, and the evaluations of all."""
        settings = self.settings
        ridge = settings.ridge * self._weight(r, w, rows)
        values, counts = np.empty(len(starts)), np.empty((len(starts), 2), np.int64)
        options = (settings.units, ridge, settings.project, settings.iterations, max(tolerance, settings.tolerance))
        if len(starts) == 1:
            found = descent_kernels.minimise(starts[0], x, r, w, rows, *options, settings.least_scale, *self._buffers)
            values[0], counts[0] = found[0], found[1:]
        else:
            rest = (*options, settings.least_scale, MEMORY, sample.places)
            descent_kernels.minimise_batch(starts, values, counts, x, r, w, rows, *rest)
        return values, counts[:, 0], int(counts[:, 1].sum())

    def _weight(self, r: Rows, w: Rows, rows: int) -> float:
        """The weight of the first rows of the sample, against which the ridge counts; 1 for all rows there are."""
        if rows == w.size:
            return 1.0
        kernels.weigh(r, w, rows, *self._buffers[:2])
        return float(self._buffers[1][1])

    def _starts(self, x: Rows, r: Rows, w: Rows, screened: int, sample: Sample, draws: Draws) -> Array:
        """Where the descents begin: the best of random starts, or Glorot's where there is no choice to make.

        Glorot's start for logistic units (Glorot & Bengio 2010; `MLPRegressor`'s) has weights so small that a stage
        sees slopes only, and every stage the same ones. Further candidates have steps: random directions, of steepness
        1 to `STEEPEST` (log-uniform), each through the features of a random row.
        """
        settings = self.settings
        count = settings.restarts * settings.candidates
        starts = self._draw(count, x, screened, sample, draws)
        if settings.candidates == 1:
            return starts
        values = np.empty(count)
        ridge = settings.ridge * self._weight(r, w, screened)
        descent_kernels.screen(starts, values, x, r, w, screened, settings.units, ridge, self._buffers)
        return np.ascontiguousarray(starts[self._ranked(starts, values)[: settings.restarts]])

    def _draw(self, count: int, x: Rows, screened: int, sample: Sample, draws: Draws) -> Array:
        """Random starts."""
        settings, d = self.settings, self.features
        units, hidden = settings.units, settings.units * (d + 1)
        starts = np.empty((count, hidden + (units + 1) * self.outputs))
        bound = np.sqrt(2.0 / (d + units))
        if settings.candidates == 1:
            rng = draws.generator()
            starts[:, :hidden] = rng.uniform(-bound, bound, (count, hidden))
            bound = np.sqrt(2.0 / (units + self.outputs))
            starts[:, hidden:] = rng.uniform(-bound, bound, (count, (units + 1) * self.outputs))
            return starts
        draw_starts(draws.state(), x, screened, sample.places, units, settings.restarts, bound, starts)
        return starts

    def _ranked(self, starts: Array, values: Array) -> NDArray[np.int64]:
        """The order in which screened starts are followed."""
        return np.argsort(values, kind="stable")
