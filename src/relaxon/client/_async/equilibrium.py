"""Classifiers trained by equilibrium propagation on a server, for asyncio: jobs, stored models, predictions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import grpc.aio
import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.client._async.caller import Caller
from relaxon.client._async.jobs import Job
from relaxon.client._async.training import TrainingClient
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
    """The equilibrium-propagation calls of a `relaxon.aio.Client`; jobs and models are as in `client.boosting`."""

    _engine = ENGINE

    def __init__(self, channel: grpc.aio.Channel, caller: Caller) -> None:
        super().__init__(equilibrium_pb2_grpc.EquilibriumServiceStub(channel), channel, caller)

    async def train(
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
        requests = await asyncio.to_thread(train_requests, X, y, settings, model, request_id)
        return await self._begin(requests, seconds, ARGUMENTS)

    async def predict(
        self, model: str | EquilibriumModel, X: ArrayLike, *, timeout: float | None = None
    ) -> NDArray[Any]:
        """The label of each row; warns where the free phase did not come to rest."""
        output, classes = await self._predicted("predict", model, X, timeout)
        return classes[output.astype(np.int64)]

    async def predict_proba(
        self, model: str | EquilibriumModel, X: ArrayLike, *, timeout: float | None = None
    ) -> Array:
        """Probabilities `(n, classes)`, the columns in the order of the model's `classes`."""
        return (await self._predicted("predict_proba", model, X, timeout))[0]

    async def decision_function(
        self, model: str | EquilibriumModel, X: ArrayLike, *, timeout: float | None = None
    ) -> Array:
        """Logits at the free equilibrium: `(n, classes)`, or `(n,)` for two classes."""
        return (await self._predicted("decision_function", model, X, timeout))[0]

    async def compare_gradients(
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
        comparison = await asyncio.to_thread(Comparison, model, X, y, estimators)
        requests = comparison.requests((await self.model(comparison.model)).classes)
        return comparisons(
            await self._caller.make(
                self._stub.CompareGradients, requests, idempotent=True, seconds=seconds, arguments=ARGUMENTS
            )
        )

    async def _predicted(
        self, output: str, model: str | EquilibriumModel, X: ArrayLike, timeout: float | None
    ) -> tuple[Array, NDArray[Any]]:
        seconds = self._caller.transfer_seconds(timeout)
        requests, rows = await asyncio.to_thread(predict_requests, output, model, X)
        return predicted(
            *await self._caller.gather(
                self._stub.Predict, requests, partial(Prediction, rows), seconds=seconds, arguments=ARGUMENTS
            )
        )
