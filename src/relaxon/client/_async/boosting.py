"""Networks trained by gradient boosting on a server, for asyncio: jobs, stored models, predictions."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import grpc.aio
import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.client._async.caller import Caller
from relaxon.client._async.jobs import Job
from relaxon.client._async.training import TrainingClient
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
from relaxon.wire.conversions.tables import Prediction


class BoostingClient(TrainingClient[StageProgress, BoostingModel]):
    """The boosting calls of a `relaxon.aio.Client`."""

    _engine = ENGINE

    def __init__(self, channel: grpc.aio.Channel, caller: Caller) -> None:
        super().__init__(boosting_pb2_grpc.BoostingServiceStub(channel), channel, caller)

    async def train(
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
        """Send the data and have the server train on them; returns when it has them.

        Parameters
        ----------
        X : (n, d), numbers; NaN only with the setting `missing="mean"` or `"indicate"`.
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
        requests = await asyncio.to_thread(train_requests, X, y, task, settings, sample_weight, model, request_id)
        return await self._begin(requests, seconds, ARGUMENTS)

    async def predict(
        self,
        model: str | BoostingModel,
        X: ArrayLike,
        *,
        n_units: int | None = None,
        timeout: float | None = None,
    ) -> NDArray[Any]:
        """Numbers `(n,)` or `(n, K)`, or the labels `(n,)` of a classification.

        `n_units` predicts with the first units only, as if training had ended there.
        """
        output, classes = await self._predicted("predict", model, X, n_units, timeout)
        return output if classes is None else classes[output.astype(np.int64)]

    async def predict_proba(
        self,
        model: str | BoostingModel,
        X: ArrayLike,
        *,
        n_units: int | None = None,
        timeout: float | None = None,
    ) -> Array:
        """Probabilities `(n, classes)`, the columns in the order of the model's `classes`."""
        return (await self._predicted("predict_proba", model, X, n_units, timeout))[0]

    async def decision_function(
        self,
        model: str | BoostingModel,
        X: ArrayLike,
        *,
        n_units: int | None = None,
        timeout: float | None = None,
    ) -> Array:
        """Logits: `(n,)` of the second class where there are two, else `(n, classes)`."""
        return (await self._predicted("decision_function", model, X, n_units, timeout))[0]

    async def truncate(self, model: str | BoostingModel, n_units: int, *, name: str = "") -> BoostingModel:
        """Have the model's first units stored as a model of its own, named by the server where `name` is empty."""
        request = truncate_request(model, n_units, name)
        return ENGINE.told(await self._caller.make(self._stub.Truncate, request, idempotent=False, arguments=ARGUMENTS))

    async def _predicted(
        self, output: str, model: str | BoostingModel, X: ArrayLike, n_units: int | None, timeout: float | None
    ) -> tuple[Array, NDArray[Any] | None]:
        seconds = self._caller.transfer_seconds(timeout)
        requests, rows = await asyncio.to_thread(predict_requests, output, model, X, n_units)
        found, numbers = await self._caller.gather(
            self._stub.Predict, requests, partial(Prediction, rows), seconds=seconds, arguments=ARGUMENTS
        )
        return numbers, labels.decoded(found.classes)
