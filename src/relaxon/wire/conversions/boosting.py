"""Boosted networks as they travel: settings, data, stages, stored models."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import errors, validation
from relaxon.core.html import table as html_table
from relaxon.core.pictures import draw_training
from relaxon.core.unseen_categories import UnseenCategoryWarning
from relaxon.proto import boosting_pb2 as pb
from relaxon.wire.conversions import tables
from relaxon.wire.conversions.engine import EngineMessages
from relaxon.wire.conversions.fields import SettingsMessage, read_fields, read_model
from relaxon.wire.conversions.tables import Requests, Task, output_requests, task_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
ARGUMENTS = {**tables.ARGUMENTS, "balanced": "class_weight", "class_weights": "class_weight"}
"""The client's names of the arguments that the messages call otherwise."""


@dataclass(frozen=True, slots=True)
class BoostingSettings(SettingsMessage):
    """The parameters of the estimators in `relaxon.neuromorphic.boosting`; None keeps the default there.

    `class_weight` is "balanced" or a weight for each class, in ascending order of the classes. `categorical_features`
    are indices of columns whose categories are numbers, and `monotone_constraints` −1, 0 or 1 for each column; tables
    travel without names and strings.
    """

    _message: ClassVar[Any] = pb.BoostingSettings
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
    categorical_features: Sequence[int] | None = None
    monotone_constraints: Sequence[int] | None = None

    def _fill(self, message: Any, special: tuple[str, ...] = ()) -> None:
        SettingsMessage._fill(self, message, (*special, "class_weight"))
        weights = self.class_weight
        if isinstance(weights, str):
            if weights != "balanced":
                raise ValueError(f"class_weight must be 'balanced' or weights, got {weights!r}")
            message.balanced = True
        elif weights is not None:
            message.class_weights.extend(validation.finite_float("class_weight", weight) for weight in weights)
        if self.monotone_constraints is not None and not message.monotone_constraints:
            raise ValueError("monotone_constraints must have one of -1, 0, 1 for each column, got none")


@dataclass(frozen=True, slots=True)
class StageProgress:
    """The state of a training after a stage."""

    stage: int
    units: int
    units_wanted: int
    loss: float
    """The loss on the training rows."""
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
    """The outputs of a regression; 0 for a classification."""
    class_count: int
    units: int
    stages: int
    hidden_layers: int
    loss: str
    outcome: str
    """How training ended: "completed", "early_stopped", "cancelled", "fitted", "stalled" or "non_finite"."""
    classes: NDArray[Any] | None
    """This field and the next ones are empty in the lists of `models`."""
    ends: NDArray[np.int64]
    """The number of units after 0, 1, … stages, at which the network can be truncated."""
    train_loss: Array
    validation_loss: Array
    feature_importances: Array
    binary: bool = False
    """Whether its units are signs of sums with binary weights; also in lists."""

    def plot(self) -> Figure:
        """Plot the loss after each stage, and the most important columns. Needs matplotlib.

        ValueError for a model from a list, which has no curves.
        """
        losses = {"training": self.train_loss, "validation": self.validation_loss}
        return draw_training(self.name, "stage", {f"{self.loss} loss": losses}, self.feature_importances)

    def _repr_html_(self) -> str:
        reached = f", {self.train_loss[-1]:.4g} on the training rows" if len(self.train_loss) else ""
        rows = {
            "task": task_text(self),
            "units": f"{self.units}{' of signs' if self.binary else ''} in {self.stages} stages, "
            f"{self.hidden_layers} hidden layers",
            "loss": self.loss + reached,
            "training": self.outcome,
            "created": f"{self.created:%Y-%m-%d %H:%M} UTC",
        }
        return html_table(f"boosted network {self.name!r}", rows)


def predict_requests(
    engine: EngineMessages[Any, Any], output: str, model: str | BoostingModel, X: ArrayLike, n_units: int | None
) -> tuple[Requests, int]:
    """Return the messages that ask for a prediction, and the number of rows that it will have."""
    with errors.refusals():
        units = None if n_units is None else validation.whole_number("n_units", n_units)
    # Only the model knows whether NaN may stand for a missing entry.
    return output_requests(engine, output, model, X, missing=True, n_units=units)


def check_prediction(found: pb.PredictBoostingReplyHeader) -> None:
    """Warn of categories that did not occur in training, as the estimators do."""
    if found.warning:
        warnings.warn(found.warning, UnseenCategoryWarning, stacklevel=4)


def truncate_request(model: str | BoostingModel, n_units: int, name: str) -> pb.TruncateBoostingRequest:
    """Return the request to store the first units of a model as a model of its own."""
    with errors.refusals():
        return pb.TruncateBoostingRequest(
            model=ENGINE.name_of(model),
            n_units=validation.whole_number("n_units", n_units),
            name=ENGINE.name_of(name, "name"),
        )


ENGINE = EngineMessages(
    kind="boosting",
    service=pb.DESCRIPTOR.services_by_name["BoostingService"],
    files=("model.json", "network.safetensors"),
    model=BoostingModel,
    told=partial(read_model, BoostingModel),
    step=partial(read_fields, StageProgress),
)
