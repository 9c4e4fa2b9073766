"""Networks trained by gradient boosting on a server, for asyncio: jobs, stored models, predictions."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from relaxon.client._async.training import SupervisedClient
from relaxon.proto import boosting_pb2_grpc
from relaxon.wire.conversions.boosting import (
    ARGUMENTS,
    ENGINE,
    Array,
    BoostingModel,
    BoostingSettings,
    StageProgress,
    check_prediction,
    predict_requests,
    truncate_request,
)


class BoostingClient(SupervisedClient[StageProgress, BoostingModel, BoostingSettings]):
    """The boosting calls of a `relaxon.aio.Client`.

    Examples
    --------
    >>> import asyncio
    >>> import numpy as np
    >>> import relaxon.aio
    >>> from relaxon.client import BoostingSettings
    >>> from relaxon.server.app import EmbeddedServer
    >>> X = np.linspace(-2, 2, 200).reshape(-1, 1)
    >>> async def train(target):
    ...     async with relaxon.aio.connect(target) as client:
    ...         settings = BoostingSettings(n_units=5, random_state=0)
    ...         job = await client.boosting.train(X, np.sin(X[:, 0]), settings=settings)
    ...         model = await job.result()
    ...         predicted = await client.boosting.predict(model, X[:3])
    ...         return predicted.shape, model.outcome
    >>> with EmbeddedServer() as server:
    ...     asyncio.run(train(server.target))
    ((3,), 'completed')
    """

    _engine = ENGINE
    _settings = BoostingSettings
    _arguments = ARGUMENTS
    _check_prediction = staticmethod(check_prediction)
    _new_stub = boosting_pb2_grpc.BoostingServiceStub

    async def predict(
        self, model: str | BoostingModel, X: ArrayLike, *, n_units: int | None = None, timeout: float | None = None
    ) -> NDArray[Any]:
        """Predict numbers `(n,)` or `(n, K)`, or the labels `(n,)` of a classification.

        With `n_units` only the first units predict, as if training had ended there.
        """
        return await self._predict("predict", model, X, timeout, n_units, make_requests=predict_requests)

    async def predict_proba(
        self, model: str | BoostingModel, X: ArrayLike, *, n_units: int | None = None, timeout: float | None = None
    ) -> Array:
        """Return probabilities, `(n, classes)`, the columns in the order of the model's `classes`."""
        return await self._predict("predict_proba", model, X, timeout, n_units, make_requests=predict_requests)

    async def decision_function(
        self, model: str | BoostingModel, X: ArrayLike, *, n_units: int | None = None, timeout: float | None = None
    ) -> Array:
        """Return logits: `(n,)`, of the second class, where there are two, else `(n, classes)`."""
        return await self._predict("decision_function", model, X, timeout, n_units, make_requests=predict_requests)

    async def truncate(self, model: str | BoostingModel, n_units: int, *, name: str = "") -> BoostingModel:
        """Store the model's first units as a new model; the server makes up a name where `name` is empty."""
        request = truncate_request(model, n_units, name)
        reply = await self._caller.make(self._stub.Truncate, request, idempotent=False, arguments=ARGUMENTS)
        return ENGINE.told(reply)
