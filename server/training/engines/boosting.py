"""The boosting engine: networks that grow unit by unit, trained on tables.

Imported on first use, for their weight: the estimators of `relaxon.neuromorphic.boosting`, safetensors.
"""

from __future__ import annotations

import math
import secrets
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.unseen_categories import collect_unseen
from relaxon.neuromorphic.checkpoints import Checkpoints
from relaxon.proto import boosting_pb2 as pb
from relaxon.server.gate import errors
from relaxon.server.jobs.folder import CHECKPOINT
from relaxon.server.jobs.model_files import check_count, read_safetensors
from relaxon.server.jobs.records import Json
from relaxon.server.jobs.worker import MODEL, Tell
from relaxon.server.training import stored_files
from relaxon.server.training.engine import TrainingEngine, TrainingPlan, load_later
from relaxon.server.training.limits import MAX_COLUMNS, MAX_LAYERS, MAX_OUTPUTS, check_bytes, check_most
from relaxon.server.training.predictions import answer_rows, collect_supervised_fields
from relaxon.server.training.tables import announce_rows, draw_seed, read_arrays
from relaxon.wire.conversions import labels
from relaxon.wire.conversions.boosting import ENGINE as WIRE
from relaxon.wire.conversions.fields import read_settings

if TYPE_CHECKING:
    from relaxon.neuromorphic.boosting.storage import Estimator
    from relaxon.server.config.settings import ServerSettings
    from relaxon.server.training.service import Context, TrainingService

TENSORS = WIRE.files[1]
MAX_STARTS = 1000
"""Restarts, and candidates, of a stage: all of them are held at once."""
MAX_BITS = 64
"""Bits of the code by which units of signs see a column."""


def plan(header: pb.TrainBoostingHeader, settings: ServerSettings) -> TrainingPlan:
    """Return what a header asks for; see `TrainingEngine.plan`."""
    rows = announce_rows(header)
    parameters = {**_parameters(header.settings), "random_state": draw_seed(header.settings)}
    request = {
        "kind": WIRE.kind,
        "parameters": parameters,
        "classes": rows.classes,
        "class_weights": _class_weights(header.settings, rows.labels),
    }
    with errors.refusing():
        estimator = build_estimator(request)
        estimator.check_parameters()
        # Two classes have one output, and weights of 0 may leave two of more.
        weighted = rows.weights is not None or request["class_weights"] is not None
        single = rows.labels is not None and (rows.outputs == 2 or weighted)
        estimator.check_columns(rows.features.shape[1], 1 if single else rows.outputs)
    count, columns = rows.features.shape
    _check_size(count, columns, rows.outputs, estimator, settings)
    missing = parameters.get("missing", "refuse") != "refuse"
    return TrainingPlan(rows.arrays, request, lambda arrays: rows.check(arrays, missing))


def train(folder: Path, request: Json, tell: Tell) -> None:
    """Train on the data of a job's folder; see `TrainingEngine.train`."""
    estimator = build_estimator(request)
    arrays = read_arrays(folder, request)
    estimator.fit(
        arrays["features"],
        arrays["target"],
        arrays.get("weights"),
        callback=lambda progress: tell(asdict(progress)),
        checkpoints=Checkpoints(folder / CHECKPOINT, request["checkpoint_seconds"]),
    )
    estimator.save(folder / MODEL)


def build_estimator(request: Json) -> Any:
    """Return the unfitted estimator of a request; ImportError where the server lacks what it needs."""
    from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor

    parameters = dict(request["parameters"])
    if "layers" in parameters:
        parameters["layers"] = tuple(parameters["layers"])
    made: Any = GradientBoostedNetworkRegressor()
    if request["classes"] is not None:
        made = GradientBoostedNetworkClassifier()
        if request["class_weights"] is not None:
            classes = labels.labels_array(**request["classes"])
            parameters["class_weight"] = dict(zip(classes.tolist(), request["class_weights"], strict=True))
    unknown = sorted(set(parameters) - set(made.get_params()))
    if unknown:
        what = "regression" if request["classes"] is None else "classification"
        raise ValueError(f"{unknown[0]} must not be given for a {what}")
    return made.set_params(**parameters)


