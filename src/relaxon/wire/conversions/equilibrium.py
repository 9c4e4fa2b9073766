"""Classifiers by equilibrium propagation as they travel: settings, data, epochs, stored models, gradients."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import errors, validation
from relaxon.proto import equilibrium_pb2 as pb
from relaxon.wire import tensors
from relaxon.wire.conversions import labels
from relaxon.wire.conversions.engine import Engine
from relaxon.wire.conversions.jobs import checked_id
from relaxon.wire.conversions.tables import plain, sent, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Requests = Callable[[], Iterator[Any]]
"""Gives the messages of a call anew for each attempt."""
ARGUMENTS = {"features": "X", "target": "y"}
"""What the messages' fields are called here."""
SEQUENCES = ("hidden_sizes", "image", "channels")
CONVERGED = "converged"
_OUTPUTS = {
    "predict": pb.EQUILIBRIUM_OUTPUT_PREDICTION,
    "predict_proba": pb.EQUILIBRIUM_OUTPUT_PROBABILITIES,
    "decision_function": pb.EQUILIBRIUM_OUTPUT_DECISION,
}


@dataclass(frozen=True, slots=True)
class EquilibriumSettings:
    """The parameters of `relaxon.neuromorphic.equilibrium.EquilibriumClassifier`; what is None has its value there.

    `contraction` and `readout_bound` 0 put no bound. With `image` and `channels` the network is convolutional, and each
    row of the features an image: its channels behind one another, each row by row.
    """

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
    """Blocks with skip connections in place of layers of `channels`."""
    shift: int | None = None
    """Pixels that training images are moved by at random, at most."""

    def message(self) -> pb.EquilibriumSettings:
        """As it is sent; TypeError or ValueError naming what cannot be."""
        message = pb.EquilibriumSettings()
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if field.name in SEQUENCES:
                getattr(message, field.name).extend(validation.positive_int(field.name, size) for size in value)
            else:
                setattr(message, field.name, plain(field.name, value, str(field.type)))
        return message


@dataclass(frozen=True, slots=True)
class EpochProgress:
    """What there is after an epoch."""

    epoch: int
    epochs_wanted: int
    loss: float
    accuracy: float
    """Both on the training batches, each before its step."""
    free_steps: float
    nudged_steps: float
    verdicts: dict[str, int]
    """How many batches' gradients got which verdict."""
    seconds: float


@dataclass(frozen=True, slots=True)
class EquilibriumModel:
    """A classifier that the server has stored."""

    name: str
    created: datetime
    n_features: int
    class_count: int
    hidden_sizes: tuple[int, ...]
    """Empty where the network is convolutional."""
    image: tuple[int, ...]
    channels: tuple[int, ...]
    """Both empty where it is not."""
    activation: str
    feedback: str
    outcome: str
    """How training ended: "finished", "cancelled" or "non_finite"."""
    steps: int
    message: str
    classes: NDArray[Any] | None
    """From here on what `models` leaves empty."""
    train_loss: Array
    train_accuracy: Array
    binary: bool = False
    """Whether its weights are −1 and 1; in all lists, as the next two."""
    loss: str = "cross-entropy"
    optimizer: str = "sgd"
    residual: bool = False

    def plot(self) -> Figure:
        """A picture: loss and accuracy on the training batches of each epoch. Needs matplotlib.

        ValueError for a model of a list, which leaves the curves out.
        """
        from relaxon.core.pictures import training_picture

        panels = {"loss": {"training": self.train_loss}, "accuracy": {"training": self.train_accuracy}}
        return training_picture(self.name, "epoch", panels, np.empty(0))

    @property
    def _kind(self) -> str:
        return ", binary" if self.binary else ", residual blocks" if self.residual else ""

    def _repr_html_(self) -> str:
        from relaxon.core.html import table

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
        return table(f"equilibrium network {self.name!r}", rows)


@dataclass(frozen=True, slots=True)
class GradientEstimator:
    """A way to measure a gradient: "cauchy", "asymmetric-cauchy", "centred", "one-sided", "continuous", "implicit",
    "recurrent-backprop" or "unrolled"."""

    name: str
    n: int = 6
    radius: float = 0.5
    steps: int | None = None
    """Of "continuous" the steps of a turn, of "unrolled" the steps; the engine's own where None."""


@dataclass(frozen=True, slots=True)
class GradientComparison:
    """An estimator's gradient against the exact one; NaN where one is not finite."""

    estimator: str
    cosine: float
    angle: float
    """Degrees."""
    relative_error: float
    truncation: float | None
    verdict: str
    message: str
    evaluations: int
    seconds: float


def train_requests(
    X: ArrayLike, y: ArrayLike, settings: EquilibriumSettings | None, model: str, request_id: str
) -> Requests:
    """The messages that have a classifier trained; InvalidArgument where they can be refused here."""
    with errors.refusals():
        if settings is not None and not isinstance(settings, EquilibriumSettings):
            raise TypeError(f"settings must be EquilibriumSettings, got {type(settings).__name__}")
        if not isinstance(model, str):
            raise TypeError(f"model must be a string, got {type(model).__name__}")
        features, classes, target = _batch(X, y, least=2)
        header = pb.TrainEquilibriumHeader(
            model=model,
            settings=(settings or EquilibriumSettings()).message(),
            features=tensors.header_of(features),
            target=tensors.header_of(target),
            classes=classes,
            request_id=checked_id(request_id),
        )
    return partial(sent, pb.TrainEquilibriumRequest, header, {"features": features, "target": target})


