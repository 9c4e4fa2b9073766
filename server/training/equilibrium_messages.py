"""The messages of `equilibrium.proto` as arguments of the engine, checked before arrays are uploaded, and back."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.tensor_files import write_tensors
from relaxon.proto import equilibrium_pb2 as pb
from relaxon.proto import tensor_pb2
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors
from relaxon.server.gate.announced import AnnouncedArray
from relaxon.server.jobs.folder import REQUEST
from relaxon.server.jobs.operations_service import job_message, timestamp
from relaxon.server.jobs.records import Job, Json
from relaxon.server.training import labels as classes
from relaxon.server.training.boosting_messages import MAX_COLUMNS, check_bytes, check_finite, seed, table
from relaxon.server.training.equilibrium_task import DATA, KIND, SEQUENCES, classifier_of

if TYPE_CHECKING:
    from relaxon.neuromorphic.equilibrium import EquilibriumClassifier, Estimator
    from relaxon.neuromorphic.equilibrium.estimators.comparison import ComparisonRow

MAX_EPOCHS = 100_000
MAX_POINTS = 64
"""Of a contour: the states of all of them are held at once."""
MAX_ESTIMATORS = 32
MAX_BATCH = 4096
"""Rows of a batch whose gradients are compared, or of a step of training."""
MAX_STEPS = 10_000
"""Of a turn of the nudge, or unrolled, whose states are all held."""
DEFAULT_POINTS, DEFAULT_RADIUS = 6, 0.5
RENAMED = {"batch": "batch_size", "rate": "learning_rate", "optimiser": "optimizer"}
"""The engine's own names for three of the classifier's parameters."""
OUTPUTS = {
    pb.EQUILIBRIUM_OUTPUT_UNSPECIFIED: "prediction",
    pb.EQUILIBRIUM_OUTPUT_PREDICTION: "prediction",
    pb.EQUILIBRIUM_OUTPUT_PROBABILITIES: "probabilities",
    pb.EQUILIBRIUM_OUTPUT_DECISION: "decision",
}


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """A training run as its header describes it."""

    features: AnnouncedArray
    target: AnnouncedArray
    labels: NDArray[Any]
    request: Json

    def write(self, folder: Path, features: NDArray[Any], target: NDArray[Any]) -> None:
        """Put the request and its data, which are checked first, where the worker process reads them."""
        check_finite("features", features)
        check_places("target", target, len(self.labels))
        folder.mkdir()
        write_tensors(folder / DATA, {"features": features, "target": target})
        (folder / REQUEST).write_text(json.dumps(self.request), encoding="utf-8")


def plan(header: pb.TrainEquilibriumHeader, settings: ServerSettings) -> TrainPlan:
    """What a header asks for; INVALID_ARGUMENT naming the argument, RESOURCE_EXHAUSTED where it is too large."""
    features = table("features", header.features)
    rows, columns = features.shape
    target = _target(header.target, rows)
    labels = classes.checked("classes", header.classes)
    classes.check_several("classes", labels)
    given: dict[str, Any] = {descriptor.name: value for descriptor, value in header.settings.ListFields()}
    given["random_state"] = seed(header.settings)
    for name in SEQUENCES:
        if name in given:
            given[name] = list(given[name])
    request = {"kind": KIND, "parameters": given, "classes": classes.as_json(labels)}
    classifier = classifier_of(request)
    _check_size(rows, columns, len(labels), classifier, settings)
    try:
        classifier.check_parameters()
    except (ValueError, TypeError) as error:
        raise _renamed(errors.refused(error)) from error
    return TrainPlan(features, target, labels, request)


def check_places(name: str, places: NDArray[Any], count: int) -> None:
    """INVALID_ARGUMENT where an entry is no class's place."""
    check_finite(name, places)
    if not ((places == np.floor(places)) & (places >= 0) & (places < count)).all():
        raise errors.invalid(name, f"{name} must hold places among the {count} classes, from 0")


