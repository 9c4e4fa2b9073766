"""Networks trained by gradient boosting on a server: jobs, stored models, predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.client import errors, labels
from relaxon.client.jobs import Job, stream
from relaxon.client.tables import plain, put_together, sent, table
from relaxon.client.trained import Messages, TrainingClient, checked_id
from relaxon.proto import boosting_pb2 as pb
from relaxon.proto import boosting_pb2_grpc, tensors
from relaxon.solvers import validation

Array = NDArray[np.float64]
Task = Literal["regression", "classification"]
ARGUMENTS = {
    "features": "X",
    "target": "y",
    "weights": "sample_weight",
    "balanced": "class_weight",
    "class_weights": "class_weight",
}
"""What the messages' fields are called here."""
_OUTPUTS = {
    "predict": pb.BOOSTING_OUTPUT_PREDICTION,
    "predict_proba": pb.BOOSTING_OUTPUT_PROBABILITIES,
    "decision_function": pb.BOOSTING_OUTPUT_DECISION,
}


@dataclass(frozen=True, slots=True)
class BoostingSettings:
    """The parameters of the estimators in `relaxon.neuromorphic.boosting`; what is None has its value there.

    `class_weight` is "balanced" or a weight for each class, in ascending order of the classes.
    """

    n_units: int | None = None
    loss: str | None = None
    units_per_stage: int | None = None
    learning_rate: float | None = None
    newton: Literal["guarded", "published"] | None = None
    subsample: float | None = None
    ridge: float | None = None
    stage_iterations: int | None = None
    stage_tolerance: float | None = None
    restarts: int | None = None
    candidates: int | None = None
    layers: tuple[int, ...] | None = None
    missing: Literal["refuse", "mean"] | None = None
    early_stopping: bool | None = None
    validation_fraction: float | None = None
    n_iter_no_change: int | None = None
    tol: float | None = None
    quantile: float | None = None
    huber_delta: float | None = None
    class_weight: Literal["balanced"] | Sequence[float] | None = None
    random_state: int | None = None

    def message(self) -> pb.BoostingSettings:
        """As it is sent; TypeError or ValueError naming what cannot be."""
        message = pb.BoostingSettings()
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if field.name == "class_weight":
                if isinstance(value, str):
                    if value != "balanced":
                        raise ValueError(f"class_weight must be 'balanced' or weights, got {value!r}")
                    message.balanced = True
                else:
                    message.class_weights.extend(validation.finite_float("class_weight", one) for one in value)
            elif field.name == "layers":
                message.layers.extend(validation.positive_int("layers", width) for width in value)
            else:
                setattr(message, field.name, plain(field.name, value, str(field.type)))
        return message


@dataclass(frozen=True, slots=True)
class StageProgress:
    """What there is after a stage."""

    stage: int
    units: int
    units_wanted: int
    loss: float
    """On the training rows."""
    validation_loss: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class BoostingModel:
    """A network that the server has stored."""

    name: str
    created: datetime
    task: Task
    n_features: int
    outputs: int
    """Of a regression; 0 for a classification."""
    class_count: int
    units: int
    stages: int
    hidden_layers: int
    loss: str
    outcome: str
    """How training ended: "completed", "early_stopped", "cancelled", "fitted", "stalled" or "non_finite"."""
    classes: NDArray[Any] | None
    """From here on what `models` leaves empty."""
    ends: NDArray[np.int64]
    """The units there are after 0, 1, … stages: where it can be truncated."""
    train_loss: Array
    validation_loss: Array
    feature_importances: Array


