"""Boosted networks as they travel: settings, data, stages, stored models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import errors, validation
from relaxon.proto import boosting_pb2 as pb
from relaxon.wire import tensors
from relaxon.wire.conversions import labels, supervised
from relaxon.wire.conversions.engine import Engine
from relaxon.wire.conversions.supervised import Requests, Task, checked_task, filled
from relaxon.wire.conversions.tables import plain, sent, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
ARGUMENTS = {**supervised.ARGUMENTS, "balanced": "class_weight", "class_weights": "class_weight"}
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
    missing: Literal["refuse", "mean", "indicate"] | None = None
    early_stopping: bool | None = None
    validation_fraction: float | None = None
    n_iter_no_change: int | None = None
    tol: float | None = None
    quantile: float | None = None
    huber_delta: float | None = None
    class_weight: Literal["balanced"] | Sequence[float] | None = None
    random_state: int | None = None
    tau: float | None = None
    binary: bool | None = None
    bits: int | None = None
    precision: Literal["double", "single"] | None = None

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
    binary: bool = False
    """Whether its units are signs of binary weights; in all lists."""

    def plot(self) -> Figure:
        """A picture: the loss after each stage, and the columns that matter most. Needs matplotlib.

        ValueError for a model of a list, which leaves the curves out.
        """
        from relaxon.core.pictures import training_picture

        losses = {"training": self.train_loss, "validation": self.validation_loss}
        return training_picture(self.name, "stage", {f"{self.loss} loss": losses}, self.feature_importances)

    def _repr_html_(self) -> str:
        from relaxon.core.html import table

        kind = f"{self.task}, {self.class_count or self.outputs} {'classes' if self.class_count else 'outputs'}"
        reached = f", {self.train_loss[-1]:.4g} on the training rows" if len(self.train_loss) else ""
        rows = {
            "task": f"{kind}, {self.n_features} columns",
            "units": f"{self.units}{' of signs' if self.binary else ''} in {self.stages} stages, "
            f"{self.hidden_layers} hidden layers",
            "loss": self.loss + reached,
            "training": self.outcome,
            "created": f"{self.created:%Y-%m-%d %H:%M} UTC",
        }
        return table(f"boosted network {self.name!r}", rows)


def train_requests(
    X: ArrayLike,
    y: ArrayLike,
    task: str,
    settings: BoostingSettings | None,
    sample_weight: ArrayLike | None,
    model: str,
    request_id: str,
) -> Requests:
    """The messages that have a network trained; InvalidArgument where they can be refused here."""
    with errors.refusals():
        checked_task(task)
        if settings is not None and not isinstance(settings, BoostingSettings):
            raise TypeError(f"settings must be BoostingSettings, got {type(settings).__name__}")
        chosen = settings or BoostingSettings()
        missing = chosen.missing in ("mean", "indicate")
        header, request = pb.TrainBoostingHeader(settings=chosen.message()), pb.TrainBoostingRequest
        return filled(header, request, X, y, task, sample_weight, model, request_id, missing=missing)


def predict_requests(
    output: str, model: str | BoostingModel, X: ArrayLike, n_units: int | None
) -> tuple[Requests, int]:
    """The messages that ask for a prediction, and the rows that it will have."""
    with errors.refusals():
        features = table("X", X, missing=True)  # whether NaN may be missing, the model knows
        header = pb.PredictBoostingHeader(
            model=ENGINE.name_of(model), output=_OUTPUTS[output], features=tensors.header_of(features)
        )
        if n_units is not None:
            header.n_units = validation.whole_number("n_units", n_units)
    return partial(sent, pb.PredictBoostingRequest, header, {"features": features}), len(features)


def truncate_request(model: str | BoostingModel, n_units: int, name: str) -> pb.TruncateBoostingRequest:
    """The message that has a model's first units stored."""
    with errors.refusals():
        return pb.TruncateBoostingRequest(
            model=ENGINE.name_of(model),
            n_units=validation.whole_number("n_units", n_units),
            name=ENGINE.name_of(name, "name"),
        )


def model_of(message: pb.BoostingModel) -> BoostingModel:
    """A stored model from its message."""
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
        binary=message.binary,
    )


def step_of(message: pb.BoostingProgress) -> StageProgress:
    """A stage from its message."""
    held_out = message.validation_loss if message.HasField("validation_loss") else None
    return StageProgress(message.stage, message.units, message.units_wanted, message.loss, held_out, message.seconds)


ENGINE = Engine(
    watch=pb.WatchBoostingRequest,
    get=pb.GetBoostingModelRequest,
    list=pb.ListBoostingModelsRequest,
    delete=pb.DeleteBoostingModelRequest,
    message=pb.BoostingModel,
    model=BoostingModel,
    told=model_of,
    step=step_of,
)