def features_of(header: tensor_pb2.TensorHeader, columns: int, settings: ServerSettings) -> AnnouncedArray:
    """The announced rows; INVALID_ARGUMENT where they are not the model's, RESOURCE_EXHAUSTED where too many."""
    features = table("features", header)
    if features.shape[1] != columns:
        raise errors.invalid("features", f"features must have the model's {columns} columns, got {features.shape[1]}")
    check_bytes(math.prod(features.shape), settings)
    return features


@dataclass(frozen=True, slots=True)
class ComparisonPlan:
    """A comparison as its header describes it."""

    features: AnnouncedArray
    target: AnnouncedArray
    estimators: list[Estimator]


def comparison(
    header: pb.CompareGradientsHeader, classifier: EquilibriumClassifier, settings: ServerSettings
) -> ComparisonPlan:
    """The batch and the estimators that a header asks for; refused before the batch is uploaded."""
    features = features_of(header.features, classifier.n_features_in_, settings)
    target = _target(header.target, features.shape[0])
    _at_most("features", features.shape[0], MAX_BATCH, "features' rows")
    if not header.estimators:
        raise errors.invalid("estimators", "estimators must hold at least one, got none")
    _at_most("estimators", len(header.estimators), MAX_ESTIMATORS)
    return ComparisonPlan(features, target, [_estimator(i, one) for i, one in enumerate(header.estimators)])


def comparison_row(row: ComparisonRow) -> pb.GradientComparison:
    """An estimator's row."""
    return pb.GradientComparison(
        estimator=row.estimator,
        cosine=row.cosine,
        angle=row.angle,
        relative_error=row.relative_error,
        truncation=row.truncation,
        verdict=row.verdict.value,
        message=row.message,
        evaluations=row.evaluations,
        seconds=row.seconds,
    )


def model_message(
    name: str, created: float, classifier: EquilibriumClassifier, whole: bool = True
) -> pb.EquilibriumModel:
    """A stored model; `whole` with the fields that can be long."""
    report = classifier.report_
    message = pb.EquilibriumModel(
        name=name,
        create_time=timestamp(created),
        n_features=classifier.n_features_in_,
        class_count=len(classifier.classes_),
        hidden_sizes=classifier.hidden_sizes if classifier.channels is None else (),
        image=classifier.image if classifier.channels is not None else (),
        channels=classifier.channels or (),
        activation=classifier.activation,
        feedback=classifier.feedback,
        outcome=pb.EquilibriumOutcome.Value(f"EQUILIBRIUM_OUTCOME_{report.ended.name}"),
        steps=report.steps,
        message=report.message,
        binary=classifier.binary,
        loss=classifier.loss,
        optimizer=classifier.optimizer,
        residual=classifier.residual,
    )
    if whole:
        message.classes.CopyFrom(classes.of(classifier.classes_))
        message.train_loss.extend(epoch.loss for epoch in report.epochs)
        message.train_accuracy.extend(math.nan if one.accuracy is None else one.accuracy for one in report.epochs)
    return message


def progress_message(progress: Json) -> pb.EquilibriumProgress:
    """What a worker process said after an epoch."""
    return pb.EquilibriumProgress(**progress)


def metadata(job: Job, newest: Json | None) -> pb.EquilibriumTraining:
    """The metadata of a job's operation."""
    return pb.EquilibriumTraining(job=job_message(job), progress=None if newest is None else progress_message(newest))


def _estimator(index: int, asked: pb.GradientEstimator) -> Estimator:
    from relaxon.neuromorphic.equilibrium.estimators.registry import build_estimator

    field = f"estimators[{index}]"
    n = asked.n if asked.HasField("n") else DEFAULT_POINTS
    radius = asked.radius if asked.HasField("radius") else DEFAULT_RADIUS
    _at_most("estimators", n, MAX_POINTS, f"{field}.n")
    _at_most("estimators", asked.steps, MAX_STEPS, f"{field}.steps")
    try:
        return build_estimator(asked.name, n, radius, asked.steps if asked.HasField("steps") else None)
    except (ValueError, TypeError) as error:
        raise errors.invalid(field, f"{field}: {error}") from error


