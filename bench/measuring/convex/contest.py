"""The contest of `bench/convex.py`: the convex network beside the boosted network and scikit-learn's MLP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from measuring.boosting import contest as boosting_contest
from measuring.boosting import data

Record = dict[str, Any]
PATTERNS, REFINEMENTS, TOLERANCE, ITERATIONS = 50, 3, 1e-2, 300


def _convex(task: str, options: Record) -> Any:
    from relaxon.neuromorphic.convex import ConvexNetworkClassifier, ConvexNetworkRegressor

    kind = ConvexNetworkRegressor if task == "regression" else ConvexNetworkClassifier
    settings = {"refinements": REFINEMENTS, "tol": TOLERANCE, "max_iter": ITERATIONS, "certificate_draws": 0}
    return kind(PATTERNS, random_state=0, **settings, **options)


CONVEX = boosting_contest.Model("convex network", _convex, tuple({"beta": beta} for beta in (0.001, 0.003, 0.01, 0.03)))
QUICK_SETS = ("wine", "heart", "sonar", "diabetes", "pima", "friedman1")
MODELS = (CONVEX, *(model for model in boosting_contest.MODELS if model.name in ("boosted network", "MLP")))


def rows(files: Record, sets: Sequence[str] | None, folds: int, done: set[str]) -> Iterator[Record]:
    """Yield the result of each model on each fold, but for those done."""
    for name in sets or (*data.NAMES, *files):
        chosen = data.data_set(name, files)
        for index, fold in enumerate(islice(chosen.folds(), folds)):
            for model in MODELS:
                label = f"{name}, fold {index}, {model.name}"
                if label not in done:
                    yield {"name": label, **boosting_contest.run(model, chosen, index, fold)}


def file_argument(text: str) -> tuple[str, tuple[Path, str]]:
    """Return the name, path and target of `NAME=FILE:TARGET`."""
    name, _, rest = text.partition("=")
    path, _, target = rest.rpartition(":")
    if not (name and path and target):
        raise ValueError(f"--csv must be NAME=FILE:TARGET, got {text!r}")
    return name, (Path(path), target)
