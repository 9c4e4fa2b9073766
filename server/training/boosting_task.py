"""What a worker process does to train a boosted network."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from relaxon.neuromorphic.checkpoints import Checkpoints
from relaxon.server.jobs.records import Json
from relaxon.server.jobs.worker import CHECKPOINT, MODEL, Tell
from relaxon.server.training import labels as classes

KIND = "boosting"
DATA = "data.safetensors"


def run(folder: Path, request: Json, tell: Tell) -> None:
    """Train on the folder's data and save the model into the folder; a ValueError is a refusal of an argument."""
    from safetensors.numpy import load_file

    estimator = estimator_of(request)
    arrays = load_file(folder / DATA)
    target = arrays["target"]
    if request["classes"] is not None:
        target = classes.array(**request["classes"])[target.astype(np.int64)]
    estimator.fit(
        arrays["features"],
        target,
        arrays.get("weights"),
        callback=lambda progress: tell(asdict(progress)),
        checkpoints=Checkpoints(folder / CHECKPOINT, request["checkpoint_seconds"]),
    )
    estimator.save(folder / MODEL)


def estimator_of(request: Json) -> Any:
    """The unfitted estimator; ImportError where the server lacks what it needs."""
    from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor

    parameters = dict(request["parameters"])
    if "layers" in parameters:
        parameters["layers"] = tuple(parameters["layers"])
    made: Any = GradientBoostedNetworkRegressor()
    if request["classes"] is not None:
        made = GradientBoostedNetworkClassifier()
        if request["class_weights"] is not None:
            labels = classes.array(**request["classes"])
            parameters["class_weight"] = dict(zip(labels.tolist(), request["class_weights"], strict=True))
    unknown = sorted(set(parameters) - set(made.get_params()))
    if unknown:
        what = "regression" if request["classes"] is None else "classification"
        raise ValueError(f"{unknown[0]} must not be given for a {what}")
    return made.set_params(**parameters)
