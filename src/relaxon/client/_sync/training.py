# Generated from relaxon/client/_async/training.py by tools/generate_client.py: edit that file and run the tool.
"""The calls that the blocking clients of all training services share: find jobs, describe and delete stored models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

from google.longrunning import operations_pb2_grpc

from relaxon.client._sync.caller import RetryingCaller
from relaxon.client._sync.jobs import Job
from relaxon.client.shared.blocking_runtime import Channel
from relaxon.wire.conversions.engine import EngineMessages
from relaxon.wire.conversions.jobs import get_request, metadata_of
from relaxon.wire.conversions.tables import Prediction
from relaxon.wire.ownership import NotPickled

Progress = TypeVar("Progress")
Model = TypeVar("Model")


class TrainingClient(NotPickled, Generic[Progress, Model]):
    """Base of the clients of the services that train; each trains models of one kind."""

    _engine: ClassVar[EngineMessages[Any, Any]]
    _new_stub: ClassVar[type[Any]]

    def __init__(self, channel: Channel, caller: RetryingCaller) -> None:
        self._stub: Any = self._new_stub(channel)
        self._operations = operations_pb2_grpc.OperationsStub(channel)
        self._caller = caller

    def job(self, name: str) -> Job[Progress, Model]:
        """Return the training job of that name; NotFound where the server does not know it (any more)."""
        request = get_request(name)
        return self._job(self._caller.make(self._operations.GetOperation, request, idempotent=True, patient=True))

    def model(self, name: str) -> Model:
        """Describe a stored model; NotFound where there is none of that name."""
        request = self._engine.get_request(name)
        model: Model = self._engine.told(self._caller.make(self._stub.GetModel, request, idempotent=True))
        return model

    def models(self) -> tuple[Model, ...]:
        """Describe all stored models in the order of their names, without their long fields."""
        reply = self._caller.make(self._stub.ListModels, self._engine.list(), idempotent=True)
        return tuple(map(self._engine.told, reply.models))

    def delete_model(self, model: str | Model) -> None:
        """Delete a stored model; NotFound where there is none of that name."""
        self._caller.delete(self._stub.DeleteModel, self._engine.delete_request(model))

    def _train(
        self,
        make_requests: Callable[..., Any],
        *data: Any,
        timeout: float | None,
        arguments: Mapping[str, str] | None = None,
    ) -> Job[Progress, Model]:
        """Send the requests that are made of the data and return the job.

        `arguments` maps fields of the messages to the names of the caller's arguments.
        """
        seconds = self._caller.transfer_seconds(timeout)
        requests = make_requests(*data)
        operation = self._caller.make(
            self._stub.Train, requests, idempotent=True, seconds=seconds, arguments=arguments, patient=True
        )
        return self._job(operation)

    def _evaluate(
        self,
        method: Callable[..., Any],
        make_requests: Callable[..., Any],
        *data: Any,
        timeout: float | None,
        arguments: Mapping[str, str],
    ) -> tuple[Any, Any]:
        """Send rows to a stored model and return the answer's header and the numbers of the rows."""
        seconds = self._caller.transfer_seconds(timeout)
        requests, rows = make_requests(*data)
        return self._caller.gather(method, requests, partial(Prediction, rows), seconds=seconds, arguments=arguments)

    def _job(self, operation: Any) -> Job[Progress, Model]:
        return Job(
            operation.name,
            metadata_of(operation).model,
            self._operations,
            self._watch_progress,
            self._engine.trained,
            self._caller,
        )

    def _watch_progress(self, name: str, skip: int) -> Iterator[Progress]:
        # No deadline: training takes as long as it takes.
        def request(came: int) -> Any:
            return self._engine.watch(operation=name, skip=skip + came)

        for message in self._caller.follow(self._stub.Watch, request):
            yield self._engine.step(message)
