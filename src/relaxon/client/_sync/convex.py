"""Convex networks on a server: jobs, stored models, predictions."""

from __future__ import annotations

from functools import partial
from typing import Any

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.client._sync.caller import Caller
from relaxon.client._sync.jobs import Job
from relaxon.client._sync.training import TrainingClient
from relaxon.proto import convex_pb2_grpc
from relaxon.wire.conversions import labels
from relaxon.wire.conversions.convex import (
    ENGINE,
    Array,
    BoundsProgress,
    ConvexModel,
    ConvexSettings,
    predict_requests,
    train_requests,
)
from relaxon.wire.conversions.supervised import ARGUMENTS, Task
from relaxon.wire.conversions.tables import Prediction


class ConvexClient(TrainingClient[BoundsProgress, ConvexModel]):
    """The calls of a `Client` that train convex networks.

    Examples
    --------
    >>> import numpy as np
    >>> import relaxon
    >>> from relaxon.client import ConvexSettings
    >>> from relaxon.server.app import EmbeddedServer
    >>> X = np.linspace(-2, 2, 200).reshape(-1, 1)
    >>> with EmbeddedServer() as server, relaxon.connect(server.target) as client:
    ...     job = client.convex.train(X, np.sin(X[:, 0]), settings=ConvexSettings(n_patterns=10, random_state=0))
    ...     model = job.result()
    ...     client.convex.predict(model, X[:3]).shape, model.outcome, model.certificate.relative_gap <= 1e-4
    ((3,), 'converged', True)
    """

    _engine = ENGINE

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        super().__init__(convex_pb2_grpc.ConvexServiceStub(channel), channel, caller)

    def train(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        task: Task = "regression",
        settings: ConvexSettings | None = None,
        sample_weight: ArrayLike | None = None,
        model: str = "",
        request_id: str = "",
        timeout: float | None = None,
    ) -> Job[BoundsProgress, ConvexModel]:
        """Send the data and have the server train on them; returns when it has them.

        Parameters
        ----------
        X : (n, d), numbers.
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
        seconds = self._caller.transfer_seconds(timeout)
        requests = train_requests(X, y, task, settings, sample_weight, model, request_id)
        return self._begin(requests, seconds, ARGUMENTS)

    def predict(
        self,
        model: str | ConvexModel,
        X: ArrayLike,
        *,
        timeout: float | None = None,
    ) -> NDArray[Any]:
        """Numbers `(n,)` or `(n, K)`, or the labels `(n,)` of a classification."""
        output, classes = self._predicted("predict", model, X, timeout)
        return output if classes is None else classes[output.astype(np.int64)]

    def predict_proba(
        self,
        model: str | ConvexModel,
        X: ArrayLike,
        *,
        timeout: float | None = None,
    ) -> Array:
        """Probabilities `(n, classes)` of loss "logistic", the columns in the order of the model's `classes`."""
        return self._predicted("predict_proba", model, X, timeout)[0]

    def decision_function(
        self,
        model: str | ConvexModel,
        X: ArrayLike,
        *,
        timeout: float | None = None,
    ) -> Array:
        """Outputs: `(n,)` of the second class where there are two, else `(n, classes)`."""
        return self._predicted("decision_function", model, X, timeout)[0]

    def _predicted(
        self, output: str, model: str | ConvexModel, X: ArrayLike, timeout: float | None
    ) -> tuple[Array, NDArray[Any] | None]:
        seconds = self._caller.transfer_seconds(timeout)
        requests, rows = predict_requests(output, model, X)
        found, numbers = self._caller.gather(
            self._stub.Predict, requests, partial(Prediction, rows), seconds=seconds, arguments=ARGUMENTS
        )
        return numbers, labels.decoded(found.classes)