def predict_requests(output: str, model: str | EquilibriumModel, X: ArrayLike) -> tuple[Requests, int]:
    """The messages that ask for a prediction, and the rows that it will have."""
    with errors.refusals():
        features = table("X", X, missing=False)
        header = pb.PredictEquilibriumHeader(
            model=ENGINE.name_of(model), output=_OUTPUTS[output], features=tensors.header_of(features)
        )
    return partial(sent, pb.PredictEquilibriumRequest, header, {"features": features}), len(features)


def predicted(found: pb.PredictEquilibriumReplyHeader, numbers: Array) -> tuple[Array, NDArray[Any]]:
    """A prediction's numbers and classes; warns, where the caller's caller was called, of a free phase at unrest."""
    if found.relaxation != CONVERGED:
        warnings.warn(
            f"the free phase did not come to rest: residual {found.residual:.1e} after {found.steps} steps",
            stacklevel=4,
        )
    classes = labels.decoded(found.classes)
    if classes is None:
        raise errors.InternalError("the server's answer has no classes")
    return numbers, classes


class Comparison:
    """A comparison of gradients that has been checked but for its labels, whose classes the model knows."""

    def __init__(
        self, model: str | EquilibriumModel, X: ArrayLike, y: ArrayLike, estimators: Sequence[GradientEstimator]
    ) -> None:
        with errors.refusals():
            for one in estimators:
                if not isinstance(one, GradientEstimator):
                    raise TypeError(f"estimators must hold GradientEstimator, got {type(one).__name__}")
            self._features, self._given, self._places = _batch(X, y, least=1)
            self.model = ENGINE.name_of(model)
            self._wanted = [
                pb.GradientEstimator(
                    name=str(plain("name", one.name, "str")),
                    n=validation.whole_number("n", one.n),
                    radius=validation.finite_float("radius", one.radius),
                    steps=None if one.steps is None else validation.whole_number("steps", one.steps),
                )
                for one in estimators
            ]

    def requests(self, known: NDArray[Any] | None) -> Requests:
        """The messages, once it is known which classes the model has."""
        found = labels.decoded(self._given)
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
            features=tensors.header_of(self._features),
            target=tensors.header_of(target),
        )
        return partial(sent, pb.CompareGradientsRequest, header, {"features": self._features, "target": target})


def comparisons(reply: pb.CompareGradientsReply) -> tuple[GradientComparison, ...]:
    """The rows of a comparison."""
    return tuple(map(_comparison, reply.rows))


def model_of(message: pb.EquilibriumModel) -> EquilibriumModel:
    """A stored model from its message."""
    return EquilibriumModel(
        name=message.name,
        created=message.create_time.ToDatetime(UTC),
        n_features=message.n_features,
        class_count=message.class_count,
        hidden_sizes=tuple(message.hidden_sizes),
        image=tuple(message.image),
        channels=tuple(message.channels),
        activation=message.activation,
        feedback=message.feedback,
        outcome=pb.EquilibriumOutcome.Name(message.outcome).removeprefix("EQUILIBRIUM_OUTCOME_").lower(),
        steps=message.steps,
        message=message.message,
        classes=labels.decoded(message.classes),
        train_loss=np.array(message.train_loss, np.float64),
        train_accuracy=np.array(message.train_accuracy, np.float64),
        binary=message.binary,
        loss=message.loss,
        optimizer=message.optimizer,
        residual=message.residual,
    )


def step_of(message: pb.EquilibriumProgress) -> EpochProgress:
    """An epoch from its message."""
    return EpochProgress(
        message.epoch,
        message.epochs_wanted,
        message.loss,
        message.accuracy,
        message.free_steps,
        message.nudged_steps,
        dict(message.verdicts),
        message.seconds,
    )


def _batch(X: ArrayLike, y: ArrayLike, least: int) -> tuple[NDArray[Any], Any, Array]:
    """Features, classes and each row's place among them."""
    features = table("X", X, missing=False)
    classes, places = labels.encoded("y", y, least)
    if len(places) != len(features):
        raise ValueError(f"y must have a label for each of the {len(features)} rows of X, got {len(places)}")
    return features, classes, places


def _comparison(row: pb.GradientComparison) -> GradientComparison:
    return GradientComparison(
        row.estimator,
        row.cosine,
        row.angle,
        row.relative_error,
        row.truncation if row.HasField("truncation") else None,
        row.verdict,
        row.message,
        row.evaluations,
        row.seconds,
    )


ENGINE = Engine(
    watch=pb.WatchEquilibriumRequest,
    get=pb.GetEquilibriumModelRequest,
    list=pb.ListEquilibriumModelsRequest,
    delete=pb.DeleteEquilibriumModelRequest,
    message=pb.EquilibriumModel,
    model=EquilibriumModel,
    told=model_of,
    step=step_of,
)
