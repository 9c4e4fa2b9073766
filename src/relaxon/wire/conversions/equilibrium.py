"""Classifiers by equilibrium propagation as they travel: settings, data, epochs, stored models, gradients."""

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
from relaxon.proto import equilibrium_pb2 as pb
from relaxon.wire import tensors
from relaxon.wire.conversions import labels, tables
from relaxon.wire.conversions.engine import EngineMessages
from relaxon.wire.conversions.fields import SettingsMessage, check_settings, check_text, read_fields, read_model
from relaxon.wire.conversions.tables import Requests, stream_messages, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
ARGUMENTS = {"features": "X", "target": "y"}
"""The client's names of the arguments that the messages call otherwise."""
CONVERGED = "converged"


@dataclass(frozen=True, slots=True)
class EquilibriumSettings(SettingsMessage):
    """The parameters of `relaxon.neuromorphic.equilibrium.EquilibriumClassifier`; None keeps the default there.

    `contraction` and `readout_bound` 0 put no bound. With `image` and `channels` the network is convolutional, and each
    row of the features is an image: one channel after the other, each row by row.
    """

    _message: ClassVar[Any] = pb.EquilibriumSettings
    hidden_sizes: tuple[int, ...] | None = None
    activation: str | None = None
    feedback: Literal["tied", "independent"] | None = None
    angle: float | None = None
    gain: float | None = None
    estimator: str | None = None
    n: int | None = None
    radius: float | None = None
    homeostasis: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    momentum: float | None = None
    noise: float | None = None
    standardise: bool | None = None
    contraction: float | None = None
    readout_bound: float | None = None
    random_state: int | None = None
    image: tuple[int, int, int] | None = None
    channels: tuple[int, ...] | None = None
    kernel: int | None = None
    loss: Literal["cross-entropy", "comp-sum"] | None = None
    tau: float | None = None
    optimizer: str | None = None
    binary: bool | None = None
    binarizer: Literal["reste", "biper"] | None = None
    residual: bool | None = None
    """Use blocks with skip connections in place of the layers of `channels`."""
    shift: int | None = None
    """The most pixels by which training images are shifted at random."""


@dataclass(frozen=True, slots=True)
class EpochProgress:
    """The state of a training after an epoch."""

    epoch: int
    epochs_wanted: int
    loss: float
    accuracy: float
    """Loss and accuracy are means over the training batches, each before its step."""
    free_steps: float
    nudged_steps: float
    verdicts: dict[str, int]
    """The number of batches for each verdict on their gradients."""
    seconds: float


@dataclass(frozen=True, slots=True)
class EquilibriumModel:
    """A classifier that the server has stored."""

    name: str
    created: datetime
    n_features: int
    class_count: int
    hidden_sizes: tuple[int, ...]
    """Empty if the network is convolutional."""
    image: tuple[int, ...]
    channels: tuple[int, ...]
    """`image` and `channels` are empty if it is not."""
    activation: str
    feedback: str
    outcome: str
    """How training ended: "finished", "cancelled" or "non_finite"."""
    steps: int
    message: str
    classes: NDArray[Any] | None
    """This field and the two curves are empty in the lists of `models`."""
    train_loss: Array
    train_accuracy: Array
    binary: bool = False
    """Whether its weights are −1 and 1; this and the next fields are also in lists."""
    loss: str = "cross-entropy"
    optimizer: str = "sgd"
    residual: bool = False

    def plot(self) -> Figure:
        """Plot the loss and the accuracy on the training batches of each epoch. Needs matplotlib.

        ValueError for a model from a list, which has no curves.
        """
        panels = {"loss": {"training": self.train_loss}, "accuracy": {"training": self.train_accuracy}}
        return draw_training(self.name, "epoch", panels, np.empty(0))

    @property
    def _kind(self) -> str:
        return ", binary" if self.binary else ", residual blocks" if self.residual else ""

    def _repr_html_(self) -> str:
        inside = (
            ("×".join(map(str, self.image)), *self.channels) if self.channels else (self.n_features, *self.hidden_sizes)
        )
        layers = " – ".join(map(str, (*inside, self.class_count)))
        last = f", accuracy {self.train_accuracy[-1]:.4f} on the training batches" if len(self.train_accuracy) else ""
        rows = {
            "layers": f"{layers}, {self.activation}, {self.feedback} feedback{self._kind}",
            "training": f"{self.outcome} after {self.steps} steps{last}",
            "message": self.message,
            "created": f"{self.created:%Y-%m-%d %H:%M} UTC",
        }
        return html_table(f"equilibrium network {self.name!r}", rows)


