# Generated from relaxon/client/_async/convex.py by tools/generate_client.py: edit that file and run the tool.
"""Convex networks on a server: jobs, stored models, predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.client._sync.caller import RetryingCaller
from relaxon.client._sync.jobs import Job
from relaxon.client._sync.training import TrainingClient
from relaxon.client.shared.blocking_runtime import Channel
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


class ConvexClient(TrainingClient[BoundsProgress, ConvexModel]):
    """The calls of a `relaxon.client.Client` for convex networks.

    Examples
    --------
    >>> import numpy as np
    >>> import relaxon
    >>> from relaxon.client import ConvexSettings
    >>> from relaxon.server.app import EmbeddedServer
    >>> X = np.linspace(-2, 2, 200).reshape(-1, 1)
    >>> def train(target):
    ...     with relaxon.connect(target) as client:
    ...         settings = ConvexSettings(n_patterns=10, random_state=0)
    ...         job = client.convex.train(X, np.sin(X[:, 0]), settings=settings)
    ...         model = job.result()
    ...         predicted = client.convex.predict(model, X[:3])
    ...         return predicted.shape, model.outcome, model.certificate.relative_gap <= 1e-4
    >>> with EmbeddedServer() as server:
    ...     train(server.target)
    ((3,), 'converged', True)
    """

    _engine = ENGINE

    def __init__(self, channel: Channel, caller: RetryingCaller) -> None:
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
        """Send the data and start a training job on them; return once the server has received them.

        Parameters
        ----------
        X : numbers, (n, d).
        y : numbers, (n,) or (n, K); for a classification labels, (n,): strings, whole numbers or booleans.
        task : "regression" or "classification".
        sample_weight : weights of the rows, (n,), at least 0.
        model : the name under which the model is stored; the server makes one up where it is empty.
        request_id : your own name for this call, with which your program can repeat it without starting a second job;
            where it is empty, one is made up, with which the client repeats a call that the end of a server cut off.
        timeout : seconds for sending; None for the client's.

        Raises
        ------
        InvalidArgument : for a bad argument, which it names. AlreadyExists : the name is taken, or the request id
        belongs to another call. ResourceExhausted : a limit of the server is reached, or its queue is full.
        FailedPrecondition : the server lacks packages. Unavailable : the server was away for the client's timeout.
        """
        data = X, y, task, settings, sample_weight, model, request_id
        return self._train(train_requests, *data, timeout=timeout, arguments=ARGUMENTS)

    def predict(
        self,
        model: str | ConvexModel,
        X: ArrayLike,
        *,
        timeout: float | None = None,
    ) -> NDArray[Any]:
        """Predict numbers `(n,)` or `(n, K)`, or the labels `(n,)` of a classification."""
        numbers, classes = self._predict("predict", model, X, timeout)
        return numbers if classes is None else classes[numbers.astype(np.int64)]

    def predict_proba(
        self,
        model: str | ConvexModel,
        X: ArrayLike,
        *,
        timeout: float | None = None,
    ) -> Array:
        """Return probabilities, `(n, classes)`, for the loss "logistic", in the order of the model's `classes`."""
        numbers, _ = self._predict("predict_proba", model, X, timeout)
        return numbers

    def decision_function(
        self,
        model: str | ConvexModel,
        X: ArrayLike,
        *,
        timeout: float | None = None,
    ) -> Array:
        """Return outputs: `(n,)`, of the second class, where there are two, else `(n, classes)`."""
        numbers, _ = self._predict("decision_function", model, X, timeout)
        return numbers

    def _predict(
        self, output: str, model: str | ConvexModel, X: ArrayLike, timeout: float | None
    ) -> tuple[Array, NDArray[Any] | None]:
        data = output, model, X
        header, numbers = self._evaluate(
            self._stub.Predict, predict_requests, *data, timeout=timeout, arguments=ARGUMENTS
        )
        return numbers, labels.decode_classes(header.classes)
