"""The boosting loop: stage after stage is fitted to the residual, with guarded or published steps."""
# Imported on first use, for their weight: scipy.

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting.networks import model_kernels as passes
from relaxon.neuromorphic.boosting.networks.merged import Stage
from relaxon.neuromorphic.boosting.stages import kernels
from relaxon.neuromorphic.boosting.stages.fitting import Draws, Sample, StageFitter, StageSettings, select_all_rows
from relaxon.neuromorphic.boosting.stages.kernels import BLOCK
from relaxon.neuromorphic.boosting.stages.monotone import MonotoneStageFitter
from relaxon.neuromorphic.boosting.stages.sign_units import SignStageFitter, sign_activations
from relaxon.neuromorphic.boosting.stages.start_kernels import ALIGNED, draw_blocks
from relaxon.neuromorphic.boosting.training.losses import Loss
from relaxon.neuromorphic.boosting.training.runs import (
    BoostingState,
    Callback,
    Outcome,
    StageProgress,
    StagewiseSettings,
    TrainingRows,
)

if TYPE_CHECKING:
    from relaxon.neuromorphic.boosting.training.checkpoint import BoostingCheckpoint

Array = NDArray[np.float64]

FITTED = 1e-14
"""Root mean square of the residual, relative to the initial one, below which nothing is left to fit."""
HALVINGS = 40
"""Maximum number of times that a guarded step is halved before the stage is rejected."""
REFUSALS = 10
"""Number of consecutive rejected stages after which training ends."""
LEAST_SHARE = 1e-4
"""Share of the squared residual on all rows: a guarded stage that explains less, and less than one row's share, is
rejected and drawn again."""
LEAST_SINGLE_RIDGE = 1e-7
"""Ridge per row from which stages are fitted in float32: it exceeds the rounding errors of the sums in their solve."""
LEAST_BLOCKS = 16
"""Number of row blocks from which a stage samples whole blocks; below it, a stage samples individual rows."""
DEAD = 1e-4
"""Standard deviation of a unit's contribution, relative to the residual's, below which the unit counts as constant."""


def boost(
    settings: StagewiseSettings,
    loss: Loss,
    train: TrainingRows,
    validation: TrainingRows | None,
    before: BoostingState | None = None,
    callback: Callback | None = None,
    keeper: BoostingCheckpoint | None = None,
) -> BoostingState:
    """Train until the network has all units of `settings.layers`; `before` is the state of a run to continue."""
    return _BoostingRun(settings, loss, train, validation, before, callback, keeper).run()


