"""What a worker process does to train a convex network."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from relaxon.server.jobs.records import Json
from relaxon.server.jobs.worker import MODEL, Tell
from relaxon.server.training import labels as classes

if TYPE_CHECKING:
    from relaxon.neuromorphic.convex import ConvexProgress

KIND = "convex"
DATA = "data.safetensors"


def run(folder: Path, request: Json, tell: Tell) -> None:
    """Train on the folder's data and save the model into the folder; a ValueError is a refusal of an argument.

    There is no checkpoint: a run that was cut off begins anew from its seed, tells of no report twice, and ends with
    the same bits.
    """
    from safetensors.numpy import load_file

    estimator = estimator_of(request)
    arrays = load_file(folder / DATA)
    target = arrays["target"]
    if request["classes"] is not None:
        target = classes.array(**request["classes"])[target.astype(np.int64)]
    since, reports = time.perf_counter(), 0

    def watch(progress: ConvexProgress) -> bool:
        nonlocal reports
        reports += 1
        return tell(report(progress, reports, time.perf_counter() - since))

    estimator.fit(arrays["features"], target, arrays.get("weights"), callback=watch)
    estimator.save(folder / MODEL)


def estimator_of(request: Json) -> Any:
    """The unfitted estimator; ImportError where the server lacks what it needs."""
    from relaxon.neuromorphic.convex import ConvexNetworkClassifier, ConvexNetworkRegressor

    made: Any = ConvexNetworkRegressor() if request["classes"] is None else ConvexNetworkClassifier()
    return made.set_params(**request["parameters"])


def report(progress: ConvexProgress, number: int, seconds: float) -> dict[str, Any]:
    """Return what the server is told of the best bounds so far."""
    return {
        "report": number,
        "iteration": progress.iteration,
        "primal": progress.primal,
        "dual": progress.dual,
        "relative_gap": progress.relative_gap,
        "primal_residual": progress.primal_residual,
        "dual_residual": progress.dual_residual,
        "seconds": seconds,
    }