@dataclass(frozen=True, slots=True)
class GradientEstimator:
    """A way to measure a gradient: "cauchy", "asymmetric-cauchy", "centred", "one-sided", "continuous", "implicit",
    "recurrent-backprop" or "unrolled"."""

    name: str
    n: int = 6
    radius: float = 0.5
    steps: int | None = None
    """The steps of a turn of "continuous", or the steps of "unrolled"; None for the engine's default."""


@dataclass(frozen=True, slots=True)
class GradientComparison:
    """An estimator's gradient compared with the exact one; NaN where one of them is not finite."""

    estimator: str
    cosine: float
    angle: float
    """In degrees."""
    relative_error: float
    truncation: float | None
    verdict: str
    message: str
    evaluations: int
    seconds: float


def train_requests(
    X: ArrayLike, y: ArrayLike, settings: EquilibriumSettings | None, model: str, request_id: str
) -> Requests:
    """Return the messages that have a classifier trained; InvalidArgument where they can be refused on this side."""
    with errors.refusals():
        chosen = EquilibriumSettings() if settings is None else settings
        check_settings(chosen, EquilibriumSettings)
        features, classes, target = _encode_batch(X, y, least=2)
        arrays = {"features": features, "target": target}
        return tables.train_requests(ENGINE, chosen.message(), arrays, model, request_id, classes=classes)


def check_prediction(found: pb.PredictEquilibriumReplyHeader) -> None:
    """Warn where the free phase of a prediction has not converged; InternalError for one without classes."""
    if found.classes.WhichOneof("kind") is None:
        raise errors.InternalError("the server's answer has no classes")
    if found.relaxation != CONVERGED:
        warnings.warn(
            f"the free phase did not come to rest: residual {found.residual:.1e} after {found.steps} steps",
            stacklevel=4,
        )


class ComparisonRequest:
    """A comparison of gradients, checked except for its labels: their classes must be those of the model."""

    def __init__(
        self, model: str | EquilibriumModel, X: ArrayLike, y: ArrayLike, estimators: Sequence[GradientEstimator]
    ) -> None:
        with errors.refusals():
            for one in estimators:
                if not isinstance(one, GradientEstimator):
                    raise TypeError(f"estimators must hold GradientEstimator, got {type(one).__name__}")
            self._features, self._given, self._places = _encode_batch(X, y, least=1)
            self.model = ENGINE.name_of(model)
            self._wanted = [
                pb.GradientEstimator(
                    name=check_text("name", one.name),
                    n=validation.whole_number("n", one.n),
                    radius=validation.finite_float("radius", one.radius),
                    steps=None if one.steps is None else validation.whole_number("steps", one.steps),
                )
                for one in estimators
            ]

    def requests(self, known: NDArray[Any] | None) -> Requests:
        """Return the messages, given the classes of the model."""
        found = labels.decode_classes(self._given)
        assert known is not None
        assert found is not None
        with errors.refusals():
            unknown = [label for label in found.tolist() if label not in set(known.tolist())]
            if unknown:
                raise ValueError(f"y must hold the model's classes, got {unknown[0]!r}")
        target = np.searchsorted(known, found).astype(np.float64)[self._places.astype(np.int64)]
        header = pb.CompareGradientsHeader(
            model=self.model,
            estimators=self._wanted,
            features=tensors.describe_array(self._features),
            target=tensors.describe_array(target),
        )
        return partial(
            stream_messages, pb.CompareGradientsRequest, header, {"features": self._features, "target": target}
        )


def read_comparisons(reply: pb.CompareGradientsReply) -> tuple[GradientComparison, ...]:
    """Return the rows of a comparison of gradients."""
    return tuple(read_fields(GradientComparison, row) for row in reply.rows)


def _encode_batch(X: ArrayLike, y: ArrayLike, least: int) -> tuple[NDArray[Any], Any, Array]:
    """Return the features, the classes and each row's place among them."""
    features = table("X", X)
    classes, places = labels.encode_labels("y", y, least)
    if len(places) != len(features):
        raise ValueError(f"y must have a label for each of the {len(features)} rows of X, got {len(places)}")
    return features, classes, places


ENGINE = EngineMessages(
    kind="equilibrium",
    service=pb.DESCRIPTOR.services_by_name["EquilibriumService"],
    files=("network.json", "network.safetensors"),
    model=EquilibriumModel,
    told=partial(read_model, EquilibriumModel),
    step=partial(read_fields, EpochProgress),
)
