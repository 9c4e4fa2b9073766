"""What the clients of services that train share: jobs found again, stored models told of and deleted."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import grpc
from google.longrunning import operations_pb2_grpc
from numpy.typing import NDArray

from relaxon.client import errors
from relaxon.client.jobs import Job, get, metadata_of, repeated, stream, unpacked
from relaxon.client.tables import sent

Progress = TypeVar("Progress")
Model = TypeVar("Model")


@dataclass(frozen=True, slots=True)
class Messages:
    """A service's message types."""

    watch: Any
    get: Any
    list: Any
    delete: Any
    model: Any


class TrainingClient(ABC, Generic[Progress, Model]):
    """Base of the clients of services that train models of one kind."""

    _messages: ClassVar[Messages]
    _kind: ClassVar[type]
    """What a model is told of in."""

    def __init__(self, stub: Any, channel: grpc.Channel, timeout: float, transfer_timeout: float) -> None:
        self._stub = stub
        self._operations = operations_pb2_grpc.OperationsStub(channel)
        self._timeout = timeout
        self._transfer_timeout = transfer_timeout

    def job(self, name: str) -> Job[Progress, Model]:
        """The training job of that name; NotFound where the server does not know it (any more)."""
        return self._job(get(self._operations, name, self._timeout))

    def model(self, name: str) -> Model:
        """A stored model; NotFound where there is none of that name."""
        with errors.refusals():
            request = self._messages.get(name=self._name(name, "name"))
        with errors.translated():
            return self._told(self._stub.GetModel(request, timeout=self._timeout))

    def models(self) -> tuple[Model, ...]:
        """All stored models by name, without what can be long."""
        with errors.translated():
            reply = self._stub.ListModels(self._messages.list(), timeout=self._timeout)
        return tuple(map(self._told, reply.models))

    def delete_model(self, model: str | Model) -> None:
        """Have the server delete a model; NotFound where there is none of that name."""
        with errors.refusals():
            request = self._messages.delete(name=self._name(model))
        with errors.translated():
            self._stub.DeleteModel(request, timeout=self._timeout)

    @abstractmethod
    def _told(self, message: Any) -> Model:
        """A model from its message."""

    @abstractmethod
    def _step(self, message: Any) -> Progress:
        """A step of the training from its message."""

    def _begun(
        self,
        header: Any,
        message: Any,
        arrays: Mapping[str, NDArray[Any] | None],
        seconds: float,
        arguments: Mapping[str, str],
    ) -> Job[Progress, Model]:
        """The job of a call of `Train`, which is made again where the server went away before it had answered.

        The header's request id, made up here where it has none, sees to it that this begins no second job.
        """
        header.request_id = header.request_id or uuid.uuid4().hex
        end = time.monotonic() + seconds

        def call() -> Any:
            return self._stub.Train(sent(message, header, arrays), timeout=max(0.0, end - time.monotonic()))

        return self._job(repeated(call, min(self._timeout, seconds), arguments))

    def _job(self, operation: Any) -> Job[Progress, Model]:
        return Job(
            operation.name,
            metadata_of(operation).model,
            self._operations,
            self._watched,
            lambda response: self._told(unpacked(response, self._messages.model())),
            self._timeout,
        )

    def _watched(self, name: str, skip: int) -> Iterator[Progress]:
        # No deadline: training takes as long as it takes.
        for message in stream(self._stub.Watch(self._messages.watch(operation=name, skip=skip))):
            yield self._step(message)

    def _name(self, model: object, argument: str = "model") -> str:
        if isinstance(model, self._kind):
            return str(model.name)  # type: ignore[attr-defined]
        if not isinstance(model, str):
            raise TypeError(f"{argument} must be a model or its name, got {type(model).__name__}")
        return model


def checked_id(request_id: str) -> str:
    """TypeError for what is no string; the server knows which strings are sound."""
    if not isinstance(request_id, str):
        raise TypeError(f"request_id must be a string, got {type(request_id).__name__}")
    return request_id
