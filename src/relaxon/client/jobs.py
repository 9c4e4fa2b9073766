"""Training jobs on a server: all of them, one's progress and result, and how to end it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.message import Message

from relaxon.client import errors
from relaxon.proto import job_pb2
from relaxon.solvers import validation

Step = TypeVar("Step")
Trained = TypeVar("Trained")
Answer = TypeVar("Answer")
WAIT_SECONDS = 20.0
"""Of one call that waits for the end; it is repeated."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between calls to a server that is away; each pause is twice the one before."""
OPERATIONS = "operations/"


class JobState(Enum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as it was when the server was asked."""

    name: str
    kind: str
    """What it trains: "boosting" or "equilibrium"."""
    model: str
    """The name under which its model is stored when it is done."""
    state: JobState
    steps: int
    """Stages or epochs so far."""
    created: datetime
    started: datetime | None
    ended: datetime | None
    cancel_requested: bool
    starts: int
    """Processes that were started for it: more than one where a process or the server was killed."""
    request_id: str
    error: str
    """Why it has no model; empty where it has one, or has not ended."""


class Job(Generic[Step, Trained]):
    """A training job, from a client's `train` or `job`; it goes on without its client.

    `name` finds it again, from any client of the server, until it is deleted or long over. A server that was stopped or
    killed and is started again with its folder goes on with the job; `progress` and `result` wait for it, as long as
    the client's `timeout`.
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
        return self.info().state

    def info(self) -> JobInfo:
        """All that the server says of it now."""
        return info_of(get(self._operations, self.name, self._timeout))

    def progress(self, skip: int = 0) -> Iterator[Step]:
        """What there is after each step, the steps already done first; ends when the job does.

        `skip` leaves that many out: steps are numbered from 1, and with the number of the last one seen, the loop goes
        on where it was left, also on a server that was started anew. Leaving the loop leaves the job alone.
        """
        with errors.refusals():
            told = validation.whole_number("skip", skip)
            if told < 0:
                raise ValueError(f"skip must not be negative, got {skip}")
        patience = Patience(self._timeout)
        while True:
            try:
                with errors.translated():
                    for step in self._watch(self.name, told):
                        patience = Patience(self._timeout)
                        told += 1
                        yield step
                return
            except errors.Unavailable as error:
                patience.pause(error)

    def result(self, timeout: float | None = None) -> Trained:
        """The model, once the job has ended; None for `timeout` waits as long as it takes.

        A job that was cancelled gives what it had trained by then.

        Raises
        ------
        DeadlineExceeded : after `timeout` seconds; the job goes on. InvalidArgument : the engine refused the data or
        a setting. Cancelled : the job was cancelled before it had trained anything, or the server stopped.
        Unavailable : the server was away for longer than the client's timeout. Otherwise what ended the job,
        `InternalError` where its process was killed time and again.
        """
        with errors.refusals():
            seconds = None if timeout is None else validation.non_negative_float("timeout", timeout)
        return self._outcome(wait(self._operations, self.name, seconds, self._timeout))

    def cancel(self) -> None:
        """Have the job end after the step that it is at; what it has trained is its result."""
        cancel(self._operations, self.name, self._timeout)

    def delete(self) -> None:
        """Have the server forget the job, which has ended; its model stays."""
        delete(self._operations, self.name, self._timeout)

    def __repr__(self) -> str:
        return f"Job({self.name!r}, model={self.model!r})"

    def _outcome(self, operation: Any) -> Trained:
        if operation.HasField("error"):
            raise errors.of_status(operation.error)
        return self._trained(operation.response)


class Finder(Protocol):
    """Finds the jobs of one kind."""

    def job(self, name: str) -> Job[Any, Any]: ...


class JobsClient:
    """The jobs of all kinds on a server; `client.jobs`.

    Examples
    --------
    >>> import numpy as np
    >>> import relaxon
    >>> from relaxon.client import BoostingSettings
    >>> from relaxon.server.app import EmbeddedServer
    >>> X = np.linspace(-2, 2, 50).reshape(-1, 1)
    >>> with EmbeddedServer() as server, relaxon.connect(server.target) as client:
    ...     job = client.boosting.train(X, X[:, 0], settings=BoostingSettings(n_units=2), model="line")
    ...     _ = job.result()
    ...     [(one.model, one.state.name, one.steps) for one in client.jobs.list("kind = boosting AND done = true")]
    [('line', 'DONE', 2)]
    """

    def __init__(self, channel: grpc.Channel, timeout: float, kinds: Mapping[str, Finder]) -> None:
        """`kinds` are the clients of the services that train, by kind."""
        self._operations = operations_pb2_grpc.OperationsStub(channel)
        self._timeout = timeout
        self._kinds = kinds

    def list(self, filter: str = "") -> tuple[JobInfo, ...]:
        """The jobs that the server knows, the oldest first.

        `filter` has terms joined by AND: `done`, `state`, `kind`, `model` and `request_id` with = and !=, `create_time`
        with <, <=, > and >=. For example `state = running AND kind = boosting`.
        """
        with errors.refusals():
            if not isinstance(filter, str):
                raise TypeError(f"filter must be a string, got {type(filter).__name__}")
        found: list[JobInfo] = []
        token = ""
        while True:
            request = operations_pb2.ListOperationsRequest(filter=filter, page_token=token)
            with errors.translated():
                page = self._operations.ListOperations(request, timeout=self._timeout)
            found += map(info_of, page.operations)
            token = page.next_page_token
            if not token:
                return tuple(found)

    def info(self, name: str) -> JobInfo:
        """What the server says of a job now; NotFound where it does not know it (any more)."""
        return info_of(get(self._operations, _full(name), self._timeout))

    def get(self, name: str) -> Job[Any, Any]:
        """A job of any kind, with the progress and the result of that kind."""
        info = self.info(name)
        if info.kind not in self._kinds:
            raise errors.FailedPrecondition(f"{info.name} is of kind {info.kind!r}, which this client does not know")
        return self._kinds[info.kind].job(info.name)

    def wait(self, name: str, timeout: float | None = None) -> JobInfo:
        """The job once it has ended, well or not; DeadlineExceeded after `timeout` seconds where it has not."""
        with errors.refusals():
            seconds = None if timeout is None else validation.non_negative_float("timeout", timeout)
        return info_of(wait(self._operations, _full(name), seconds, self._timeout))

    def cancel(self, name: str) -> None:
        """Have a job end after the step that it is at; nothing where it has ended."""
        cancel(self._operations, _full(name), self._timeout)

    def delete(self, name: str) -> None:
        """Have the server forget a job, which has ended; its model stays."""
        delete(self._operations, _full(name), self._timeout)


class Patience:
    """Waits for a server that is away: short pauses at first, and no longer than `seconds` in all."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._next = FIRST_PAUSE

    def pause(self, error: errors.Unavailable) -> None:
        """Where that was met; it is raised again when there is no more time."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise error
        time.sleep(min(self._next, left))
        self._next = min(2 * self._next, LONGEST_PAUSE)


def repeated(call: Callable[[], Answer], seconds: float, arguments: Mapping[str, str] | None = None) -> Answer:
    """What a call that may be made twice gives, once the server is there; `Unavailable` after so many seconds.

    `arguments` are what fields of the messages are called here.
    """
    patience = Patience(seconds)
    while True:
        try:
            with errors.translated(arguments):
                return call()
        except errors.Unavailable as error:
            patience.pause(error)


def get(operations: operations_pb2_grpc.OperationsStub, name: str, timeout: float) -> Any:
    """A job's operation as it is now."""
    with errors.translated():
        return operations.GetOperation(operations_pb2.GetOperationRequest(name=name), timeout=timeout)


def wait(operations: operations_pb2_grpc.OperationsStub, name: str, seconds: float | None, timeout: float) -> Any:
    """A job's operation once it is done; DeadlineExceeded after `seconds`, None for as long as it takes."""
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        left = WAIT_SECONDS if end is None else min(WAIT_SECONDS, max(0.0, end - time.monotonic()))
        request = operations_pb2.WaitOperationRequest(name=name)
        request.timeout.FromMilliseconds(int(1000 * left))
        deadline = left + timeout
        operation = repeated(lambda: operations.WaitOperation(request, timeout=deadline), timeout)  # noqa: B023
        if operation.done:
            return operation
        if end is not None and time.monotonic() >= end:
            raise errors.DeadlineExceeded(f"{name} has not ended within {seconds:g} s; it goes on")


def cancel(operations: operations_pb2_grpc.OperationsStub, name: str, timeout: float) -> None:
    """Have a job end after the step that it is at."""
    with errors.translated():
        operations.CancelOperation(operations_pb2.CancelOperationRequest(name=name), timeout=timeout)


def delete(operations: operations_pb2_grpc.OperationsStub, name: str, timeout: float) -> None:
    """Have the server forget a job that has ended."""
    with errors.translated():
        operations.DeleteOperation(operations_pb2.DeleteOperationRequest(name=name), timeout=timeout)


def metadata_of(operation: Any) -> job_pb2.Job:
    """What the metadata of jobs of every kind hold."""
    return job_pb2.JobMetadata.FromString(operation.metadata.value).job


def info_of(operation: Any) -> JobInfo:
    """A job from its operation."""
    job = metadata_of(operation)
    return JobInfo(
        name=operation.name,
        kind=job.kind,
        model=job.model,
        state=JobState[job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")],
        steps=job.steps,
        created=job.create_time.ToDatetime(UTC),
        started=job.start_time.ToDatetime(UTC) if job.HasField("start_time") else None,
        ended=job.end_time.ToDatetime(UTC) if job.HasField("end_time") else None,
        cancel_requested=job.cancel_requested,
        starts=job.starts,
        request_id=job.request_id,
        error=operation.error.message if operation.HasField("error") else "",
    )


def _full(name: str) -> str:
    """A job's name; its last part alone will do."""
    with errors.refusals():
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, got {type(name).__name__}")
    return name if "/" in name else OPERATIONS + name


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
