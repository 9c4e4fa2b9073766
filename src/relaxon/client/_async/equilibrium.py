"""Classifiers trained by equilibrium propagation on a server, for asyncio: jobs, stored models, predictions,
gradients compared."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from numpy.typing import ArrayLike

from relaxon.client._async.jobs import Job
from relaxon.client._async.training import PredictingClient
from relaxon.proto import equilibrium_pb2_grpc
from relaxon.wire.conversions.equilibrium import (
    ARGUMENTS,
    ENGINE,
    ComparisonRequest,
    EpochProgress,
    EquilibriumModel,
    EquilibriumSettings,
    GradientComparison,
    GradientEstimator,
    check_prediction,
    read_comparisons,
    train_requests,
)


class EquilibriumClient(PredictingClient[EpochProgress, EquilibriumModel]):
    """The equilibrium-propagation calls of a `relaxon.aio.Client`; jobs and models are as in `client.boosting`.

    A prediction warns where its free phase did not come to rest.

    Examples
    --------
    >>> import asyncio
    >>> import numpy as np
    >>> import relaxon.aio
    >>> from relaxon.client import EquilibriumSettings
    >>> from relaxon.server.app import EmbeddedServer
    >>> X = np.random.default_rng(0).standard_normal((60, 2))
    >>> y = X[:, 0] > 0
    >>> settings = EquilibriumSettings(hidden_sizes=(8,), epochs=10, random_state=0)
    >>> async def train(target):
    ...     async with relaxon.aio.connect(target) as client:
    ...         job = await client.equilibrium.train(X, y, settings=settings)
    ...         model = await job.result()
    ...         predicted = await client.equilibrium.predict(model, X)
    ...         return float(np.mean(predicted == y)) > 0.9, model.outcome
    >>> with EmbeddedServer() as server:
    ...     asyncio.run(train(server.target))
    (True, 'finished')
    """

    _engine = ENGINE
    _check_prediction = staticmethod(check_prediction)
    _new_stub = equilibrium_pb2_grpc.EquilibriumServiceStub

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
        """Send the data and start a training job on them; return once the server has received them.

        `X` holds finite numbers, (n, d), and `y` labels, (n,): strings, whole numbers or booleans. The other arguments
        and the errors are those of `client.boosting.train`.
        """
        data = X, y, settings, model, request_id
        return await self._train(train_requests, *data, timeout=timeout, arguments=ARGUMENTS)

    async def compare_gradients(
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
        comparison = await asyncio.to_thread(ComparisonRequest, model, X, y, estimators)
        stored = await self.model(comparison.model)
        requests = comparison.requests(stored.classes)
        reply = await self._caller.make(
            self._stub.CompareGradients, requests, idempotent=True, seconds=seconds, arguments=ARGUMENTS
        )
        return read_comparisons(reply)
