"""The boosting loop: stage after stage on the residual, each step guarded or as published."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting import kernels
from relaxon.neuromorphic.boosting.losses import Loss
from relaxon.neuromorphic.boosting.network import Stage
from relaxon.neuromorphic.boosting.sign_units import SignStageFitter, sign_outputs
from relaxon.neuromorphic.boosting.stage import StageFitter, StageSettings

Array = NDArray[np.float64]

FITTED = 1e-14
"""Root mean square of the residual, relative to the start's, below which there is nothing left to fit."""
HALVINGS = 40
REFUSALS = 10
"""Stages in a row without a step that lowers the loss, after which training ends."""


class Outcome(Enum):
    """How training ended."""

    COMPLETED = "completed"
    EARLY_STOPPED = "early_stopped"
    CANCELLED = "cancelled"
    FITTED = "fitted"
    """The residual is zero: no unit could add anything."""
    STALLED = "stalled"
    """No stage found a step that lowers the loss, time and again."""
    NON_FINITE = "non_finite"
    """A published step divided by zero; the stages before it are kept."""


@dataclass(frozen=True, slots=True)
class StageProgress:
    """What a callback sees after each stage."""

    stage: int
    units: int
    units_wanted: int
    loss: float
    """On the training rows, in the unit of training; see `GradientBoostedNetworkRegressor`."""
    validation_loss: float | None
    seconds: float


Callback = Callable[[StageProgress], object]
"""Called after each stage; a return value that is `True` ends training with `Outcome.CANCELLED`, the stages kept."""


@dataclass(frozen=True, slots=True)
class BoostingSettings:
    """What a training run is."""

    layers: tuple[int, ...]
    """Units of each hidden layer; a later layer's units also see the units of the layers before, frozen."""
    units_per_stage: int
    learning_rate: float
    newton: Literal["guarded", "published"]
    subsample: float
    ridge: float
    stage_iterations: int
    stage_tolerance: float
    restarts: int
    candidates: int
    patience: int | None
    """Stages without an improvement of the validation loss by `tolerance` before training stops."""
    tolerance: float
    seed: int
    signs: bool = False
    """Units that are signs of sums of signs, in place of logistic ones."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to train or validate on: features (d, n), targets (K, n), weights (n,) that sum to 1."""

    x: Array
    y: Array
    w: Array
    weight: float
    """The sum of the weights before: what a row's share of the ridge is measured against."""


@dataclass(slots=True)
class Trained:
    """The stages so far and how the losses went; given back to `boost`, it goes on from there."""

    initial: Array
    stages: list[Stage] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """Training loss at the start and after each stage."""
    validation: list[float] = field(default_factory=list)
    attempts: int = 0
    """Stages tried, those without a step included: the next one's random numbers."""
    evaluations: int = 0
    outcome: Outcome = Outcome.COMPLETED
    seconds: float = 0.0
    """That it took."""


class Keeper(Protocol):
    """Keeps what has been trained, so that a run that is cut off can go on from there."""

    def offer(self, trained: Trained, at_once: bool) -> None:
        """The state after a stage, to be kept now or not; `at_once` where the run is stopped here."""


def boost(
    settings: BoostingSettings,
    loss: Loss,
    train: Rows,
    validation: Rows | None,
    before: Trained | None = None,
    callback: Callback | None = None,
    keeper: Keeper | None = None,
) -> Trained:
    """Train until all units of `settings.layers` are there; `before` is an earlier run on the same rows."""
    return _Run(settings, loss, train, validation, before, callback, keeper).run()


