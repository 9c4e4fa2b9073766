"""The models of `bench/boosting.py`, each with four configurations, and the run of one on one fold."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from measuring.boosting.data import DataSet, Fold

UNITS = 200
SHARE = 0.2
"""Of a fold's training rows, to choose the configuration on; the chosen one is trained anew on all of them."""
MLP_EPOCHS = 300
REPEATS = 3
"""Of a prediction's time; the fastest counts."""
Options = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Model:
    """A rival: how one is made for a task, its four configurations, the package it comes from."""

    name: str
    make: Callable[[str, Options], Any]
    grid: tuple[Options, ...]
    package: str = "sklearn"
    encodes: bool = False
    """Whether it takes the labels 0, 1, … only."""

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None


def _ours(task: str, options: Options) -> Any:
    from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor

    kind = GradientBoostedNetworkRegressor if task == "regression" else GradientBoostedNetworkClassifier
    return kind(UNITS, random_state=0, **options)


def _published(task: str, options: Options) -> Any:
    return _ours(task, {"newton": "published", **options})


def _mlp(task: str, options: Options) -> Any:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    settings = {"hidden_layer_sizes": (UNITS,), "max_iter": MLP_EPOCHS, "random_state": 0, **options}
    if task == "classification":
        return make_pipeline(StandardScaler(), MLPClassifier(**settings))
    # Without a standardised target its default learning rate gets nowhere on large numbers.
    network = TransformedTargetRegressor(MLPRegressor(**settings), transformer=StandardScaler())
    return make_pipeline(StandardScaler(), network)


def _histogram(task: str, options: Options) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    return kind(max_iter=UNITS, early_stopping=False, random_state=0, **options)


def _xgboost(task: str, options: Options) -> Any:
    import xgboost

    kind = xgboost.XGBRegressor if task == "regression" else xgboost.XGBClassifier
    return kind(n_estimators=UNITS, n_jobs=1, random_state=0, **options)


def _lightgbm(task: str, options: Options) -> Any:
    import lightgbm

    kind = lightgbm.LGBMRegressor if task == "regression" else lightgbm.LGBMClassifier
    return kind(n_estimators=UNITS, n_jobs=1, random_state=0, verbose=-1, **options)


def _catboost(task: str, options: Options) -> Any:
    import catboost

    kind = catboost.CatBoostRegressor if task == "regression" else catboost.CatBoostClassifier
    fixed = {"iterations": UNITS, "thread_count": 1, "random_seed": 0, "verbose": False, "allow_writing_files": False}
    return _Flat(kind(**fixed, **options))


