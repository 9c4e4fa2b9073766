"""The messages of `boosting.proto` as arguments of the estimators, checked before the arrays are uploaded, and back."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.tensor_files import write_tensors
from relaxon.proto import boosting_pb2 as pb
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors
from relaxon.server.gate.announced import AnnouncedArray
from relaxon.server.gate.uploads import Upload
from relaxon.server.jobs.folder import REQUEST
from relaxon.server.jobs.operations_service import job_message, timestamp
from relaxon.server.jobs.records import Job, Json
from relaxon.server.training import labels as classes
from relaxon.server.training.boosting_task import DATA, KIND, estimator_of

if TYPE_CHECKING:
    from relaxon.neuromorphic.boosting.storage import Estimator

Beside = Callable[[Callable[[], None]], Awaitable[None]]
FLOAT_BYTES = 8
SEEDS = 2**32
METHODS: Mapping[int, str] = {
    pb.BOOSTING_OUTPUT_UNSPECIFIED: "predict",
    pb.BOOSTING_OUTPUT_PREDICTION: "predict",
    pb.BOOSTING_OUTPUT_PROBABILITIES: "predict_proba",
    pb.BOOSTING_OUTPUT_DECISION: "decision_function",
}
"""The estimators' methods that give the outputs; the other services with such outputs number them alike."""
MAX_COLUMNS = 2**14
MAX_OUTPUTS = 1000
MAX_STARTS = 1000
"""Of `restarts` and of `candidates`: all of a stage's are held at once."""