def describe(model: Estimator, whole: bool) -> pb.BoostingModel:
    """Return the message of a stored model; see `TrainingEngine.describe`."""
    network = model.network_
    message = pb.BoostingModel(
        **collect_supervised_fields(model, network.outputs, whole),
        units=network.units,
        stages=network.stages,
        hidden_layers=len(network.layers),
        loss=model.loss,
        binary=bool(model.binary),
        outcome=pb.BoostingOutcome.Value(f"BOOSTING_OUTCOME_{model.outcome_.name}"),
    )
    if whole:
        message.ends.extend(network.ends.tolist())
        message.train_loss.extend(model.train_loss_.tolist())
        message.validation_loss.extend(model.validation_loss_.tolist())
        message.feature_importances.extend(model.feature_importances_.tolist())
    return message


def check(folder: Path, settings: ServerSettings) -> None:
    """Refuse an uploaded model by what its files say; see `TrainingEngine.check`."""
    card, _ = stored_files.read_card(folder)
    held = read_safetensors(TENSORS, folder / TENSORS)
    layers = check_count("hidden_layers", card.get("hidden_layers"), MAX_LAYERS)
    flat = ["shift", "scale", "initial", "gain", "sizes", "unit", "train_loss", "validation_loss", "importances"]
    axes = dict.fromkeys(flat + [f"bias_{index}" for index in range(layers)], 1)
    axes |= dict.fromkeys(["output", "intercepts"] + [f"weights_{index}" for index in range(layers)], 2)
    other = {"sizes": "I64"}
    if "indicated" in held.tensors:  # the columns whose missing inputs are indicated; older models have none
        axes["indicated"], other["indicated"] = 1, "I64"
    means = sum(name.startswith("category_means_") for name in held.tensors)
    axes |= {f"category_means_{index}": 2 for index in range(means)}
    if "thresholds" in held.tensors:
        # Units of signs: their weights are bits, and a row's code has as many bits as there are thresholds.
        axes["thresholds"] = 2
        other |= {f"weights_{index}": "U8" for index in range(layers)}
    stored_files.check_tensors(TENSORS, held, axes, other)
    units = sum(held.tensors[f"bias_{index}"][1][0] for index in range(layers))
    if "thresholds" in held.tensors:
        thresholds = math.prod(held.tensors["thresholds"][1])
        check_most("bits", thresholds, MAX_BITS * MAX_COLUMNS)
        check_most("bytes", 8 * thresholds * units, settings.max_table_bytes)
    check_most("units", units, settings.max_units)
    check_most("outputs", held.tensors["initial"][1][0], MAX_OUTPUTS)
    check_most("bytes", 8 * held.entries(), settings.max_table_bytes)
    from safetensors.numpy import load_file

    if units and load_file(folder / TENSORS)["sizes"].min() < 1:
        raise errors.invalid(TENSORS, f"{TENSORS} must have sizes of at least 1")


def export_onnx(model: Any) -> bytes:
    """Export a model to ONNX; FAILED_PRECONDITION for one with sign units or categories."""
    if model.binary:
        raise errors.failed_precondition("models of sign units cannot be exported to ONNX, which counts no bits")
    if model.categories_:
        raise errors.failed_precondition("models with categories cannot be exported to ONNX: its input is numeric")
    exported: bytes = model.to_onnx().SerializeToString()
    return exported


async def truncate(service: TrainingService, request: pb.TruncateBoostingRequest, _: Context) -> Any:
    """Answer a `Truncate` call: store the first units of a model as a model of its own."""

    def store() -> Any:
        shorter = _truncate(service.load(request.model), request.n_units)
        models = service.models
        name = models.reserve(WIRE.kind, request.name, "name")
        folder = models.incoming / secrets.token_hex(16)
        try:
            shorter.save(folder)
            models.put(WIRE.kind, name, folder)
        finally:
            models.release(WIRE.kind, name)
            shutil.rmtree(folder, ignore_errors=True)
        return service.describe(name)

    return await service.run_beside(store)


def _truncate(model: Any, n_units: int) -> Any:
    with errors.refusing():
        return model.truncate(n_units)