class _Flat:
    """CatBoost's classes come as a column; here as `(n,)`."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def fit(self, X: Any, y: Any) -> Any:
        self.model.fit(X, y)
        return self

    def predict(self, X: Any) -> Any:
        return np.ravel(self.model.predict(X))


def _pytabkit(name: str) -> Callable[[str, Options], Any]:
    def make(task: str, options: Options) -> Any:
        from pytabkit.models.sklearn import sklearn_interfaces

        kind = getattr(sklearn_interfaces, f"{name}{'Regressor' if task == 'regression' else 'Classifier'}")
        return kind(device="cpu", random_state=0, n_threads=1, **options)

    return make


MODELS = (
    Model(
        "boosted network",
        _ours,
        (
            {"units_per_stage": 1, "learning_rate": 0.1, "ridge": 0.1, "subsample": 1.0},
            {"units_per_stage": 4, "learning_rate": 0.25, "ridge": 0.1, "subsample": 1.0},
            {"units_per_stage": 4, "learning_rate": 0.1, "ridge": 0.03, "subsample": 1.0},
            {"units_per_stage": 50, "learning_rate": 0.5, "ridge": 1.0, "subsample": 1.0},
        ),
    ),
    Model(
        "as published",
        _published,
        tuple({"units_per_stage": J, "learning_rate": eta} for J in (1, 4) for eta in (0.5, 1.0)),
    ),
    Model(
        "MLP",
        _mlp,
        ({"alpha": 1e-4}, {"alpha": 0.1}, {"alpha": 1.0}, {"alpha": 1.0, "solver": "lbfgs"}),
    ),
    Model(
        "HistGradientBoosting",
        _histogram,
        tuple({"learning_rate": rate, "max_leaf_nodes": leaves} for rate in (0.05, 0.2) for leaves in (7, 31)),
    ),
    Model(
        "XGBoost",
        _xgboost,
        tuple({"learning_rate": rate, "max_depth": depth} for rate in (0.05, 0.2) for depth in (3, 6)),
        package="xgboost",
        encodes=True,
    ),
    Model(
        "LightGBM",
        _lightgbm,
        tuple({"learning_rate": rate, "num_leaves": leaves} for rate in (0.05, 0.2) for leaves in (7, 31)),
        package="lightgbm",
        encodes=True,
    ),
    Model(
        "CatBoost",
        _catboost,
        tuple({"learning_rate": rate, "depth": depth} for rate in (0.05, 0.2) for depth in (4, 6)),
        package="catboost",
        encodes=True,
    ),
    # These choose their own time to stop on a fifth of the rows; two configurations, as an epoch takes them long.
    Model("RealMLP", _pytabkit("RealMLP_TD_"), ({"n_epochs": 64}, {"n_epochs": 256}), package="pytabkit", encodes=True),
    Model("TabM", _pytabkit("TabM_D_"), ({"n_epochs": 50}, {"n_epochs": 200}), package="pytabkit", encodes=True),
)


def run(model: Model, data: DataSet, index: int, fold: Fold) -> dict[str, Any]:
    """Choose a configuration on a part of the training rows, train it on all, judge it on the fold's other rows."""
    labels, y, test_y = None, fold.y, fold.test_y
    if data.task == "classification":
        labels = fold.y
        if model.encodes:
            classes = np.unique(np.concatenate([fold.y, fold.test_y]))
            y, test_y = np.searchsorted(classes, fold.y), np.searchsorted(classes, fold.test_y)
    train, held = held_out(len(fold.X), labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an MLP that has not converged is judged as it is
        errors, cpu = [], [time.process_time()]
        for options in model.grid:
            fitted = model.make(data.task, options).fit(fold.X[train], y[train])
            errors.append(error(data.task, fitted.predict(fold.X[held]), y[held]))
        chosen = int(np.argmin(errors))
        cpu.append(time.process_time())
        since = time.perf_counter()
        fitted = model.make(data.task, model.grid[chosen]).fit(fold.X, y)
        train_seconds = time.perf_counter() - since
        cpu.append(time.process_time())
        predict_seconds = np.inf
        for _ in range(REPEATS):
            since = time.perf_counter()
            predicted = fitted.predict(fold.test_X)
            predict_seconds = min(predict_seconds, time.perf_counter() - since)
    return {
        "set": data.name,
        "task": data.task,
        "model": model.name,
        "fold": index,
        "chosen": chosen,
        "error": error(data.task, predicted, test_y),
        "train_seconds": train_seconds,
        "choice_cpu_seconds": cpu[1] - cpu[0],
        "train_cpu_seconds": cpu[2] - cpu[1],
        "predict_seconds": predict_seconds,
    }


def error(task: str, predicted: NDArray[Any], y: NDArray[Any]) -> float:
    """The share of wrong labels, or the root mean square error."""
    if task == "classification":
        return float(np.mean(predicted != y))
    return float(np.sqrt(np.mean(np.square(predicted - y))))


def held_out(n: int, labels: NDArray[Any] | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train a configuration on, and rows to choose by."""
    from sklearn.model_selection import train_test_split

    train, held = train_test_split(np.arange(n), test_size=SHARE, random_state=0, stratify=labels)
    return train, held
