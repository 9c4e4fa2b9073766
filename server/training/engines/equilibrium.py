"""The equilibrium engine: classifiers trained by equilibrium propagation, and comparisons of their gradients.

Imported on first use, for their weight: `relaxon.neuromorphic.equilibrium` (torch), scikit-learn.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.checkpoints import Checkpoints
from relaxon.proto import equilibrium_pb2 as pb
from relaxon.server.gate import errors
from relaxon.server.jobs.folder import CHECKPOINT
from relaxon.server.jobs.model_files import check_classes, check_count
from relaxon.server.jobs.records import Json
from relaxon.server.jobs.worker import MODEL, Tell
from relaxon.server.training import stored_files
from relaxon.server.training.engine import Arrays, TrainingEngine, TrainingPlan, load_later
from relaxon.server.training.limits import MAX_COLUMNS, MAX_LAYERS, check_bytes, check_most
from relaxon.server.training.predictions import METHODS, write_output
from relaxon.server.training.tables import (
    announce_classes,
    announce_column,
    announce_features,
    announce_table,
    check_finite,
    check_places,
    draw_seed,
    read_arrays,
)
from relaxon.wire.conversions import labels
from relaxon.wire.conversions.equilibrium import ENGINE as WIRE
from relaxon.wire.conversions.fields import collect_fields, read_settings, write_fields
from relaxon.wire.conversions.labels import LONGEST_LABEL, MAX_CLASSES

if TYPE_CHECKING:
    from relaxon.neuromorphic.equilibrium import EquilibriumClassifier, Estimator, Relaxation
    from relaxon.server.config.settings import ServerSettings
    from relaxon.server.training.service import Context, TrainingService

TENSORS = WIRE.files[1]
SEQUENCES = ("hidden_sizes", "image", "channels")
"""The parameters that are tuples."""
MAX_EPOCHS = 100_000
MAX_POINTS = 64
"""Points of a contour: the states of all of them are held at once."""
MAX_ESTIMATORS = 32
MAX_BATCH = 4096
"""Rows of a batch: of a training step, or whose gradients are compared."""
MAX_STATES = 10_000
"""Steps of a turn of the nudge, or unrolled steps, whose states are all held."""
DEFAULT_POINTS, DEFAULT_RADIUS = 6, 0.5
RENAMED = {"batch": "batch_size", "rate": "learning_rate", "optimiser": "optimizer"}
"""The classifier's names of three parameters that the engine calls otherwise."""


def plan(header: pb.TrainEquilibriumHeader, settings: ServerSettings) -> TrainingPlan:
    """Return what a header asks for; see `TrainingEngine.plan`."""
    features = announce_table("features", header.features)
    rows, columns = features.shape
    target = announce_column("target", header.target, rows)
    classes = announce_classes(header)
    parameters = {**read_settings(header.settings), "random_state": draw_seed(header.settings)}
    request = {"kind": WIRE.kind, "parameters": parameters, "classes": labels.classes_json(classes)}
    classifier = build_classifier(request)
    _check_size(rows, columns, len(classes), classifier, settings)
    try:
        classifier.check_parameters()
    except (ValueError, TypeError) as error:
        raise _rename_argument(errors.build_refusal(error)) from error

    def check_data(arrays: Arrays) -> None:
        check_finite("features", arrays["features"])
        check_places("target", arrays["target"], len(classes))

    return TrainingPlan({"features": features, "target": target}, request, check_data)


def train(folder: Path, request: Json, tell: Tell) -> None:
    """Train on the data of a job's folder; see `TrainingEngine.train`."""
    from sklearn.exceptions import ConvergenceWarning

    from relaxon.neuromorphic.equilibrium.classifier.storage import save_classifier

    classifier = build_classifier(request)
    arrays = read_arrays(folder, request)
    with warnings.catch_warnings():
        # The stored model says whether training ended early.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(
            arrays["features"],
            arrays["target"],
            watcher=lambda step: tell(_report(step, classifier.epochs)),
            checkpoints=Checkpoints(folder / CHECKPOINT, request["checkpoint_seconds"]),
        )
    save_classifier(classifier, folder / MODEL)


def build_classifier(request: Json) -> EquilibriumClassifier:
    """Return the unfitted classifier of a request; ImportError where the server lacks what it needs."""
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


def _report(step: Any, wanted: int) -> Json | None:
    """Return what to report after a step: None unless it ends an epoch."""
    metrics = step.metrics
    if metrics is None:
        return None
    return collect_fields(pb.EquilibriumProgress, metrics, epoch=metrics.epoch + 1, epochs_wanted=wanted)