async def predict(service: TrainingService, request: Any, context: Context) -> None:
    """Answer a `Predict` call."""
    await answer_rows(service, request, context, adapt=partial(_adapt, service.settings))


def _adapt(settings: ServerSettings, model: Any, header: pb.PredictBoostingHeader) -> Any:
    """Return the model that answers a call.

    FAILED_PRECONDITION for one whose categories are strings, RESOURCE_EXHAUSTED where their statistics take too much.
    """
    if _has_words(model):
        raise errors.failed_precondition("models whose categories are strings predict in process only")
    if model.categories_ and header.features.shape:
        check_bytes(header.features.shape[0] * len(model.network_.shift), settings)
    return _truncate(model, header.n_units) if header.HasField("n_units") else model


def _has_words(model: Any) -> bool:
    """Return whether some categories of a model are strings, which no table of numbers holds."""
    return any(isinstance(key, str) for keys in model.categories_.values() for key in keys)


def probe(model: Any) -> NDArray[np.float64]:
    """Return a model's answer for one row; INVALID_ARGUMENT for an upload whose categories are strings."""
    if _has_words(model):
        raise errors.invalid("files", "files must hold a model whose categories are numbers, got strings")
    with collect_unseen():  # 0 may be no category
        return np.asarray(model.predict(np.zeros((1, model.n_features_in_))))


def _parameters(settings: pb.BoostingSettings) -> dict[str, Any]:
    """Return the given settings that are parameters of the estimators under the same names."""
    given = read_settings(settings)
    given.pop("class_weights", None)
    if given.pop("balanced", False):
        given["class_weight"] = "balanced"
    return given


def _class_weights(settings: pb.BoostingSettings, classes: NDArray[Any] | None) -> list[float] | None:
    given = list(settings.class_weights)
    if not given:
        if settings.balanced and classes is None:
            raise errors.invalid("balanced", "balanced must be false for a regression")
        return None
    if settings.balanced:
        raise errors.invalid("class_weights", "class_weights must not be given where balanced is true")
    if classes is None or len(given) != len(classes):
        count = 0 if classes is None else len(classes)
        raise errors.invalid("class_weights", f"class_weights must number {count}, one a class, got {len(given)}")
    if not all(math.isfinite(weight) and weight >= 0 for weight in given):
        raise errors.invalid("class_weights", "class_weights must be finite and at least 0")
    return given


def _check_size(rows: int, columns: int, outputs: int, estimator: Any, settings: ServerSettings) -> None:
    layers = [estimator.n_units] if estimator.layers is None else list(estimator.layers)
    units = sum(layers)
    check_most("features", columns, MAX_COLUMNS, "features' columns")
    check_most("target", outputs, MAX_OUTPUTS, "target's outputs")
    if estimator.layers is None:
        check_most("n_units", units, settings.max_units)
    else:
        check_most("layers", units, settings.max_units, "layers' units")
    check_most("restarts", estimator.restarts, MAX_STARTS)
    check_most("candidates", estimator.candidates, MAX_STARTS)
    # There are at most as many indicators of missing inputs as columns; units of signs see a code of each. A category
    # has one statistic for each output, and no indicator.
    coded = len(estimator.categorical_features or ())
    columns = (columns - coded) * (2 if estimator.missing == "indicate" else 1) + coded * outputs
    columns = columns * estimator.bits if estimator.binary else columns
    # What a later layer sees of the layers before is held for every row, as the data are.
    check_bytes(rows * (columns + outputs + 1 + sum(layers[:-1])), settings)
    check_bytes(units * (columns + sum(layers[:-1]) + outputs), settings)


ENGINE = TrainingEngine(
    module=__name__,
    wire=WIRE,
    training=pb.BoostingTraining,
    needs=("numba", "sklearn", "safetensors"),
    extra="server",
    plan=plan,
    train=train,
    step="stage",
    imports=(
        "relaxon.neuromorphic.boosting.estimators.classifier",
        "relaxon.neuromorphic.boosting.estimators.regressor",
    ),
    load=load_later("relaxon.neuromorphic.boosting", "load"),
    describe=describe,
    check=check,
    probe=probe,
    calls={"Predict": predict, "Truncate": truncate},
    onnx=export_onnx,
)