class BoostingClient(TrainingClient[StageProgress, BoostingModel]):
    """The boosting calls of a `Client`.

    Examples
    --------
    >>> import numpy as np
    >>> import relaxon
    >>> from relaxon.client import BoostingSettings
    >>> from relaxon.server.app import EmbeddedServer
    >>> X = np.linspace(-2, 2, 200).reshape(-1, 1)
    >>> with EmbeddedServer() as server, relaxon.connect(server.target) as client:
    ...     job = client.boosting.train(X, np.sin(X[:, 0]), settings=BoostingSettings(n_units=5, random_state=0))
    ...     model = job.result()
    ...     client.boosting.predict(model, X[:3]).shape, model.outcome
    ((3,), 'completed')
    """

    _messages = Messages(
        pb.WatchBoostingRequest,
        pb.GetBoostingModelRequest,
        pb.ListBoostingModelsRequest,
        pb.DeleteBoostingModelRequest,
        pb.BoostingModel,
    )
    _kind = BoostingModel

    def __init__(self, channel: grpc.Channel, timeout: float, transfer_timeout: float) -> None:
        super().__init__(boosting_pb2_grpc.BoostingServiceStub(channel), channel, timeout, transfer_timeout)

    def train(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        task: Task = "regression",
        settings: BoostingSettings | None = None,
        sample_weight: ArrayLike | None = None,
        model: str = "",
        request_id: str = "",
        timeout: float | None = None,
    ) -> Job[StageProgress, BoostingModel]:
        """Send the data and have the server train on them; returns when it has them.

        Parameters
        ----------
        X : (n, d), numbers; NaN only with the setting `missing="mean"`.
        y : (n,) or (n, K) numbers; for a classification (n,) labels: strings, whole numbers or booleans.
        task : "regression" or "classification".
        sample_weight : (n,), at least 0.
        model : the name to store the model under; the server makes one up where it is empty.
        request_id : your own name for this call, so that your program may make it again without beginning a second job;
            one is made up where it is empty, with which a call that a server's end cut off is repeated.
        timeout : seconds for sending, None for the client's.

        Raises
        ------
        InvalidArgument : naming the argument. AlreadyExists : the name is taken, or the request id was another call's.
        ResourceExhausted : a limit of the server, or its queue is full. FailedPrecondition : the server lacks the
        packages. Unavailable : the server was away for the client's timeout.
        """
        with errors.refusals():
            seconds = self._transfer_timeout if timeout is None else validation.positive_float("timeout", timeout)
            if task not in get_args(Task):
                raise ValueError(f"task must be 'regression' or 'classification', got {task!r}")
            if settings is not None and not isinstance(settings, BoostingSettings):
                raise TypeError(f"settings must be BoostingSettings, got {type(settings).__name__}")
            chosen = settings or BoostingSettings()
            features = table("X", X, missing=chosen.missing == "mean")
            header = pb.TrainBoostingHeader(settings=chosen.message(), features=tensors.header_of(features))
            if not isinstance(model, str):
                raise TypeError(f"model must be a string, got {type(model).__name__}")
            header.model = model
            if task == "classification":
                classes, target = labels.encoded("y", y)
                header.classes.CopyFrom(classes)
            else:
                target = validation.real_array("y", y)
            if target.ndim > 2 or len(target) != len(features):
                raise ValueError(f"y must have a row for each of the {len(features)} of X, got shape {target.shape}")
            header.target.CopyFrom(tensors.header_of(target))
            weights = None if sample_weight is None else validation.real_array("sample_weight", sample_weight)
            if weights is not None:
                if weights.shape != (len(features),):
                    raise ValueError(f"sample_weight must have shape ({len(features)},), got {weights.shape}")
                header.weights.CopyFrom(tensors.header_of(weights))
            header.request_id = checked_id(request_id)
        arrays = {"features": features, "target": target, "weights": weights}
        return self._begun(header, pb.TrainBoostingRequest, arrays, seconds, ARGUMENTS)

    def predict(
        self,
        model: str | BoostingModel,
        X: ArrayLike,
        *,
        n_units: int | None = None,
        timeout: float | None = None,
    ) -> NDArray[Any]:
        """Numbers `(n,)` or `(n, K)`, or the labels `(n,)` of a classification.

        `n_units` predicts with the first units only, as if training had ended there.
        """
        output, classes = self._predicted("predict", model, X, n_units, timeout)
        return output if classes is None else classes[output.astype(np.int64)]

    def predict_proba(
        self,
        model: str | BoostingModel,
        X: ArrayLike,
        *,
        n_units: int | None = None,
        timeout: float | None = None,
    ) -> Array:
        """Probabilities `(n, classes)`, the columns in the order of the model's `classes`."""
        return self._predicted("predict_proba", model, X, n_units, timeout)[0]

    def decision_function(
        self,
        model: str | BoostingModel,
        X: ArrayLike,
        *,
        n_units: int | None = None,
        timeout: float | None = None,
    ) -> Array:
        """Logits: `(n,)` of the second class where there are two, else `(n, classes)`."""
        return self._predicted("decision_function", model, X, n_units, timeout)[0]

    def truncate(self, model: str | BoostingModel, n_units: int, *, name: str = "") -> BoostingModel:
        """Have the model's first units stored as a model of its own, named by the server where `name` is empty."""
        with errors.refusals():
            request = pb.TruncateBoostingRequest(
                model=self._name(model),
                n_units=validation.whole_number("n_units", n_units),
                name=self._name(name, "name"),
            )
        with errors.translated(ARGUMENTS):
            return self._told(self._stub.Truncate(request, timeout=self._timeout))

    def _told(self, message: pb.BoostingModel) -> BoostingModel:
        return BoostingModel(
            name=message.name,
            created=message.create_time.ToDatetime(UTC),
            task="classification" if message.classifier else "regression",
            n_features=message.n_features,
            outputs=message.outputs,
            class_count=message.class_count,
            units=message.units,
            stages=message.stages,
            hidden_layers=message.hidden_layers,
            loss=message.loss,
            outcome=pb.BoostingOutcome.Name(message.outcome).removeprefix("BOOSTING_OUTCOME_").lower(),
            classes=labels.decoded(message.classes),
            ends=np.array(message.ends, np.int64),
            train_loss=np.array(message.train_loss, np.float64),
            validation_loss=np.array(message.validation_loss, np.float64),
            feature_importances=np.array(message.feature_importances, np.float64),
        )

    def _step(self, message: pb.BoostingProgress) -> StageProgress:
        held_out = message.validation_loss if message.HasField("validation_loss") else None
        return StageProgress(
            message.stage, message.units, message.units_wanted, message.loss, held_out, message.seconds
        )

    def _predicted(
        self, output: str, model: str | BoostingModel, X: ArrayLike, n_units: int | None, timeout: float | None
    ) -> tuple[Array, NDArray[Any] | None]:
        with errors.refusals():
            seconds = self._transfer_timeout if timeout is None else validation.positive_float("timeout", timeout)
            features = table("X", X, missing=True)  # whether NaN may be missing, the model knows
            header = pb.PredictBoostingHeader(
                model=self._name(model), output=_OUTPUTS[output], features=tensors.header_of(features)
            )
            if n_units is not None:
                header.n_units = validation.whole_number("n_units", n_units)
        with errors.translated(ARGUMENTS):
            call = self._stub.Predict(sent(pb.PredictBoostingRequest, header, {"features": features}), timeout=seconds)
            found, numbers = put_together(stream(call), len(features))
        return numbers, labels.decoded(found.classes)