def describe(model: EquilibriumClassifier, whole: bool) -> pb.EquilibriumModel:
    """Return the message of a stored model; see `TrainingEngine.describe`."""
    report = model.report_
    message = write_fields(
        pb.EquilibriumModel,
        report,
        model,
        n_features=model.n_features_in_,
        class_count=len(model.classes_),
        hidden_sizes=model.hidden_sizes if model.channels is None else (),
        image=model.image if model.channels is not None else (),
        outcome=pb.EquilibriumOutcome.Value(f"EQUILIBRIUM_OUTCOME_{report.ended.name}"),
    )
    if whole:
        message.classes.CopyFrom(labels.classes_message(model.classes_))
        message.train_loss.extend(epoch.loss for epoch in report.epochs)
        message.train_accuracy.extend(math.nan if one.accuracy is None else one.accuracy for one in report.epochs)
    return message


def check(folder: Path, settings: ServerSettings) -> None:
    """Refuse an uploaded model by what its files say; see `TrainingEngine.check`."""
    description, held = stored_files.read_described(folder, WIRE.files)
    if not isinstance(description, dict) or description.get("kind") not in ("layered", "binary"):
        raise errors.invalid("description", "description must be that of a layered network, of real or binary weights")
    binary = description["kind"] == "binary"
    sizes = description.get("sizes")
    if not isinstance(sizes, list) or not 2 <= len(sizes) <= MAX_LAYERS:
        raise errors.invalid("sizes", f"sizes must be 2 to {MAX_LAYERS} whole numbers")
    for size in sizes:
        check_count("sizes", size, MAX_COLUMNS)
    check_most("units", sum(sizes[1:-1]), settings.max_units)
    # The network is built before its tensors are read into it, so it must be no larger than those.
    entries = sum(above * below for above, below in zip(sizes[1:], sizes[:-1], strict=True))
    stored_files.check_bits(TENSORS, held, "signs." if binary else None)
    held_entries = held.entries() * (8 if binary else 1)
    if entries > held_entries:
        raise errors.invalid("sizes", f"sizes must be those of the tensors, which have {held_entries} entries")
    check_most("bytes", 8 * held_entries, settings.max_table_bytes)
    card = description.get("card")
    classifier = card.get("classifier") if isinstance(card, dict) else None
    if not isinstance(classifier, dict):
        raise errors.invalid("description", "description must have the card of a classifier")
    check_classes("classes", classifier.get("classes"), MAX_CLASSES, LONGEST_LABEL)
    stored_files.check_parameters_card(classifier.get("parameters"))
    for name in ("mean", "scale"):
        values = classifier.get(name)
        if not isinstance(values, list) or len(values) != sizes[0] or not all(type(one) is float for one in values):
            raise errors.invalid(name, f"{name} must be {sizes[0]} floating-point numbers")


async def predict(service: TrainingService, request: Any, context: Context) -> None:
    """Answer a `Predict` call."""
    upload = service.upload(context)
    header: pb.PredictEquilibriumHeader = await upload.header()
    with service.admitted():
        if header.output not in METHODS:
            raise errors.invalid("output", f"output must be a known value, got {header.output}")
        model = await service.run_beside(lambda: service.load(header.model))
        announced = announce_features(header.features, model.n_features_in_, service.settings)
        features = await upload.array("features", announced)
        await upload.end()
        output, relaxed = await service.run_beside(lambda: _relax(model, METHODS[header.output], features))
        await write_output(
            service,
            context,
            output,
            classes=labels.classes_message(model.classes_),
            relaxation=relaxed.outcome.value,
            residual=relaxed.residual,
            steps=relaxed.steps,
        )


def _relax(model: EquilibriumClassifier, method: str, features: NDArray[Any]) -> tuple[NDArray[np.float64], Relaxation]:
    """Return the output that a method of the classifier gives, and how its free phase ended."""
    from relaxon.neuromorphic.equilibrium.classifier.estimator import decision

    check_finite("features", features)
    logits, relaxed = model.relaxed(features)
    if method == "predict":
        output = logits.argmax(1)
    else:
        output = model.to_probabilities(logits) if method == "predict_proba" else decision(logits)
    return np.ascontiguousarray(output, np.float64), relaxed


async def compare_gradients(service: TrainingService, request: Any, context: Context) -> pb.CompareGradientsReply:
    """Answer a `CompareGradients` call; what can be refused is refused before the batch is uploaded."""
    upload = service.upload(context)
    header: pb.CompareGradientsHeader = await upload.header()
    with service.admitted():
        model = await service.run_beside(lambda: service.load(header.model))
        announced = announce_features(header.features, model.n_features_in_, service.settings)
        announced_target = announce_column("target", header.target, announced.shape[0])
        estimators = await service.run_beside(lambda: _build_estimators(header, announced.shape[0]))
        features = await upload.array("features", announced)
        target = await upload.array("target", announced_target)
        await upload.end()
        return await service.run_beside(lambda: _compare(model, estimators, features, target), service.engines)


