# Generated from relaxon/client/_async/equilibrium.py by tools/generate_client.py: edit that file and run the tool.
"""Classifiers trained by equilibrium propagation on a server: jobs, stored models, predictions,
gradients compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.client._sync.caller import RetryingCaller
from relaxon.client._sync.jobs import Job
from relaxon.client._sync.training import TrainingClient
from relaxon.client.shared.blocking_runtime import Channel
from relaxon.proto import equilibrium_pb2_grpc
from relaxon.wire.conversions.equilibrium import (
    ARGUMENTS,
    ENGINE,
    Array,
    ComparisonRequest,
    EpochProgress,
    EquilibriumModel,
    EquilibriumSettings,
    GradientComparison,
    GradientEstimator,
    netlist_request,
    predict_requests,
    read_comparisons,
    read_prediction,
    train_requests,
)


class EquilibriumClient(TrainingClient[EpochProgress, EquilibriumModel]):
    """The equilibrium-propagation calls of a `relaxon.client.Client`; jobs and models are as in `client.boosting`.

    Examples
    --------
    >>> import numpy as np
    >>> import relaxon
    >>> from relaxon.client import EquilibriumSettings
    >>> from relaxon.server.app import EmbeddedServer
    >>> X = np.random.default_rng(0).standard_normal((60, 2))
    >>> y = X[:, 0] > 0
    >>> settings = EquilibriumSettings(hidden_sizes=(8,), epochs=10, random_state=0)
    >>> def train(target):
    ...     with relaxon.connect(target) as client:
    ...         job = client.equilibrium.train(X, y, settings=settings)
    ...         model = job.result()
    ...         predicted = client.equilibrium.predict(model, X)
    ...         return float(np.mean(predicted == y)) > 0.9, model.outcome
    >>> with EmbeddedServer() as server:
    ...     train(server.target)
    (True, 'finished')
    """

    _engine = ENGINE

    def __init__(self, channel: Channel, caller: RetryingCaller) -> None:
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
        """Send the data and start a training job on them; return once the server has received them.

        `X` holds finite numbers, (n, d), and `y` labels, (n,): strings, whole numbers or booleans. The other arguments
        and the errors are those of `client.boosting.train`.
        """
        data = X, y, settings, model, request_id
        return self._train(train_requests, *data, timeout=timeout, arguments=ARGUMENTS)

    def predict(self, model: str | EquilibriumModel, X: ArrayLike, *, timeout: float | None = None) -> NDArray[Any]:
        """Predict the label of each row; warn where the free phase did not come to rest."""
        numbers, classes = self._predict("predict", model, X, timeout)
        return classes[numbers.astype(np.int64)]

    def predict_proba(self, model: str | EquilibriumModel, X: ArrayLike, *, timeout: float | None = None) -> Array:
        """Return probabilities, `(n, classes)`, the columns in the order of the model's `classes`."""
        numbers, _ = self._predict("predict_proba", model, X, timeout)
        return numbers

    def decision_function(self, model: str | EquilibriumModel, X: ArrayLike, *, timeout: float | None = None) -> Array:
        """Return the logits at the free equilibrium: `(n, classes)`, or `(n,)` for two classes."""
        numbers, _ = self._predict("decision_function", model, X, timeout)
        return numbers

    def compare_gradients(
        self,
        model: str | EquilibriumModel,
        X: ArrayLike,
        y: ArrayLike,
        estimators: Sequence[GradientEstimator],
        *,
        timeout: float | None = None,
    ) -> tuple[GradientComparison, ...]:
        """Compare the gradient of each estimator on the batch `X`, `y` with the exact one, in their order."""
        seconds = self._caller.transfer_seconds(timeout)
        comparison = ComparisonRequest(model, X, y, estimators)
        stored = self.model(comparison.model)
        requests = comparison.requests(stored.classes)
        reply = self._caller.make(
            self._stub.CompareGradients, requests, idempotent=True, seconds=seconds, arguments=ARGUMENTS
        )
        return read_comparisons(reply)

    def netlist(
        self,
        model: str | EquilibriumModel,
        x: ArrayLike,
        *,
        unit_conductance: float | None = None,
        timeout: float | None = None,
    ) -> str:
        """Return the SPICE netlist of a layered network with tied weights for the input `x`, `(n_features,)`.

        Its operating point is the free equilibrium; a weight of 1 is `unit_conductance` siemens, 1e-5 by default.
        """
        request = netlist_request(model, x, unit_conductance)
        reply = self._caller.make(
            self._stub.ExportNetlist, request, idempotent=True, seconds=timeout, arguments={**ARGUMENTS, "row": "x"}
        )
        return str(reply.netlist)

    def _predict(
        self, output: str, model: str | EquilibriumModel, X: ArrayLike, timeout: float | None
    ) -> tuple[Array, NDArray[Any]]:
        header, numbers = self._evaluate(
            self._stub.Predict, predict_requests, output, model, X, timeout=timeout, arguments=ARGUMENTS
        )
        return read_prediction(header, numbers)
