"""The fit of one boosting stage: starting points, screening, and L-BFGS with buffers shared by all stages."""

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
"""Number of correction pairs of L-BFGS, as in SciPy."""
SCREENED = 512
"""Number of rows on which starting points are screened."""
BEGUN, LEAST_BEGUN, BEGUN_TOLERANCE = 4, 1000, 1e-3
"""A descent begins on one in `BEGUN` rows, if these are at least `LEAST_BEGUN`, up to a tolerance `BEGUN_TOLERANCE`."""


@dataclass(frozen=True, slots=True)
class StageSettings:
    """Settings of the fit of a stage.

    `ridge` is per row: the stage objective contains `½ (ridge/n) ‖weights‖²`. `project` solves for the output weights
    exactly in every evaluation. `candidates` random starting points are drawn for each of `restarts` descents, and the
    best ones are used.
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
    """The fitted parameters `weights` (J, d), `bias` (J,), `output` (J, K), `intercept` (K,) as one vector `theta`."""

    theta: Array
    value: float
    iterations: int
    evaluations: int


class Draws:
    """The random number generators of a stage: NumPy's and that of the kernels, which are independent."""

    def __init__(self, seed: int, stage: int) -> None:
        self._seed, self._stage = seed, stage
        self._state: NDArray[np.uint64] | None = None
        self._generator: np.random.Generator | None = None

    def state(self) -> NDArray[np.uint64]:
        """Return the state of the kernels' generator, `(1,)`."""
        if self._state is None:
            # Two odd factors make the states of neighbouring seeds and stages very different.
            mixed = (self._seed * 0xD1342543DE82EF95 + self._stage * 0xA24BAED4963EE407 + 1) % 2**64
            self._state = np.array([mixed], np.uint64)
        return self._state

    def generator(self) -> np.random.Generator:
        """Return the NumPy generator."""
        if self._generator is None:
            self._generator = np.random.default_rng([self._seed, self._stage])
        return self._generator


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows that a stage is fitted to: `rows` of them in blocks of `BLOCK` that begin at `places`."""

    rows: int
    places: NDArray[np.int64]

    def positions(self) -> NDArray[np.int64]:
        """Return the index of each row of the sample."""
        return (self.places[:, None] + np.arange(BLOCK)).ravel()[: self.rows]


def select_all_rows(rows: int) -> Sample:
    """Return the sample of all rows in their order."""
    return Sample(rows, np.arange(0, max(rows, 1), BLOCK))


class StageFitter:
    """Fits stages of one shape, with buffers that are allocated once and reused.

    With many rows, starting points are screened on a few of them, and a descent begins on a quarter of them, which
    saves most of the iterations on all rows.
    """

    def __init__(self, settings: StageSettings, features: int, outputs: int) -> None:
        self.settings, self.features, self.outputs = settings, features, outputs
        self._buffers: Any = None

    def fit(self, x: Rows, r: Rows, w: Rows, draws: Draws, sample: Sample | None = None) -> FittedStage:
        """Fit targets `r` (K, n) at features `x` (d, n) with weights `w` (n,), on all rows or those of `sample`.

        Arrays are C-contiguous and all float64 or all float32; the rows must be in random order.
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
        """Minimise from each start on all rows of the sample; return values, iterations and evaluations."""
        n, begun = sample.rows, 0
        if self.settings.project and n >= max(2 * SCREENED, BEGUN * LEAST_BEGUN):
            begun = self._descents(starts, x, r, w, n // BEGUN, BEGUN_TOLERANCE, sample)[2]
        values, iterations, evaluations = self._descents(starts, x, r, w, n, 0.0, sample)
        return values, iterations, begun + evaluations

    def _descents(
        self, starts: Array, x: Rows, r: Rows, w: Rows, rows: int, tolerance: float, sample: Sample
    ) -> tuple[Array, NDArray[np.int64], int]:
        """Minimise from `starts` in place on the first `rows` rows; return values, iterations and total evaluations."""
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
        """Return the weight of the first rows of the sample, against which the ridge counts; 1 for all rows."""
        if rows == w.size:
            return 1.0
        kernels.weigh(r, w, rows, *self._buffers[:2])
        return float(self._buffers[1][1])

    def _starts(self, x: Rows, r: Rows, w: Rows, screened: int, sample: Sample, draws: Draws) -> Array:
        """Return the starting points of the descents: the best of the random candidates, or Glorot's if there is one.

        Glorot's initialisation for logistic units (Glorot & Bengio 2010, as in `MLPRegressor`) has such small weights
        that a stage sees only linear units, the same in every stage. The other candidates are steps: random directions
        of log-uniform steepness from 1 to `STEEPEST`, centred at the features of a random row.
        """
        settings = self.settings
        count = settings.restarts * settings.candidates
        starts = self._draw(count, x, screened, sample, draws)
        if settings.candidates == 1:
            return starts
        values = np.empty(count)
        ridge = settings.ridge * self._weight(r, w, screened)
        descent_kernels.screen(starts, values, x, r, w, screened, settings.units, ridge, self._buffers)
        return np.ascontiguousarray(starts[self._rank(starts, values)[: settings.restarts]])

    def _draw(self, count: int, x: Rows, screened: int, sample: Sample, draws: Draws) -> Array:
        """Draw random starting points."""
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

    def _rank(self, starts: Array, values: Array) -> NDArray[np.int64]:
        """Return the order of preference of the screened starting points."""
        return np.argsort(values, kind="stable")
