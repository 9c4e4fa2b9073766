"""What the asyncio clients of services that train share: jobs found again, stored models told of and deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import grpc.aio
from google.longrunning import operations_pb2_grpc

from relaxon.client._async.caller import Caller
from relaxon.client._async.jobs import Job
from relaxon.wire.conversions.engine import Engine
from relaxon.wire.conversions.jobs import get_request, metadata_of
from relaxon.wire.ownership import NotPickled

Progress = TypeVar("Progress")
Model = TypeVar("Model")


class TrainingClient(NotPickled, Generic[Progress, Model]):
    """Base of the clients of services that train models of one kind."""

    _engine: ClassVar[Engine[Any, Any]]

    def __init__(self, stub: Any, channel: grpc.aio.Channel, caller: Caller) -> None:
        self._stub = stub
        self._operations = operations_pb2_grpc.OperationsStub(channel)
        self._caller = caller

    async def job(self, name: str) -> Job[Progress, Model]:
        """The training job of that name; NotFound where the server does not know it (any more)."""
        request = get_request(name)
        return self._job(await self._caller.make(self._operations.GetOperation, request, idempotent=True, patient=True))

    async def model(self, name: str) -> Model:
        """A stored model; NotFound where there is none of that name."""
        request = self._engine.get_request(name)
        model: Model = self._engine.told(await self._caller.make(self._stub.GetModel, request, idempotent=True))
        return model

    async def models(self) -> tuple[Model, ...]:
        """All stored models by name, without what can be long."""
        reply = await self._caller.make(self._stub.ListModels, self._engine.list(), idempotent=True)
        return tuple(map(self._engine.told, reply.models))

    async def delete_model(self, model: str | Model) -> None:
        """Have the server delete a model; NotFound where there is none of that name."""
        await self._caller.delete(self._stub.DeleteModel, self._engine.delete_request(model))

    async def _begin(
        self, requests: Any, seconds: float | None, arguments: Mapping[str, str] | None = None
    ) -> Job[Progress, Model]:
        """Send a training's requests and return its job; `arguments` are what fields are called here."""
        operation = await self._caller.make(
            self._stub.Train, requests, idempotent=True, seconds=seconds, arguments=arguments, patient=True
        )
        return self._job(operation)

    def _job(self, operation: Any) -> Job[Progress, Model]:
        return Job(
            operation.name,
            metadata_of(operation).model,
            self._operations,
            self._watched,
            self._engine.trained,
            self._caller,
        )

    async def _watched(self, name: str, skip: int) -> AsyncIterator[Progress]:
        # No deadline: training takes as long as it takes.
        def request(came: int) -> Any:
            return self._engine.watch(operation=name, skip=skip + came)

        async for message in self._caller.follow(self._stub.Watch, request):
            yield self._engine.step(message)
