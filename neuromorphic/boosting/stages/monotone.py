"""Stages whose units are monotone in some inputs, enforced by bounds on their weights.

A logistic unit rises with its sum, so that `C σ(W x + b)` never falls with input f if `C W_f ≥ 0`. As `σ(−z) = 1 −
σ(z)`, there is no loss of generality in requiring `C ≥ 0` and `W_f` with the sign of the constraint. The hidden weights
are optimised under these bounds on the projected objective (L-BFGS-B: Zhu et al. 1997), and units whose solved output
weight is negative are dropped at the end.
"""
# Imported on first use, for their weight: scipy.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting.stages import descent_kernels, kernels
from relaxon.neuromorphic.boosting.stages.fitting import Draws, Sample, StageFitter, StageSettings
from relaxon.neuromorphic.boosting.stages.projection_kernels import projected_objective

Array = NDArray[np.float64]


class MonotoneStageFitter(StageFitter):
    """Fits stages whose single output never falls with inputs of direction 1 and never rises with those of −1."""

    def __init__(self, settings: StageSettings, features: int, outputs: int, directions: tuple[int, ...]) -> None:
        super().__init__(settings, features, outputs)
        self._directions = np.array(directions, np.float64)

    def _follow(self, starts: Array, x: Any, r: Any, w: Any, sample: Sample) -> tuple[Array, NDArray[np.int64], int]:
        """Minimise from each start under the bounds on all rows of the sample; return values and counts."""
        values, iterations, evaluations = np.empty(len(starts)), np.empty(len(starts), np.int64), 0
        for index, start in enumerate(starts):
            values[index], iterations[index], tried = self._bound(start, x, r, w, sample.rows)
            evaluations += tried
        return values, iterations, evaluations

    def _draw(self, count: int, x: Any, screened: int, sample: Sample, draws: Draws) -> Array:
        starts = super()._draw(count, x, screened, sample, draws)
        hidden = starts[:, : self.settings.units * self.features].reshape(count, -1, self.features)
        bound = self._directions != 0.0
        hidden[:, :, bound] = np.abs(hidden[:, :, bound]) * self._directions[bound]
        return starts

    def _rank(self, starts: Array, values: Array) -> NDArray[np.int64]:
        """Prefer starting points whose output weights all have the right sign."""
        at = self.settings.units * (self.features + 1)
        wrong = (starts[:, at : at + self.settings.units] < 0.0).any(axis=1)
        return np.lexsort((values, wrong))

    def _bound(self, theta: Array, x: Any, r: Any, w: Any, rows: int) -> tuple[float, int, int]:
        from scipy.optimize import minimize

        settings, d = self.settings, self.features
        units, moved = settings.units, settings.units * (d + 1)
        low, high = np.full((units, d), -np.inf), np.full((units, d), np.inf)
        low[:, self._directions > 0.0] = 0.0
        high[:, self._directions < 0.0] = 0.0
        free = np.full(units, np.inf)
        bounds = np.column_stack([np.append(low, -free), np.append(high, free)])
        kernels.weigh(r, w, rows, *self._buffers[:2])
        ridge = settings.ridge * self._weight(r, w, rows)

        def evaluate(hidden: Array, alive: NDArray[np.intp]) -> tuple[float, Array]:
            """Return value and gradient with the units `alive`; write their solved output weights to `theta`."""
            some = np.concatenate([hidden[: units * d].reshape(units, d)[alive].ravel(), hidden[units * d :][alive]])
            trial = np.append(some, np.zeros(len(alive) + 1))
            buffers = self._buffers if len(alive) == units else self._smaller(len(alive), rows, x.dtype)
            value = projected_objective(trial, x, r, w, rows, len(alive), ridge, *buffers[:9], *buffers[-4:-1])
            theta[:moved], theta[moved:] = hidden, 0.0
            theta[moved + alive], theta[-1] = trial[len(some) : -1], trial[-1]
            return float(value), buffers[8][: len(some)].copy()

        every = np.arange(units)
        found = minimize(
            evaluate, theta[:moved].copy(), (every,), "L-BFGS-B", jac=True, bounds=bounds,
            options={"maxiter": settings.iterations, "ftol": settings.tolerance, "gtol": 0.0},
        )  # fmt: skip
        hidden, alive = np.clip(found.x, bounds[:, 0], bounds[:, 1]), every
        value, _ = evaluate(hidden, alive)
        while len(alive) and (theta[moved + alive] < 0.0).any():
            alive = alive[theta[moved + alive] > 0.0]
            if len(alive):
                value, _ = evaluate(hidden, alive)
        if not len(alive):
            theta[moved:-1] = 0.0
        return value, int(found.nit), int(found.nfev)

    def _smaller(self, units: int, rows: int, dtype: Any) -> tuple[Any, ...]:
        own = descent_kernels.buffers(self.features, rows, units, self.outputs, 1, dtype)
        return (*self._buffers[:2], *own[2:])
