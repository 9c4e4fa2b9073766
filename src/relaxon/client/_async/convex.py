"""Convex networks on a server, for asyncio: jobs, stored models, predictions."""

from __future__ import annotations

from relaxon.client._async.training import SupervisedClient
from relaxon.proto import convex_pb2_grpc
from relaxon.wire.conversions.convex import ENGINE, BoundsProgress, ConvexModel, ConvexSettings


class ConvexClient(SupervisedClient[BoundsProgress, ConvexModel, ConvexSettings]):
    """The calls of a `relaxon.aio.Client` for convex networks; probabilities are those of the loss "logistic".

    Examples
    --------
    >>> import asyncio
    >>> import numpy as np
    >>> import relaxon.aio
    >>> from relaxon.client import ConvexSettings
    >>> from relaxon.server.app import EmbeddedServer
    >>> X = np.linspace(-2, 2, 200).reshape(-1, 1)
    >>> async def train(target):
    ...     async with relaxon.aio.connect(target) as client:
    ...         settings = ConvexSettings(n_patterns=10, random_state=0)
    ...         job = await client.convex.train(X, np.sin(X[:, 0]), settings=settings)
    ...         model = await job.result()
    ...         predicted = await client.convex.predict(model, X[:3])
    ...         return predicted.shape, model.outcome, model.certificate.relative_gap <= 1e-4
    >>> with EmbeddedServer() as server:
    ...     asyncio.run(train(server.target))
    ((3,), 'converged', True)
    """

    _engine = ENGINE
    _settings = ConvexSettings
    _new_stub = convex_pb2_grpc.ConvexServiceStub