def _build_estimators(header: pb.CompareGradientsHeader, rows: int) -> list[Estimator]:
    check_most("features", rows, MAX_BATCH, "features' rows")
    if not header.estimators:
        raise errors.invalid("estimators", "estimators must hold at least one, got none")
    check_most("estimators", len(header.estimators), MAX_ESTIMATORS)
    return [_build_estimator(f"estimators[{i}]", one) for i, one in enumerate(header.estimators)]


def _build_estimator(field: str, asked: pb.GradientEstimator) -> Estimator:
    from relaxon.neuromorphic.equilibrium.estimators.registry import build_estimator

    n = asked.n if asked.HasField("n") else DEFAULT_POINTS
    radius = asked.radius if asked.HasField("radius") else DEFAULT_RADIUS
    check_most("estimators", n, MAX_POINTS, f"{field}.n")
    check_most("estimators", asked.steps, MAX_STATES, f"{field}.steps")
    try:
        return build_estimator(asked.name, n, radius, asked.steps if asked.HasField("steps") else None)
    except (ValueError, TypeError) as error:
        raise errors.invalid(field, f"{field}: {error}") from error


def _compare(
    model: EquilibriumClassifier, estimators: list[Estimator], features: NDArray[Any], target: NDArray[Any]
) -> pb.CompareGradientsReply:
    check_finite("features", features)
    check_places("target", target, len(model.classes_))
    with errors.refusing():
        found = model.compare_gradients(features, model.classes_[target.astype(np.int64)], estimators)
    reference, *rows = (write_fields(pb.GradientComparison, row) for row in (found.reference, *found.rows))
    return pb.CompareGradientsReply(reference=reference, rows=rows)


def _check_size(
    rows: int, columns: int, outputs: int, classifier: EquilibriumClassifier, settings: ServerSettings
) -> None:
    """Refuse a run that is too large, before a network is built from the parameters."""
    check_most("features", columns, MAX_COLUMNS, "features' columns")
    check_most("n", classifier.n, MAX_POINTS)
    check_most("batch_size", classifier.batch_size, MAX_BATCH)
    check_most("epochs", classifier.epochs, MAX_EPOCHS)
    check_bytes(rows * (columns + 1), settings)
    if classifier.channels is None:
        if min(classifier.hidden_sizes) < 1:
            raise errors.invalid("hidden_sizes", f"hidden_sizes must be at least 1 each, got {classifier.hidden_sizes}")
        check_most("hidden_sizes", sum(classifier.hidden_sizes), settings.max_units, "hidden_sizes' units")
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
    check_most("shift", classifier.shift, max(image[1:]))
    if classifier.residual:
        _check_residual(outputs, image, channels, settings)
        return
    # Each layer halves both sides; the engine refuses sides that cannot be halved.
    sizes = [count * (image[1] * image[2]) // 4 ** (n + 1) for n, count in enumerate(channels)]
    check_most("channels", sum(sizes), settings.max_units, "channels' units")
    check_most("kernel", classifier.kernel, max(image[1:]))
    pairs = itertools.pairwise((image[0], *channels))
    check_bytes(sum(below * above * classifier.kernel**2 for below, above in pairs) + sizes[-1] * outputs, settings)


def _check_residual(outputs: int, image: Sequence[int], channels: Sequence[int], settings: ServerSettings) -> None:
    """Refuse too large a network of blocks.

    Each block has a layer as large as its input, one of half the sides, and three convolutions.
    """
    units, weights, height, width = 0, 0, image[1], image[2]
    for below, count in itertools.pairwise((image[0], *channels)):
        units += count * height * width
        height, width = -(-height // 2), -(-width // 2)
        last = count * height * width
        units += last
        weights += count * (10 * below + 9 * count)
    check_most("channels", units, settings.max_units, "channels' units")
    check_bytes(weights + last * outputs, settings)


def _rename_argument(error: errors.ServiceError) -> errors.ServiceError:
    """Return the same refusal under the name by which the caller knows the argument."""
    ours, _, rest = error.message.partition(" ")
    return errors.invalid(RENAMED[ours], f"{RENAMED[ours]} {rest}") if ours in RENAMED else error


ENGINE = TrainingEngine(
    module=__name__,
    wire=WIRE,
    training=pb.EquilibriumTraining,
    needs=("torch", "numba", "sklearn", "safetensors"),
    extra="neuromorphic",
    plan=plan,
    train=train,
    step="epoch",
    # The optimisers of torch import its compiler at their first step.
    imports=("relaxon.neuromorphic.equilibrium.classifier.storage", "torch._dynamo"),
    load=load_later("relaxon.neuromorphic.equilibrium.classifier.storage", "load_classifier"),
    describe=describe,
    check=check,
    probe=lambda model: model.predict(np.zeros((1, model.n_features_in_))),
    calls={"Predict": predict, "CompareGradients": compare_gradients},
)
