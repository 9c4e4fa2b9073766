"""A training job on a server: its progress, its result, and how to end it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from enum import Enum
from typing import Any, Generic, TypeVar

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.message import Message

from relaxon.client import errors
from relaxon.proto import boosting_pb2, equilibrium_pb2, job_pb2
from relaxon.solvers import validation

Step = TypeVar("Step")
Trained = TypeVar("Trained")
WAIT_SECONDS = 20.0
"""Of one call that waits for the end; it is repeated."""


class JobState(Enum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Job(Generic[Step, Trained]):
    """A training job, from a client's `train` or `job`; it goes on without its client.

    `name` finds it again, from any client of the server, until it is deleted or long over.
    """

    def __init__(
        self,
        name: str,
        model: str,
        operations: operations_pb2_grpc.OperationsStub,
        watch: Callable[[str, int], Iterable[Step]],
        trained: Callable[[Any], Trained],
        timeout: float,
    ) -> None:
        self.name = name
        self.model = model
        """The name under which its model is stored when it is done."""
        self._operations = operations
        self._watch = watch
        self._trained = trained
        self._timeout = timeout

    @property
    def state(self) -> JobState:
        """Where it is now, asked of the server."""
        found = metadata_of(self._get()).state
        return JobState[job_pb2.JobState.Name(found).removeprefix("JOB_STATE_")]

    def progress(self, skip: int = 0) -> Iterator[Step]:
        """What there is after each step, the steps already done first; ends when the job does.

        `skip` leaves that many out. Leaving the loop leaves the job alone.
        """
        with errors.translated():
            yield from self._watch(self.name, skip)

    def result(self, timeout: float | None = None) -> Trained:
        """The model, once the job has ended; None for `timeout` waits as long as it takes.

        A job that was cancelled gives what it had trained by then.

        Raises
        ------
        DeadlineExceeded : after `timeout` seconds; the job goes on. InvalidArgument : the engine refused the data or
        a setting. Cancelled : the job was cancelled before it had trained anything, or the server stopped. Otherwise
        what ended the job, `InternalError` where its process was killed.
        """
        import time

        with errors.refusals():
            seconds = None if timeout is None else validation.non_negative_float("timeout", timeout)
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = WAIT_SECONDS if end is None else min(WAIT_SECONDS, max(0.0, end - time.monotonic()))
            request = operations_pb2.WaitOperationRequest(name=self.name)
            request.timeout.FromMilliseconds(int(1000 * left))
            with errors.translated():
                operation = self._operations.WaitOperation(request, timeout=left + self._timeout)
            if operation.done:
                return self._outcome(operation)
            if end is not None and time.monotonic() >= end:
                raise errors.DeadlineExceeded(f"{self.name} has not ended within {seconds:g} s; it goes on")

    def cancel(self) -> None:
        """Have the job end after the step that it is at; what it has trained is its result."""
        request = operations_pb2.CancelOperationRequest(name=self.name)
        with errors.translated():
            self._operations.CancelOperation(request, timeout=self._timeout)

    def delete(self) -> None:
        """Have the server forget the job, which has ended; its model stays."""
        request = operations_pb2.DeleteOperationRequest(name=self.name)
        with errors.translated():
            self._operations.DeleteOperation(request, timeout=self._timeout)

    def __repr__(self) -> str:
        return f"Job({self.name!r}, model={self.model!r})"

    def _get(self) -> Any:
        with errors.translated():
            return self._operations.GetOperation(
                operations_pb2.GetOperationRequest(name=self.name), timeout=self._timeout
            )

    def _outcome(self, operation: Any) -> Trained:
        if operation.HasField("error"):
            raise errors.of_status(operation.error)
        return self._trained(operation.response)


def metadata_of(operation: Any) -> job_pb2.Job:
    """What the metadata of jobs of every kind begin with."""
    for kind in (boosting_pb2.BoostingTraining, equilibrium_pb2.EquilibriumTraining):
        metadata: Any = kind()
        if operation.metadata.Unpack(metadata):
            job: job_pb2.Job = metadata.job
            return job
    raise errors.InternalError(f"the server's {operation.name!r} is a job of a kind that this client does not know")


def unpacked(packed: Any, message: Message) -> Any:
    """A result as the message that it has to be."""
    if not packed.Unpack(message):
        raise errors.InternalError(f"the server's result is {packed.type_url!r}, not {message.DESCRIPTOR.full_name}")
    return message


def stream(call: Any) -> Iterator[Any]:
    """A stream of replies, which is cut off where its reader leaves."""
    try:
        yield from call
    finally:
        with suppress(grpc.RpcError):
            call.cancel()
