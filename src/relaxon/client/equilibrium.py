"""Classifiers trained by equilibrium propagation on a server: jobs, stored models, predictions, gradients compared."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.client import errors, labels
from relaxon.client.jobs import Job, stream
from relaxon.client.tables import plain, put_together, sent, table
from relaxon.client.trained import Messages, TrainingClient, checked_id
from relaxon.proto import equilibrium_pb2 as pb
from relaxon.proto import equilibrium_pb2_grpc, tensors
from relaxon.solvers import validation

Array = NDArray[np.float64]
ARGUMENTS = {"features": "X", "target": "y"}
"""What the messages' fields are called here."""
CONVERGED = "converged"
_OUTPUTS = {
    "predict": pb.EQUILIBRIUM_OUTPUT_PREDICTION,
    "predict_proba": pb.EQUILIBRIUM_OUTPUT_PROBABILITIES,
    "decision_function": pb.EQUILIBRIUM_OUTPUT_DECISION,
}


@dataclass(frozen=True, slots=True)
class EquilibriumSettings:
    """The parameters of `relaxon.neuromorphic.equilibrium.EquilibriumClassifier`; what is None has its value there.

    `contraction` and `readout_bound` 0 put no bound.
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

    def message(self) -> pb.EquilibriumSettings:
        """As it is sent; TypeError or ValueError naming what cannot be."""
        message = pb.EquilibriumSettings()
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if field.name == "hidden_sizes":
                message.hidden_sizes.extend(validation.positive_int("hidden_sizes", units) for units in value)
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


@dataclass(frozen=True, slots=True)
class GradientEstimator:
    """A way to measure a gradient: "cauchy", "asymmetric-cauchy", "centred", "one-sided" or "implicit"."""

    name: str
    n: int = 6
    radius: float = 0.5


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


class EquilibriumClient(TrainingClient[EpochProgress, EquilibriumModel]):
    """The equilibrium-propagation calls of a `Client`; jobs and models are as in `client.boosting`.

    Examples
    --------
    >>> import numpy as np
    >>> import relaxon
    >>> from relaxon.client import EquilibriumSettings
    >>> from relaxon.server.app import EmbeddedServer
    >>> X = np.random.default_rng(0).standard_normal((60, 2))
    >>> settings = EquilibriumSettings(hidden_sizes=(8,), epochs=10, random_state=0)
    >>> with EmbeddedServer() as server, relaxon.connect(server.target) as client:
    ...     model = client.equilibrium.train(X, X[:, 0] > 0, settings=settings).result()
    ...     float(np.mean(client.equilibrium.predict(model, X) == (X[:, 0] > 0))) > 0.9, model.outcome
    (True, 'finished')
    """

    _messages = Messages(
        pb.WatchEquilibriumRequest,
        pb.GetEquilibriumModelRequest,
        pb.ListEquilibriumModelsRequest,
        pb.DeleteEquilibriumModelRequest,
        pb.EquilibriumModel,
    )
    _kind = EquilibriumModel

    def __init__(self, channel: grpc.Channel, timeout: float, transfer_timeout: float) -> None:
        super().__init__(equilibrium_pb2_grpc.EquilibriumServiceStub(channel), channel, timeout, transfer_timeout)

    def train(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        settings: EquilibriumSettings | None = None,
        model: str = "",
        request_id: str = "",
        timeout: float | None = None,
    ) -> Job[EpochProgress, EquilibriumModel]:
        """Send the data and have the server train on them; returns when it has them.

        `X` is (n, d) finite numbers, `y` (n,) labels: strings, whole numbers or booleans. `model` is the name to store
        the model under; the server makes one up where it is empty. Raises as `client.boosting.train`.
        """
        with errors.refusals():
            seconds = self._transfer_timeout if timeout is None else validation.positive_float("timeout", timeout)
            if settings is not None and not isinstance(settings, EquilibriumSettings):
                raise TypeError(f"settings must be EquilibriumSettings, got {type(settings).__name__}")
            if not isinstance(model, str):
                raise TypeError(f"model must be a string, got {type(model).__name__}")
            features, classes, target = _batch(X, y)
            header = pb.TrainEquilibriumHeader(
                model=model,
                settings=(settings or EquilibriumSettings()).message(),
                features=tensors.header_of(features),
                target=tensors.header_of(target),
                classes=classes,
                request_id=checked_id(request_id),
            )
        arrays = {"features": features, "target": target}
        return self._begun(header, pb.TrainEquilibriumRequest, arrays, seconds, ARGUMENTS)

    def predict(self, model: str | EquilibriumModel, X: ArrayLike, *, timeout: float | None = None) -> NDArray[Any]:
        """The label of each row; warns where the free phase did not come to rest."""
        output, classes = self._predicted("predict", model, X, timeout)
        return classes[output.astype(np.int64)]

    def predict_proba(self, model: str | EquilibriumModel, X: ArrayLike, *, timeout: float | None = None) -> Array:
        """Probabilities `(n, classes)`, the columns in the order of the model's `classes`."""
        return self._predicted("predict_proba", model, X, timeout)[0]

    def decision_function(self, model: str | EquilibriumModel, X: ArrayLike, *, timeout: float | None = None) -> Array:
        """Logits at the free equilibrium: `(n, classes)`, or `(n,)` for two classes."""
        return self._predicted("decision_function", model, X, timeout)[0]

    def compare_gradients(
        self,
        model: str | EquilibriumModel,
        X: ArrayLike,
        y: ArrayLike,
        estimators: Sequence[GradientEstimator],
        *,
        timeout: float | None = None,
    ) -> tuple[GradientComparison, ...]:
        """Each estimator's gradient of the batch `X`, `y` against the exact one, in their order."""
        with errors.refusals():
            seconds = self._transfer_timeout if timeout is None else validation.positive_float("timeout", timeout)
            for one in estimators:
                if not isinstance(one, GradientEstimator):
                    raise TypeError(f"estimators must hold GradientEstimator, got {type(one).__name__}")
            features, given, places = _batch(X, y)
            name = self._name(model)
            wanted = [
                pb.GradientEstimator(
                    name=str(plain("name", one.name, "str")),
                    n=validation.whole_number("n", one.n),
                    radius=validation.finite_float("radius", one.radius),
                )
                for one in estimators
            ]
        known, found = self.model(name).classes, labels.decoded(given)
        assert known is not None
        assert found is not None
        with errors.refusals():
            unknown = [label for label in found.tolist() if label not in set(known.tolist())]
            if unknown:
                raise ValueError(f"y must hold the model's classes, got {unknown[0]!r}")
        target = np.searchsorted(known, found).astype(np.float64)[places.astype(np.int64)]
        header = pb.CompareGradientsHeader(
            model=name,
            estimators=wanted,
            features=tensors.header_of(features),
            target=tensors.header_of(target),
        )
        requests = sent(pb.CompareGradientsRequest, header, {"features": features, "target": target})
        with errors.translated(ARGUMENTS):
            reply = self._stub.CompareGradients(requests, timeout=seconds)
        return tuple(map(_comparison, reply.rows))

    def _told(self, message: pb.EquilibriumModel) -> EquilibriumModel:
        return EquilibriumModel(
            name=message.name,
            created=message.create_time.ToDatetime(UTC),
            n_features=message.n_features,
            class_count=message.class_count,
            hidden_sizes=tuple(message.hidden_sizes),
            activation=message.activation,
            feedback=message.feedback,
            outcome=pb.EquilibriumOutcome.Name(message.outcome).removeprefix("EQUILIBRIUM_OUTCOME_").lower(),
            steps=message.steps,
            message=message.message,
            classes=labels.decoded(message.classes),
            train_loss=np.array(message.train_loss, np.float64),
            train_accuracy=np.array(message.train_accuracy, np.float64),
        )

    def _step(self, message: pb.EquilibriumProgress) -> EpochProgress:
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

    def _predicted(
        self, output: str, model: str | EquilibriumModel, X: ArrayLike, timeout: float | None
    ) -> tuple[Array, NDArray[Any]]:
        with errors.refusals():
            seconds = self._transfer_timeout if timeout is None else validation.positive_float("timeout", timeout)
            features = table("X", X, missing=False)
            header = pb.PredictEquilibriumHeader(
                model=self._name(model), output=_OUTPUTS[output], features=tensors.header_of(features)
            )
        requests = sent(pb.PredictEquilibriumRequest, header, {"features": features})
        with errors.translated(ARGUMENTS):
            call = self._stub.Predict(requests, timeout=seconds)
            found, numbers = put_together(stream(call), len(features))
        if found.relaxation != CONVERGED:
            warnings.warn(
                f"the free phase did not come to rest: residual {found.residual:.1e} after {found.steps} steps",
                stacklevel=3,
            )
        classes = labels.decoded(found.classes)
        if classes is None:
            raise errors.InternalError("the server's answer has no classes")
        return numbers, classes


def _batch(X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], Any, Array]:
    """Features, classes and each row's place among them."""
    features = table("X", X, missing=False)
    classes, places = labels.encoded("y", y)
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
