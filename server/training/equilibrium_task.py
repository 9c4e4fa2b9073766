"""What a worker process does to train a classifier by equilibrium propagation."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from relaxon.neuromorphic.checkpoints import Checkpoints
from relaxon.server.jobs.records import Json
from relaxon.server.jobs.worker import CHECKPOINT, MODEL, Tell
from relaxon.server.training import labels as classes

if TYPE_CHECKING:
    from relaxon.neuromorphic.equilibrium import EquilibriumClassifier

KIND = "equilibrium"
DATA = "data.safetensors"
SEQUENCES = ("hidden_sizes", "image", "channels")
"""Parameters that are tuples."""


def run(folder: Path, request: Json, tell: Tell) -> None:
    """Train on the folder's data and save the model into the folder; a ValueError is a refusal of an argument."""
    from safetensors.numpy import load_file
    from sklearn.exceptions import ConvergenceWarning

    from relaxon.neuromorphic.equilibrium.classifier.storage import save_classifier

    classifier = classifier_of(request)
    arrays = load_file(folder / DATA)
    target = classes.array(**request["classes"])[arrays["target"].astype(np.int64)]
    with warnings.catch_warnings():
        # That training ended early is told in the model.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(
            arrays["features"],
            target,
            watcher=lambda step: tell(_epoch(step, classifier.epochs)),
            checkpoints=Checkpoints(folder / CHECKPOINT, request["checkpoint_seconds"]),
        )
    save_classifier(classifier, folder / MODEL)


def classifier_of(request: Json) -> EquilibriumClassifier:
    """The unfitted classifier; ImportError where the server lacks what it needs."""
    from relaxon.neuromorphic.equilibrium import EquilibriumClassifier

    parameters = dict(request["parameters"])
    for name in SEQUENCES:
        if name in parameters:
            parameters[name] = tuple(parameters[name])
    for name in ("contraction", "readout_bound"):
        if parameters.get(name) == 0:
            parameters[name] = None
    made: EquilibriumClassifier = EquilibriumClassifier().set_params(**parameters)
    return made


def _epoch(step: Any, wanted: int) -> Json | None:
    """What to tell after a step: nothing but at the end of an epoch."""
    metrics = step.metrics
    if metrics is None:
        return None
    return {
        "epoch": metrics.epoch + 1,
        "epochs_wanted": wanted,
        "loss": metrics.loss,
        "accuracy": metrics.accuracy,
        "free_steps": metrics.free_steps,
        "nudged_steps": metrics.nudged_steps,
        "verdicts": metrics.verdicts,
        "seconds": metrics.seconds,
    }