class _Run:
    """A run's state: the additive model on all rows, and the features that the current layer sees."""

    def __init__(
        self,
        settings: BoostingSettings,
        loss: Loss,
        train: Rows,
        validation: Rows | None,
        before: Trained | None,
        callback: Callback | None,
        keeper: Keeper | None,
    ) -> None:
        self.settings, self.loss, self.callback, self.keeper = settings, loss, callback, keeper
        self.train, self.validation = train, validation
        self.outputs_of: Callable[..., Array] = sign_outputs if settings.signs else kernels.stage_outputs
        self.result = before or Trained(loss.initial(train.y, train.w))
        self.result.outcome = Outcome.COMPLETED
        self.F = np.tile(self.result.initial[:, None], (1, train.y.shape[1]))
        self.V = None if validation is None else np.tile(self.result.initial[:, None], (1, validation.y.shape[1]))
        self.x, self.v = train.x, None if validation is None else validation.x
        self.layer, self.in_layer = 0, 0
        self.values = loss.values(train.y, self.F, train.w)
        self.first_size = _size(loss.residual(train.y, self.F), train.w)
        self.since = time.perf_counter() - self.result.seconds
        if not self.result.losses:
            self.result.losses.append(float(self.values.mean()))
            self._validate()
        for stage in self.result.stages:
            self._add(stage)
        self.values = loss.values(train.y, self.F, train.w)

    def run(self) -> Trained:
        wanted, refused = sum(self.settings.layers), 0
        units = sum(len(stage.bias) for stage in self.result.stages)
        while units < wanted:
            # An early stop looks further back than one stage, so it is asked before a stage is fitted.
            if self._no_better():
                self._keep_best()
                self.result.outcome = Outcome.EARLY_STOPPED
                break
            r = self.loss.residual(self.train.y, self.F)
            if not self._worth_fitting(r):
                self.result.outcome = Outcome.FITTED
                break
            if self.in_layer >= self.settings.layers[self.layer]:
                self._deepen()
            stage = self._stage(r)
            self.result.attempts += 1
            if self.result.outcome is Outcome.NON_FINITE:
                break
            if stage is None:
                refused += 1
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
            stopped = self._told(units, wanted)
            if self.keeper is not None:
                self.keeper.offer(self.result, at_once=stopped)
            if stopped:
                self.result.outcome = Outcome.CANCELLED
                break
        return self.result

    def _stage(self, r: Array) -> Stage | None:
        """A stage on the residual, with its step; None where no step lowers the loss."""
        settings, rows = self.settings, self.train
        rng = np.random.default_rng([settings.seed, self.result.attempts])
        scales = self._scales(r)
        units = min(settings.units_per_stage, settings.layers[self.layer] - self.in_layer)
        x, targets, w, weight = self._sampled(r / scales[:, None], rng)
        fitted = self._fitter(units, weight).fit(x, targets, w, rng)
        self.result.evaluations += fitted.evaluations
        d, outputs = self.x.shape[0], len(r)
        output = fitted.theta[units * (d + 1) : -outputs].reshape(units, outputs) * scales
        intercept = fitted.theta[-outputs:] * scales
        theta = fitted.theta.copy()
        _put(theta, d, units, output, intercept)
        if not np.isfinite(theta).all():
            return None
        f = self.outputs_of(theta, self.x, units, outputs)
        if settings.newton == "published":
            rho = self.loss.published_step(rows.y, self.F, r, f, rows.w)
            if not np.isfinite(rho).all():
                self.result.outcome = Outcome.NON_FINITE
                return None
        else:
            rho = self._within_radius(self.loss.guarded_step(rows.y, self.F, r, f, rows.w), f)
        weights, bias = theta[: units * d].reshape(units, d).copy(), theta[units * d : units * (d + 1)].copy()
        for _ in range(HALVINGS):
            moved = settings.learning_rate * rho
            stage = Stage(self.layer, weights, bias, output * moved, intercept * moved)
            _put(theta, d, units, stage.output, stage.intercept)
            F = self.F + self.outputs_of(theta, self.x, units, outputs)
            with np.errstate(over="ignore", invalid="ignore"):
                values = self.loss.values(rows.y, F, rows.w)
            # `not ≤` is true for NaN as well.
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
        self.F, self.values = F, values
        self.in_layer += units
        if self.V is not None:
            self.V = self.V + self.outputs_of(theta, self.v, units, outputs)
        return stage

    def _within_radius(self, rho: Array, f: Array) -> Array:
        reach = np.abs(rho) * np.abs(f).max(axis=1)
        return np.where(reach > self.loss.radius, rho * (self.loss.radius / np.maximum(reach, 1e-300)), rho)

    def _scales(self, r: Array) -> Array:
        """The unit in which a stage sees its targets: under the guard their root mean square, so that the ridge and
        the stopping rule mean the same at every stage. Logits share one, as their residuals are commensurable."""
        if self.settings.newton == "published":
            return np.ones(len(r))
        each = np.square(r) @ self.train.w
        if not self.loss.separable:
            each = np.full(len(r), each.mean())
        return np.sqrt(np.where(each > 0.0, each, 1.0))

    def _sampled(self, targets: Array, rng: np.random.Generator) -> tuple[Array, Array, Array, float]:
        """The rows of this stage, drawn without replacement; all of them where `subsample` is 1."""
        rows, n = self.train, self.train.w.size
        count = max(1, round(self.settings.subsample * n))
        if count >= n:
            return self.x, np.ascontiguousarray(targets), rows.w, rows.weight
        drawn = np.sort(rng.permutation(n)[:count])
        w = rows.w[drawn]
        share = float(w.sum())
        return (
            np.ascontiguousarray(self.x[:, drawn]),
            np.ascontiguousarray(targets[:, drawn]),
            w / share,
            rows.weight * share,
        )

    def _fitter(self, units: int, weight: float) -> StageFitter | SignStageFitter:
        settings, published = self.settings, self.settings.newton == "published"
        wanted = StageSettings(
            units=units,
            iterations=settings.stage_iterations,
            tolerance=settings.stage_tolerance,
            # SciPy's stopping rule is relative to at least 1, whatever the targets' unit.
            least_scale=1.0 if published else 0.0,
            ridge=settings.ridge / weight,
            project=not published,
            restarts=settings.restarts,
            candidates=1 if published else settings.candidates,
        )
        current = getattr(self, "_current", None)
        if current is None or current.settings != wanted or current.features != self.x.shape[0]:
            kind = SignStageFitter if settings.signs else StageFitter
            current = kind(wanted, self.x.shape[0], len(self.F))
            self._current = current
        return current

    def _add(self, stage: Stage) -> None:
        """A stage of an earlier run, with the same operations as when it was trained: the same bits."""
        if stage.layer > self.layer:
            self._deepen()
        (units, d), outputs = stage.weights.shape, len(self.F)
        theta = np.concatenate([stage.weights.ravel(), stage.bias, np.empty((units + 1) * outputs)])
        _put(theta, d, units, stage.output, stage.intercept)
        self.F = self.F + self.outputs_of(theta, self.x, units, outputs)
        if self.V is not None:
            self.V = self.V + self.outputs_of(theta, self.v, units, outputs)
        self.in_layer += units

    def _deepen(self) -> None:
        """Freeze the current layer; the next one's units see its activations beside what it saw."""
        own = [stage for stage in self.result.stages if stage.layer == self.layer]
        weights = np.concatenate([stage.weights for stage in own])
        bias = np.concatenate([stage.bias for stage in own])
        self.x = _with_activations(self.x, weights, bias)
        if self.v is not None:
            self.v = _with_activations(self.v, weights, bias)
        self.layer += 1
        self.in_layer = 0

    def _worth_fitting(self, r: Array) -> bool:
        size = _size(r, self.train.w)
        return bool(np.isfinite(size) and size > FITTED * self.first_size and size > 1e-150)

    def _validate(self) -> None:
        if self.validation is not None and self.V is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                values = self.loss.values(self.validation.y, self.V, self.validation.w)
            self.result.validation.append(float(values.mean()))

    def _no_better(self) -> bool:
        patience, losses = self.settings.patience, self.result.validation
        if patience is None or len(losses) <= patience:
            return False
        return not min(losses[-patience:]) < min(losses[:-patience]) - self.settings.tolerance

    def _keep_best(self) -> None:
        best = int(np.nanargmin(self.result.validation))
        del self.result.stages[best:], self.result.losses[best + 1 :], self.result.validation[best + 1 :]

    def _told(self, units: int, wanted: int) -> bool:
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


def _size(r: Array, w: Array) -> float:
    return float(np.sqrt((np.square(r) @ w).mean()))


def _put(theta: Array, d: int, units: int, output: Array, intercept: Array) -> None:
    theta[units * (d + 1) :] = np.concatenate([output.ravel(), intercept])


def _with_activations(x: Array, weights: Array, bias: Array) -> Array:
    """`x` (d, n) with `2σ − 1` of the units below: `(d + u, n)`."""
    from scipy.special import expit

    return np.concatenate([x, 2.0 * expit(weights @ x + bias[:, None]) - 1.0])
