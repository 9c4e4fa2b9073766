"""The ridge's default on held-out rows: trained on four fifths of a fold's training rows, judged on the rest.

A fold's own test rows are not looked at. `Loss` is what training lowers (½ mean squared error in units of the target's
variance, or the mean log-loss), which tells values apart where error rates are equal.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from measuring.boosting.contest import UNITS, error, held_out
from measuring.boosting.data import DataSet
from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor

Record = dict[str, Any]
RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
DEFAULT = 0.1
LEAST_PROBABILITY = 1e-15


def rows(data: DataSet, folds: int) -> Iterator[Record]:
    """Held-out error and loss, units and CPU seconds of each ridge on each fold."""
    kind: Any = GradientBoostedNetworkRegressor if data.task == "regression" else GradientBoostedNetworkClassifier
    for index, fold in enumerate(islice(data.folds(), folds)):
        train, held = held_out(len(fold.X), fold.y if data.task == "classification" else None)
        for ridge in RIDGES:
            since = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # where a ridge ends training is in the row
                model = kind(UNITS, ridge=ridge, random_state=0).fit(fold.X[train], fold.y[train])
            seconds = time.process_time() - since
            yield {
                "set": data.name,
                "fold": index,
                "ridge": ridge,
                "error": error(data.task, model.predict(fold.X[held]), fold.y[held]),
                "loss": _loss(model, fold.X[held], fold.y[held], float(np.var(fold.y)) if _numbers(data) else 1.0),
                "units": model.n_units_,
                "outcome": model.outcome_.value,
                "cpu_seconds": seconds,
            }


def means(found: list[Record]) -> dict[str, dict[float, dict[str, float]]]:
    """The mean over folds of each figure, by set and ridge."""
    made: dict[str, dict[float, dict[str, float]]] = {}
    for name in dict.fromkeys(row["set"] for row in found):
        made[name] = {}
        for ridge in dict.fromkeys(row["ridge"] for row in found):
            own = [row for row in found if row["set"] == name and row["ridge"] == ridge]
            made[name][ridge] = {
                key: statistics.mean(row[key] for row in own) for key in ("error", "loss", "units", "cpu_seconds")
            }
    return made


def verdicts(found: list[Record]) -> Iterator[str]:
    """Each ridge's mean rank by held-out loss and by error, and its geometric mean ratios to the default's."""
    by_set = means(found)
    ridges = list(dict.fromkeys(row["ridge"] for row in found))
    for key in ("loss", "error"):
        table = np.array([[by_set[name][ridge][key] for ridge in ridges] for name in by_set])
        floor = np.maximum(table, 1e-3)
        ratios = np.exp(np.log(floor / floor[:, [ridges.index(DEFAULT)]]).mean(axis=0))
        ranks = np.array([_ranks(row) for row in table]).mean(axis=0)
        told = ", ".join(f"{r:g}: rank {k:.2f}, {q:.3f}" for r, k, q in zip(ridges, ranks, ratios, strict=True))
        yield f"held-out {key} over {len(by_set)} sets, mean rank and ratio to ridge {DEFAULT:g}: {told}"


def _ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values))


def _numbers(data: DataSet) -> bool:
    return data.task == "regression"


def _loss(model: Any, X: np.ndarray[Any, Any], y: np.ndarray[Any, Any], variance: float) -> float:
    if not hasattr(model, "classes_"):
        return float(0.5 * np.mean(np.square(model.predict(X) - y)) / variance)
    chosen = model.predict_proba(X)[np.arange(len(y)), np.searchsorted(model.classes_, y)]
    return float(-np.log(np.maximum(chosen, LEAST_PROBABILITY)).mean())
