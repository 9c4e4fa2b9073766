"""Classifiers trained by equilibrium propagation on a server: jobs, stored models, predictions, gradients compared."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.client._sync.caller import Caller
from relaxon.client._sync.jobs import Job
from relaxon.client._sync.training import TrainingClient
from relaxon.proto import equilibrium_pb2_grpc
from relaxon.wire.conversions.equilibrium import (
    ARGUMENTS,
    ENGINE,
    Array,
    Comparison,
    EpochProgress,
    EquilibriumModel,
    EquilibriumSettings,
    GradientComparison,
    GradientEstimator,
    comparisons,
    predict_requests,
    predicted,
    train_requests,
)
from relaxon.wire.conversions.tables import Prediction


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

    _engine = ENGINE

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        super().__init__(equilibrium_pb2_grpc.EquilibriumServiceStub(channel), channel, caller)

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
        seconds = self._caller.transfer_seconds(timeout)
        requests = train_requests(X, y, settings, model, request_id)
        return self._begin(requests, seconds, ARGUMENTS)

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
        seconds = self._caller.transfer_seconds(timeout)
        comparison = Comparison(model, X, y, estimators)
        requests = comparison.requests(self.model(comparison.model).classes)
        return comparisons(
            self._caller.make(
                self._stub.CompareGradients, requests, idempotent=True, seconds=seconds, arguments=ARGUMENTS
            )
        )

    def _predicted(
        self, output: str, model: str | EquilibriumModel, X: ArrayLike, timeout: float | None
    ) -> tuple[Array, NDArray[Any]]:
        seconds = self._caller.transfer_seconds(timeout)
        requests, rows = predict_requests(output, model, X)
        return predicted(
            *self._caller.gather(
                self._stub.Predict, requests, partial(Prediction, rows), seconds=seconds, arguments=ARGUMENTS
            )
        )