@dataclass(frozen=True, slots=True)
class AnnouncedRows:
    """The arrays of a table with targets, which are yet to come."""

    features: AnnouncedArray
    target: AnnouncedArray
    weights: AnnouncedArray | None
    labels: NDArray[Any] | None

    @property
    def outputs(self) -> int:
        """Classes, or columns of the target."""
        return math.prod(self.target.shape[1:]) if self.labels is None else len(self.labels)

    @property
    def classes(self) -> Mapping[str, Any] | None:
        """The labels as JSON."""
        return None if self.labels is None else classes.as_json(self.labels)


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """A training run as its header describes it."""

    rows: AnnouncedRows
    request: Json
    """What the worker process is given beside the arrays."""

    @property
    def missing_allowed(self) -> bool:
        return bool(self.request["parameters"].get("missing", "refuse") != "refuse")

    def check(self, features: NDArray[Any], target: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Refuse data that no estimator takes; INVALID_ARGUMENT naming the array."""
        check_finite("features", features, self.missing_allowed)
        check_finite("target", target)
        if self.rows.labels is not None:
            count = len(self.rows.labels)
            if not ((target == np.floor(target)) & (target >= 0) & (target < count)).all():
                raise errors.invalid("target", f"target must hold places among the {count} classes, from 0")
        if weights is not None:
            check_finite("weights", weights)
            if weights.min() < 0 or weights.max() == 0:
                raise errors.invalid("weights", "weights must be at least 0, and not all 0")

    async def receive(self, upload: Upload, beside: Beside, folder: Path) -> None:
        """Take the arrays in, and put them with the request where the worker process reads them."""
        features = await upload.array("features", self.rows.features)
        target = await upload.array("target", self.rows.target)
        weights = None if self.rows.weights is None else await upload.array("weights", self.rows.weights)
        await upload.end()
        await beside(lambda: self.check(features, target, weights))
        await beside(lambda: self.write(folder, features, target, weights))

    def write(self, folder: Path, features: NDArray[Any], target: NDArray[Any], weights: NDArray[Any] | None) -> None:
        """Put the request and its data where the worker process reads them."""
        folder.mkdir()
        arrays = {"features": features, "target": target}
        if weights is not None:
            arrays["weights"] = weights
        write_tensors(folder / DATA, arrays)
        (folder / REQUEST).write_text(json.dumps(self.request), encoding="utf-8")


def plan(header: pb.TrainBoostingHeader, settings: ServerSettings) -> TrainPlan:
    """What a header asks for; INVALID_ARGUMENT naming the argument, RESOURCE_EXHAUSTED where it is too large."""
    rows = announced(header)
    request = {
        "kind": KIND,
        "parameters": {**_parameters(header.settings), "random_state": seed(header.settings)},
        "classes": rows.classes,
        "class_weights": _class_weights(header.settings, rows.labels),
    }
    try:
        estimator = estimator_of(request)
        estimator.check_parameters()
    except (ValueError, TypeError) as error:
        raise errors.refused(error) from error
    count, columns = rows.features.shape
    _check_size(count, columns, rows.outputs, estimator, settings)
    return TrainPlan(rows, request)


def announced(header: Any) -> AnnouncedRows:
    """The arrays of a header that trains on a table; INVALID_ARGUMENT naming the one that does not fit the others."""
    features = table("features", header.features)
    target = AnnouncedArray.of("target", header.target)
    labels = classes.checked("classes", header.classes) if header.HasField("classes") else None
    classes.check_several("classes", labels)
    rows = features.shape[0]
    if target.shape[0] != rows or len(target.shape) > (2 if labels is None else 1):
        wanted = f"({rows},)" if labels is not None else f"({rows},) or ({rows}, outputs)"
        raise errors.invalid("target", f"target must have shape {wanted}, got {target.shape}")
    weights = AnnouncedArray.of("weights", header.weights) if header.HasField("weights") else None
    if weights is not None and weights.shape != (rows,):
        raise errors.invalid("weights", f"weights must have shape ({rows},), got {weights.shape}")
    return AnnouncedRows(features, target, weights, labels)


def check_finite(name: str, array: NDArray[Any], missing: bool = False) -> None:
    """INVALID_ARGUMENT where an entry is infinite or, unless they may be missing, NaN."""
    bad = int(np.count_nonzero(np.isinf(array) if missing else ~np.isfinite(array)))
    if bad:
        kind = "infinite" if missing else "NaN or infinite"
        raise errors.invalid(name, f"{name} must be finite, got {bad} {kind} of {array.size} entries")


def seed(settings: Any) -> int:
    """The `random_state` of a message, drawn here where none is given: a job that is begun again must not have another.

    INVALID_ARGUMENT where it is none that NumPy takes.
    """
    if not settings.HasField("random_state"):
        return secrets.randbelow(SEEDS)
    if not 0 <= settings.random_state < SEEDS:
        raise errors.invalid("random_state", f"random_state must be from 0 to 2³² − 1, got {settings.random_state}")
    return int(settings.random_state)


def features_to_predict(header: Any, columns: int, settings: ServerSettings) -> AnnouncedArray:
    """The announced rows; INVALID_ARGUMENT where they are not the model's, RESOURCE_EXHAUSTED where too many."""
    features = table("features", header.features)
    if features.shape[1] != columns:
        raise errors.invalid("features", f"features must have the model's {columns} columns, got {features.shape[1]}")
    check_bytes(math.prod(features.shape), settings)
    return features


def model_message(name: str, created: float, model: Estimator, whole: bool = True) -> pb.BoostingModel:
    """A stored model; `whole` with the fields that can be long."""
    network = model.network_
    labels: NDArray[Any] | None = getattr(model, "classes_", None)
    message = pb.BoostingModel(
        name=name,
        create_time=timestamp(created),
        classifier=labels is not None,
        n_features=model.n_features_in_,
        outputs=network.outputs if labels is None else 0,
        class_count=0 if labels is None else len(labels),
        units=network.units,
        stages=network.stages,
        hidden_layers=len(network.layers),
        loss=model.loss,
        binary=bool(model.binary),
        outcome=pb.BoostingOutcome.Value(f"BOOSTING_OUTCOME_{model.outcome_.name}"),
    )
    if whole:
        if labels is not None:
            message.classes.CopyFrom(classes.of(labels))
        message.ends.extend(network.ends.tolist())
        message.train_loss.extend(model.train_loss_.tolist())
        message.validation_loss.extend(model.validation_loss_.tolist())
        message.feature_importances.extend(model.feature_importances_.tolist())
    return message


def progress_message(progress: Json) -> pb.BoostingProgress:
    """What a worker process said after a stage."""
    return pb.BoostingProgress(**progress)


def metadata(job: Job, newest: Json | None) -> pb.BoostingTraining:
    """The metadata of a job's operation."""
    return pb.BoostingTraining(job=job_message(job), progress=None if newest is None else progress_message(newest))


def table(name: str, header: Any) -> AnnouncedArray:
    table = AnnouncedArray.of(name, header)
    if len(table.shape) != 2:
        raise errors.invalid(name, f"{name} must have two axes, rows and columns, got shape {table.shape}")
    return table


def _parameters(settings: pb.BoostingSettings) -> dict[str, Any]:
    """The given fields that are parameters of the estimators under the same names."""
    given = {descriptor.name: value for descriptor, value in settings.ListFields()}
    given.pop("class_weights", None)
    if given.pop("balanced", False):
        given["class_weight"] = "balanced"
    if "layers" in given:
        given["layers"] = list(given["layers"])
    return given


def _class_weights(settings: pb.BoostingSettings, labels: NDArray[Any] | None) -> list[float] | None:
    given = list(settings.class_weights)
    if not given:
        if settings.balanced and labels is None:
            raise errors.invalid("balanced", "balanced must be false for a regression")
        return None
    if settings.balanced:
        raise errors.invalid("class_weights", "class_weights must not be given where balanced is true")
    if labels is None or len(given) != len(labels):
        count = 0 if labels is None else len(labels)
        raise errors.invalid("class_weights", f"class_weights must number {count}, one a class, got {len(given)}")
    if not all(math.isfinite(weight) and weight >= 0 for weight in given):
        raise errors.invalid("class_weights", "class_weights must be finite and at least 0")
    return given


def _check_size(rows: int, columns: int, outputs: int, estimator: Any, settings: ServerSettings) -> None:
    layers = [estimator.n_units] if estimator.layers is None else list(estimator.layers)
    units = sum(layers)
    for name, value, most in (
        ("features", columns, MAX_COLUMNS),
        ("target", outputs, MAX_OUTPUTS),
        ("n_units" if estimator.layers is None else "layers", units, settings.max_units),
        ("restarts", estimator.restarts, MAX_STARTS),
        ("candidates", estimator.candidates, MAX_STARTS),
    ):
        if value > most:
            what = {"features": "features' columns", "target": "target's outputs", "layers": "layers' units"}
            raise errors.exhausted(name, f"{what.get(name, name)} must be at most {most} here, got {value}")
    # At most as many indicators of missing inputs as columns; sign units see a code of each.
    columns = 2 * columns if estimator.missing == "indicate" else columns
    columns = columns * estimator.bits if estimator.binary else columns
    # What a later layer sees of the layers before is held for every row, as the data are.
    check_bytes(rows * (columns + outputs + 1 + sum(layers[:-1])), settings)
    check_bytes(units * (columns + sum(layers[:-1]) + outputs), settings)


def check_bytes(entries: int, settings: ServerSettings) -> None:
    size = FLOAT_BYTES * entries
    if size > settings.max_table_bytes:
        raise errors.exhausted("table", f"table must have at most {settings.max_table_bytes} bytes here, got {size}")


def output_name(header: Any, classifier: bool) -> str:
    """The estimator's method that gives the output asked for; INVALID_ARGUMENT where it has none."""
    method = METHODS.get(header.output)
    if method is None:
        raise errors.invalid("output", f"output must be a known value, got {header.output}")
    if method != "predict" and not classifier:
        raise errors.invalid("output", "output must be the prediction: the model is a regression")
    return method
