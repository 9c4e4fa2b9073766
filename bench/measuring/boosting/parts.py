"""The parts of `bench/boosting.py` beside the contest: speed, prediction, truncation, J and η.

Everything here runs in one thread, so times are CPU seconds: what else the machine does disturbs them less.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning

from measuring.boosting.contest import UNITS, error
from measuring.boosting.data import DataSet
from relaxon.neuromorphic.boosting import (
    GradientBoostedNetworkClassifier,
    GradientBoostedNetworkRegressor,
    Stage,
    StageProgress,
)
from relaxon.neuromorphic.boosting.stages import reference

ROWS, COLUMNS = 10_000, 20
NOISE = 1.0
REFINED = 300
"""Iterations of L-BFGS on the units of a compressed network."""
COPIES = 3
"""Copies of each row with noise among the rows of a compression."""
RATES, STAGE_UNITS = (0.1, 0.25, 0.5, 1.0), (1, 2, 4, 8)
Record = dict[str, Any]


def speed(repeats: int, units: int) -> Record:
    """CPU seconds to train on 10,000 rows of 20 columns: plain loop, the same algorithm compiled, the guarded default.

    Repeats go round the three, with another seed each time; the median counts. `equal_loss` is the default's time
    until its training loss is the lowest that the plain loop had at any stage of the same round (its last may be
    worse, as nothing guards it). One short run of each goes before.
    """
    from sklearn.datasets import make_friedman1

    X, y = make_friedman1(ROWS, COLUMNS, noise=NOISE, random_state=0)
    Z, unit = (X - X.mean(axis=0)) / X.std(axis=0), float(y.var())
    published = {"newton": "published", "learning_rate": 1.0, "subsample": 0.5}
    for options in (published, {}):
        GradientBoostedNetworkRegressor(2, random_state=0, **options).fit(X, y)
    rounds: list[Record] = []
    for seed in range(repeats):
        since = time.process_time()
        plain = reference.fit_published(Z, y[:, None], "regression", n_units=units, seed=seed)
        row: Record = {"plain": time.process_time() - since, "plain_loss": plain.losses[-1] / unit}
        row["plain_best"] = min(plain.losses) / unit
        since = time.process_time()
        same = GradientBoostedNetworkRegressor(units, random_state=seed, **published).fit(X, y)
        row |= {"compiled": time.process_time() - since, "compiled_loss": float(same.train_loss_[-1]) / unit}
        watch = _Watch(row["plain_best"])
        guarded = GradientBoostedNetworkRegressor(units, random_state=seed).fit(X, y, callback=watch)
        row |= {"guarded": watch.elapsed(), "guarded_loss": float(guarded.train_loss_[-1])}
        row["equal_loss"] = watch.reached
        rounds.append(row)
    medians = {key: statistics.median(row[key] for row in rounds) for key in ("plain", "compiled", "guarded")}
    return {"rows": ROWS, "columns": COLUMNS, "units": units, "rounds": rounds, "medians": medians}


class _Watch:
    """A callback that notes when the training loss is first at the target; it counts from its making."""

    def __init__(self, target: float) -> None:
        self.target, self.since = target, time.process_time()
        self.reached: float | None = None

    def elapsed(self) -> float:
        return time.process_time() - self.since

    def __call__(self, progress: StageProgress) -> None:
        if self.reached is None and progress.loss <= self.target:
            self.reached = self.elapsed()


def prediction(repeats: int, units: int) -> Record:
    """CPU seconds to predict 1, 100 and 10,000 rows: the merged network, and two staged forms.

    `staged` adds up the stages in NumPy alone; `estimators` asks a scikit-learn network for each stage, as the
    published implementation does.
    """
    from sklearn.datasets import make_friedman1

    X, y = make_friedman1(ROWS, COLUMNS, noise=NOISE, random_state=0)
    model = GradientBoostedNetworkRegressor(units, random_state=0).fit(X[:2000], y[:2000])
    network, stages = model.network_, model.stages()

    def staged(x: Any) -> Any:
        z = (x - network.shift) * network.scale
        F = np.tile(network.initial, (len(x), 1))
        for stage in stages:
            F += expit(z @ stage.weights.T + stage.bias) @ stage.output + stage.intercept
        return network.gain * F

    networks = [_network(stage) for stage in stages]

    def estimators(x: Any) -> Any:
        z = (x - network.shift) * network.scale
        F = np.tile(network.initial, (len(x), 1))
        for one in networks:
            F[:, 0] += one.predict(z)
        return network.gain * F

    def single(x: Any) -> Any:
        return network.raw(x, single=True)

    rows = []
    for count in (1, 100, ROWS):
        times: dict[str, list[float]] = {"merged": [], "single": [], "staged": [], "estimators": []}
        inner = max(1, min(10, 2000 // count))
        for _ in range(repeats):
            for name, form in zip(times, (network.raw, single, staged, estimators), strict=True):
                since = time.process_time()
                for _ in range(inner):
                    form(X[:count])
                times[name].append((time.process_time() - since) / inner)
        difference = float(np.abs(network.raw(X[:count]) - staged(X[:count])).max() / y.std())
        off = float(np.abs(single(X[:count]) - network.raw(X[:count])).max() / y.std())
        rows.append(
            {
                "rows": count,
                "single_difference": off,
                **{k: statistics.median(v) for k, v in times.items()},
                "difference": difference,
            }
        )
    return {"units": units, "columns": COLUMNS, "by_rows": rows}


def _network(stage: Stage) -> Any:
    """The stage as a fitted `MLPRegressor`."""
    from sklearn.neural_network import MLPRegressor

    made = MLPRegressor((len(stage.bias),), activation="logistic")
    made.coefs_, made.intercepts_ = [stage.weights.T, stage.output], [stage.bias, stage.intercept]
    made.n_layers_, made.n_outputs_, made.out_activation_ = 3, len(stage.intercept), "identity"
    made.n_features_in_ = stage.weights.shape[1]
    return made


def truncation(data: DataSet, folds: int) -> Record:
    """Mean test error after each number of units, and what dropping the last half of those that there are costs.

    `compressed` has the half that gives the whole network's outputs on the training rows best, `refined` that half
    fitted to them by `REFINED` iterations (`compressed` with `refine`), and `noisy` the same with `COPIES` noisy copies
    of the rows.
    """
    curves, halves, units = [], [], []
    ways: dict[str, dict[str, int]] = {
        "compressed": {},
        "refined": {"refine": REFINED},
        "noisy": {"refine": REFINED, "noisy_copies": COPIES},
    }
    fewer: dict[str, list[float]] = {name: [] for name in ways}
    for fold in islice(data.folds(), folds):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the units that there are, are told
            model = _default(data.task, {}).fit(fold.X, fold.y)
        curve = [error(data.task, predicted, fold.test_y) for predicted in model.staged_predict(fold.test_X)]
        # A run that ended early keeps its last error.
        curves.append(curve + [curve[-1]] * (UNITS - len(curve)))
        halves.append(curve[len(curve) // 2 - 1])
        units.append(len(curve))
        for name, options in ways.items():
            short = model.compressed(fold.X, len(curve) // 2, **options)
            fewer[name].append(error(data.task, short.predict(fold.test_X), fold.test_y))
    mean = np.mean(curves, axis=0)
    half, whole = float(np.mean(halves)), float(mean[-1])
    found = {
        "set": data.name,
        "task": data.task,
        "curve": mean.tolist(),
        "units": statistics.mean(units),
        "half": half,
        "whole": whole,
        "loss": half / whole - 1.0,
    }
    for name, errors in fewer.items():
        found |= {name: float(np.mean(errors)), f"{name}_loss": float(np.mean(errors)) / whole - 1.0}
    return found


def ablation(data: DataSet, folds: int) -> Iterator[Record]:
    """Mean test error and training time for each J and η, guarded and as published."""
    for newton in ("guarded", "published"):
        for J in STAGE_UNITS:
            for rate in RATES:
                errors, seconds = [], []
                for fold in islice(data.folds(), folds):
                    options = {"newton": newton, "units_per_stage": J, "learning_rate": rate}
                    since = time.process_time()
                    model = _default(data.task, options).fit(fold.X, fold.y)
                    seconds.append(time.process_time() - since)
                    errors.append(error(data.task, model.predict(fold.test_X), fold.test_y))
                yield {
                    "set": data.name,
                    "newton": newton,
                    "J": J,
                    "rate": rate,
                    "error": float(np.mean(errors)),
                    "seconds": statistics.median(seconds),
                }


def single(data: DataSet, folds: int, options: Record) -> Record:
    """Mean test error of one configuration, with its standard error over the folds."""
    errors = []
    for fold in islice(data.folds(), folds):
        model = _default(data.task, options).fit(fold.X, fold.y)
        errors.append(error(data.task, model.predict(fold.test_X), fold.test_y))
    spread = statistics.stdev(errors) / len(errors) ** 0.5 if len(errors) > 1 else 0.0
    return {
        "set": data.name,
        "options": options,
        "folds": len(errors),
        "error": statistics.mean(errors),
        "spread": spread,
    }


def _default(task: str, options: Record) -> Any:
    kind = GradientBoostedNetworkRegressor if task == "regression" else GradientBoostedNetworkClassifier
    return kind(UNITS, random_state=0, **options)