def _target(header: tensor_pb2.TensorHeader, rows: int) -> AnnouncedArray:
    target = AnnouncedArray.of("target", header)
    if target.shape != (rows,):
        raise errors.invalid("target", f"target must have shape ({rows},), got {target.shape}")
    return target


def _check_size(
    rows: int, columns: int, outputs: int, classifier: EquilibriumClassifier, settings: ServerSettings
) -> None:
    """Before anything is made of the parameters: a network of that many units, say."""
    _at_most("features", columns, MAX_COLUMNS, "features' columns")
    _at_most("n", classifier.n, MAX_POINTS)
    _at_most("batch_size", classifier.batch_size, MAX_BATCH)
    _at_most("epochs", classifier.epochs, MAX_EPOCHS)
    check_bytes(rows * (columns + 1), settings)
    if classifier.channels is None:
        if min(classifier.hidden_sizes) < 1:
            raise errors.invalid("hidden_sizes", f"hidden_sizes must be at least 1 each, got {classifier.hidden_sizes}")
        _at_most("hidden_sizes", sum(classifier.hidden_sizes), settings.max_units, "hidden_sizes' units")
        sizes = (columns, *classifier.hidden_sizes, outputs)
        check_bytes(sum(below * above for below, above in itertools.pairwise(sizes)), settings)
        return
    _check_convolution(columns, outputs, classifier, settings)


def _check_convolution(columns: int, outputs: int, classifier: EquilibriumClassifier, settings: ServerSettings) -> None:
    image, channels = classifier.image or (), classifier.channels or ()
    if len(image) != 3 or min(image) < 1 or math.prod(image) != columns:
        raise errors.invalid("image", f"image must be channels, height and width of {columns} columns, got {image}")
    if min(channels) < 1:
        raise errors.invalid("channels", f"channels must be at least 1 each, got {channels}")
    _at_most("shift", classifier.shift, max(image[1:]))
    if classifier.residual:
        _check_residual(outputs, image, channels, settings)
        return
    # Each layer halves both sides; the engine refuses those that cannot be.
    sizes = [count * (image[1] * image[2]) // 4 ** (n + 1) for n, count in enumerate(channels)]
    _at_most("channels", sum(sizes), settings.max_units, "channels' units")
    _at_most("kernel", classifier.kernel, max(image[1:]))
    pairs = itertools.pairwise((image[0], *channels))
    check_bytes(sum(below * above * classifier.kernel**2 for below, above in pairs) + sizes[-1] * outputs, settings)


def _check_residual(outputs: int, image: Sequence[int], channels: Sequence[int], settings: ServerSettings) -> None:
    """Each block has a layer as large as what it gets and one of half the sides, and three convolutions."""
    units, weights, height, width = 0, 0, image[1], image[2]
    for below, count in itertools.pairwise((image[0], *channels)):
        units += count * height * width
        height, width = -(-height // 2), -(-width // 2)
        last = count * height * width
        units += last
        weights += count * (10 * below + 9 * count)
    _at_most("channels", units, settings.max_units, "channels' units")
    check_bytes(weights + last * outputs, settings)


def _at_most(field: str, value: int, most: int, words: str = "") -> None:
    if value > most:
        raise errors.exhausted(field, f"{words or field} must be at most {most} here, got {value}")


def _renamed(error: errors.ServiceError) -> errors.ServiceError:
    """The same refusal under the name that the caller knows the argument by."""
    ours, _, rest = error.message.partition(" ")
    return errors.invalid(RENAMED[ours], f"{RENAMED[ours]} {rest}") if ours in RENAMED else error