class _BoostingRun:
    """The state of a run: the additive model on all rows, and the features that the current layer sees."""

    def __init__(
        self,
        settings: StagewiseSettings,
        loss: Loss,
        train: TrainingRows,
        validation: TrainingRows | None,
        before: BoostingState | None,
        callback: Callback | None,
        keeper: BoostingCheckpoint | None,
    ) -> None:
        self.settings, self.loss, self.callback, self.keeper = settings, loss, callback, keeper
        # The rows are shuffled, so that any contiguous range of them is a random sample.
        order = np.random.default_rng([settings.seed, 0, 2]).permutation(train.w.size)
        self.train = TrainingRows(train.x[:, order], train.y[:, order], train.w[order], train.weight)
        self.validation = validation
        self.activate: Callable[..., Array] = sign_activations if settings.signs else passes.unit_activations
        self.least_share = min(LEAST_SHARE, 1.0 / train.w.size)
        train = self.train
        self.result = before or BoostingState(loss.initial(train.y, train.w))
        self.result.outcome = Outcome.COMPLETED
        self.F = np.tile(self.result.initial[:, None], (1, train.y.shape[1]))
        self.V = None if validation is None else np.tile(self.result.initial[:, None], (1, validation.y.shape[1]))
        self.x, self.v = train.x, None if validation is None else validation.x
        self._joined: Any = None
        self.layer, self.in_layer = 0, 0
        self.values = loss.values(train.y, self.F, train.w)
        self.first_size = float(np.sqrt((np.square(loss.residual(train.y, self.F)) @ train.w).mean()))
        self.since = time.perf_counter() - self.result.seconds
        if not self.result.losses:
            self.result.losses.append(float(self.values.mean()))
            self._validate()
        for stage in self.result.stages:
            self._replay_stage(stage)
        self.values, self.r = loss.evaluate(train.y, self.F, train.w)
        self.squares = passes.find_squares(self.r, train.w)

    def run(self) -> BoostingState:
        with np.errstate(over="ignore", invalid="ignore"):
            return self._run()

    def _run(self) -> BoostingState:
        wanted, refused = sum(self.settings.layers), 0
        units = sum(len(stage.bias) for stage in self.result.stages)
        while units < wanted:
            # Checked before a stage is fitted, as early stopping depends on the stages of earlier runs too.
            if self._should_stop_early():
                self._keep_best()
                self.result.outcome = Outcome.EARLY_STOPPED
                break
            r = self.r
            self.squares = passes.find_squares(r, self.train.w)
            if not self._worth_fitting():
                self.result.outcome = Outcome.FITTED
                break
            if self.in_layer >= self.settings.layers[self.layer]:
                self._deepen()
            stage = self._try_stage(r)
            self.result.attempts += 1
            if self.result.outcome is Outcome.NON_FINITE:
                break
            if stage is None:
                refused += 1
                self.result.refused += 1
                if refused >= REFUSALS:
                    self.result.outcome = Outcome.STALLED
                    break
                continue
            refused = 0
            self.result.stages.append(stage)
            units += len(stage.bias)
            self.result.losses.append(float(self.values.mean()))
            self._validate()
            self.result.seconds = time.perf_counter() - self.since
            stopped = self._report_progress(units, wanted)
            if self.keeper is not None:
                self.keeper.offer(self.result, at_once=stopped)
            if stopped:
                self.result.outcome = Outcome.CANCELLED
                break
        return self.result

    def _try_stage(self, r: Array) -> Stage | None:
        """Fit a stage to the residual and take its step; return None if it gains nothing."""
        settings, rows = self.settings, self.train
        stage, H = self._fit_stage(r)
        if not len(stage.bias) or not np.isfinite(stage.output).all() or not np.isfinite(H).all():
            return None
        f = passes.combine(H, stage.output, stage.intercept)
        if settings.newton == "published":
            rho = self.loss.published_step(rows.y, self.F, r, f, rows.w)
            if not np.isfinite(rho).all():
                self.result.outcome = Outcome.NON_FINITE
                return None
        else:
            along, square, explained = passes.find_sums_along(r, f, rows.w)
            if not explained >= self.least_share * self.squares.sum():
                return None
            rho = self._limit_step(self.loss.guarded_step(rows.y, self.F, r, f, rows.w, along, square), f)
        if settings.monotone is not None and not (rho >= 0.0).all():
            return None  # a negative step would reverse the monotone direction
        return self._take_step(stage, H, rho)

    def _take_step(self, stage: Stage, H: Array, rho: Array) -> Stage | None:
        """Add the stage times its step to the model; a guarded step is halved until no loss rises."""
        settings, rows = self.settings, self.train
        for _ in range(HALVINGS):
            moved = settings.learning_rate * rho
            output, intercept = stage.output * moved, stage.intercept * moved
            found = Stage(stage.layer, stage.weights, stage.bias, output, intercept)
            F = self.F + passes.combine(H, found.output, found.intercept)
            values, r = self.loss.evaluate(rows.y, F, rows.w)
            # `not ≤` is also true for NaN.
            worse = ~(values <= self.values)
            if settings.newton == "published" or not worse.any():
                break
            rho = np.where(worse, 0.5 * rho, rho) if self.loss.separable else 0.5 * rho
        else:
            return None
        if settings.newton == "published" and not np.isfinite(F).all():
            self.result.outcome = Outcome.NON_FINITE
            return None
        if not moved.any():
            return None
        self.F, self.values, self.r = F, values, r
        self.in_layer += len(found.bias)
        if self.V is not None and self.v is not None:
            self.V = self.V + self._stage_outputs(found, self.v)
        return found

    def _fit_stage(self, r: Array) -> tuple[Stage, Array]:
        """Return a stage fitted to the residual, before its step and without dead units, and its activations (J, n)."""
        settings = self.settings
        draws = Draws(settings.seed, self.result.attempts)
        scales = self._find_target_scales()
        units = min(settings.units_per_stage, settings.layers[self.layer] - self.in_layer)
        x, targets, w, weight, sample = self._sample_rows(r, scales, draws)
        fitted = self._get_fitter(units, weight).fit(x, targets, w, draws, sample)
        self.result.evaluations += fitted.evaluations
        d, theta = self.x.shape[0], fitted.theta
        output, intercept = theta[units * (d + 1) : -len(r)].reshape(units, len(r)), theta[-len(r) :]
        weights, bias = theta[: units * d].reshape(units, d).copy(), theta[units * d : units * (d + 1)].copy()
        H = self.activate(weights, bias, self.x)
        if settings.newton == "guarded":
            mean, spread = passes.find_moments(H, self.train.w)
            alive = spread * np.abs(output).max(axis=1) > DEAD
            if not alive.all():
                self.result.dead += int((~alive).sum())
                intercept = intercept + mean[~alive] @ output[~alive]
                weights, bias, output, H = weights[alive], bias[alive], output[alive], H[alive]
        return Stage(self.layer, weights, bias, output * scales, intercept * scales), H

    def _stage_outputs(self, stage: Stage, x: Array) -> Array:
        """Return the contribution of a stage at the features `x`, `(K, n)`."""
        return np.asarray(passes.combine(self.activate(stage.weights, stage.bias, x), stage.output, stage.intercept))

    def _limit_step(self, rho: Array, f: Array) -> Array:
        if not np.isfinite(self.loss.radius):
            return rho
        reach = np.abs(rho) * np.abs(f).max(axis=1)
        return np.where(reach > self.loss.radius, rho * (self.loss.radius / np.maximum(reach, 1e-300)), rho)

    def _find_target_scales(self) -> Array:
        """Return the unit in which a stage sees its targets, `(K,)`.

        In guarded training it is their root mean square, so that the ridge and the stopping rule mean the same at
        every stage. Logits share one unit, as their residuals are commensurable.
        """
        if self.settings.newton == "published":
            return np.ones(len(self.F))
        each = self.squares
        if not self.loss.separable:
            each = np.full(len(each), each.mean())
        return np.sqrt(np.where(each > 0.0, each, 1.0))

    def _sample_rows(self, r: Array, scales: Array, draws: Draws) -> tuple[Any, Any, Any, float, Sample]:
        """Return the rows of this stage: features, targets, weights, total weight and the sample among those rows."""
        rows, n = self.train, self.train.w.size
        count = max(1, round(self.settings.subsample * n))
        if count < n and (self.settings.newton == "published" or n < LEAST_BLOCKS * BLOCK or n - count < BLOCK):
            drawn = draws.generator().permutation(n)[:count]
            share = float(rows.w[drawn].sum())
            dtype = self._choose_dtype(rows.weight * share)
            x, targets = (kernels.gather(array, drawn, dtype) for array in (self.x, r / scales[:, None]))
            return (
                x,
                targets,
                (rows.w[drawn] / share).astype(dtype, copy=False),
                rows.weight * share,
                select_all_rows(count),
            )
        weight = rows.weight * count / n
        dtype = self._choose_dtype(weight)
        if self._joined is None or self._joined[0].dtype != dtype:
            # The rows are shuffled, so that blocks of them are random samples wherever they begin.
            # Rows of the table begin on a cache line, as `ALIGNED` rows fill one.
            extra = (BLOCK if count < n else 0) + -n % ALIGNED
            arrays = (self.x, rows.w[None])
            self._joined = tuple(passes.joined(array, np.ones(len(array)), extra, dtype) for array in arrays)
        x, (w,) = self._joined
        targets = passes.joined(r, scales, x.shape[1] - n, dtype)
        return x, targets, w, weight, select_all_rows(n) if count == n else _draw_block_sample(n, count, draws)

    def _choose_dtype(self, weight: float) -> Any:
        return np.float32 if self._fits_in_single(weight) else np.float64

    def _fits_in_single(self, weight: float) -> bool:
        """Return whether stages are fitted in float32; the model, its losses and its steps are always float64."""
        settings = self.settings
        return settings.newton == "guarded" and not settings.signs and settings.ridge >= LEAST_SINGLE_RIDGE * weight

    def _get_fitter(self, units: int, weight: float) -> StageFitter | SignStageFitter:
        settings, published = self.settings, self.settings.newton == "published"
        wanted = StageSettings(
            units=units,
            iterations=settings.stage_iterations,
            tolerance=settings.stage_tolerance,
            # SciPy's stopping rule is relative to at least 1, regardless of the unit of the targets.
            least_scale=1.0 if published else 0.0,
            ridge=settings.ridge / weight,
            project=not published,
            restarts=settings.restarts,
            candidates=1 if published else settings.candidates,
        )
        current = getattr(self, "_current", None)
        if current is None or current.settings != wanted or current.features != self.x.shape[0]:
            d, outputs = self.x.shape[0], len(self.F)
            if settings.monotone is not None:
                current = MonotoneStageFitter(wanted, d, outputs, settings.monotone)
            else:
                current = (SignStageFitter if settings.signs else StageFitter)(wanted, d, outputs)
            self._current = current
        return current

    def _replay_stage(self, stage: Stage) -> None:
        """Add a stage of an earlier run by the same operations as in its training, so that the bits are the same."""
        if stage.layer > self.layer:
            self._deepen()
        self.F = self.F + self._stage_outputs(stage, self.x)
        if self.V is not None and self.v is not None:
            self.V = self.V + self._stage_outputs(stage, self.v)
        self.in_layer += len(stage.bias)

    def _deepen(self) -> None:
        """Freeze the current layer and append its activations to the features that the next layer sees."""
        own = [stage for stage in self.result.stages if stage.layer == self.layer]
        weights = np.concatenate([stage.weights for stage in own])
        bias = np.concatenate([stage.bias for stage in own])
        self.x = _append_activations(self.x, weights, bias)
        if self.v is not None:
            self.v = _append_activations(self.v, weights, bias)
        self._joined = None
        self.layer += 1
        self.in_layer = 0

    def _worth_fitting(self) -> bool:
        size = float(np.sqrt(self.squares.mean()))
        return bool(np.isfinite(size) and size > FITTED * self.first_size and size > 1e-150)

    def _validate(self) -> None:
        if self.validation is not None and self.V is not None:
            values = self.loss.values(self.validation.y, self.V, self.validation.w)
            self.result.validation.append(float(values.mean()))

    def _should_stop_early(self) -> bool:
        patience, losses = self.settings.patience, self.result.validation
        if patience is None or len(losses) <= patience:
            return False
        return not min(losses[-patience:]) < min(losses[:-patience]) - self.settings.tolerance

    def _keep_best(self) -> None:
        best = int(np.nanargmin(self.result.validation))
        del self.result.stages[best:], self.result.losses[best + 1 :], self.result.validation[best + 1 :]

    def _report_progress(self, units: int, wanted: int) -> bool:
        if self.callback is None:
            return False
        result = self.result
        progress = StageProgress(
            stage=len(result.stages),
            units=units,
            units_wanted=wanted,
            loss=result.losses[-1],
            validation_loss=result.validation[-1] if result.validation else None,
            seconds=result.seconds,
        )
        return self.callback(progress) is True


def _draw_block_sample(n: int, count: int, draws: Draws) -> Sample:
    """Draw `count` of `n` rows as disjoint blocks at random positions, in random order."""
    places = np.empty(n // BLOCK, np.int64)
    draw_blocks(draws.state(), n, places)
    return Sample(count, places)


def _append_activations(x: Array, weights: Array, bias: Array) -> Array:
    """Append `2σ − 1` of the units below to `x` (d, n): `(d + u, n)`."""
    from scipy.special import expit

    return np.concatenate([x, 2.0 * expit(weights @ x + bias[:, None]) - 1.0])
