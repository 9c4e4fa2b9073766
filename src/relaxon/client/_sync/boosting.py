# Generated from relaxon/client/_async/boosting.py by tools/generate_client.py: edit that file and run the tool.
"""Networks trained by gradient boosting on a server: jobs, stored models, predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.client._sync.caller import RetryingCaller
from relaxon.client._sync.jobs import Job
from relaxon.client._sync.training import TrainingClient
from relaxon.client.shared.blocking_runtime import Channel
from relaxon.proto import boosting_pb2_grpc
from relaxon.wire.conversions import labels
from relaxon.wire.conversions.boosting import (
    ARGUMENTS,
    ENGINE,
    Array,
    BoostingModel,
    BoostingSettings,
    StageProgress,
    predict_requests,
    train_requests,
    truncate_request,
)
from relaxon.wire.conversions.supervised import Task


class BoostingClient(TrainingClient[StageProgress, BoostingModel]):
    """The boosting calls of a `relaxon.client.Client`.

    Examples
    --------
    >>> import numpy as np
    >>> import relaxon
    >>> from relaxon.client import BoostingSettings
    >>> from relaxon.server.app import EmbeddedServer
    >>> X = np.linspace(-2, 2, 200).reshape(-1, 1)
    >>> def train(target):
    ...     with relaxon.connect(target) as client:
    ...         settings = BoostingSettings(n_units=5, random_state=0)
    ...         job = client.boosting.train(X, np.sin(X[:, 0]), settings=settings)
    ...         model = job.result()
    ...         predicted = client.boosting.predict(model, X[:3])
    ...         return predicted.shape, model.outcome
    >>> with EmbeddedServer() as server:
    ...     train(server.target)
    ((3,), 'completed')
    """

    _engine = ENGINE

    def __init__(self, channel: Channel, caller: RetryingCaller) -> None:
        super().__init__(boosting_pb2_grpc.BoostingServiceStub(channel), channel, caller)

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
        """Send the data and start a training job on them; return once the server has received them.

        Parameters
        ----------
        X : numbers, (n, d); NaN only with the setting `missing="mean"` or `"indicate"`.
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
        model: str | BoostingModel,
        X: ArrayLike,
        *,
        n_units: int | None = None,
        timeout: float | None = None,
    ) -> NDArray[Any]:
        """Predict numbers `(n,)` or `(n, K)`, or the labels `(n,)` of a classification.

        With `n_units` only the first units predict, as if training had ended there.
        """
        numbers, classes = self._predict("predict", model, X, n_units, timeout)
        return numbers if classes is None else classes[numbers.astype(np.int64)]

    def predict_proba(
        self,
        model: str | BoostingModel,
        X: ArrayLike,
        *,
        n_units: int | None = None,
        timeout: float | None = None,
    ) -> Array:
        """Return probabilities, `(n, classes)`, the columns in the order of the model's `classes`."""
        numbers, _ = self._predict("predict_proba", model, X, n_units, timeout)
        return numbers

    def decision_function(
        self,
        model: str | BoostingModel,
        X: ArrayLike,
        *,
        n_units: int | None = None,
        timeout: float | None = None,
    ) -> Array:
        """Return logits: `(n,)`, of the second class, where there are two, else `(n, classes)`."""
        numbers, _ = self._predict("decision_function", model, X, n_units, timeout)
        return numbers

    def truncate(self, model: str | BoostingModel, n_units: int, *, name: str = "") -> BoostingModel:
        """Store the model's first units as a new model; the server makes up a name where `name` is empty."""
        request = truncate_request(model, n_units, name)
        reply = self._caller.make(self._stub.Truncate, request, idempotent=False, arguments=ARGUMENTS)
        return ENGINE.told(reply)

    def _predict(
        self, output: str, model: str | BoostingModel, X: ArrayLike, n_units: int | None, timeout: float | None
    ) -> tuple[Array, NDArray[Any] | None]:
        data = output, model, X, n_units
        header, numbers = self._evaluate(
            self._stub.Predict, predict_requests, *data, timeout=timeout, arguments=ARGUMENTS
        )
        return numbers, labels.decode_classes(header.classes)
