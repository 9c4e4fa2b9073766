"""Training jobs on a server: all of them, one's progress and result, and how to end it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc

from relaxon.client._sync.caller import Caller
from relaxon.wire.conversions.jobs import (
    JobHandle,
    JobInfo,
    JobState,
    Listing,
    Waiting,
    checked_skip,
    full_name,
    get_request,
    info_of,
    known_kind,
    outcome_of,
)
from relaxon.wire.ownership import NotPickled

Step = TypeVar("Step")
Trained = TypeVar("Trained")


class Job(JobHandle, Generic[Step, Trained]):
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
        watch: Callable[[str, int], Iterator[Step]],
        trained: Callable[[Any], Trained],
        caller: Caller,
    ) -> None:
        super().__init__(name, model)
        self._operations = operations
        self._watch = watch
        self._trained = trained
        self._caller = caller

    @property
    def state(self) -> JobState:
        """Where it is now, asked of the server."""
        return self.info().state

    def info(self) -> JobInfo:
        """All that the server says of it now."""
        return info_of(
            self._caller.make(self._operations.GetOperation, get_request(self.name), idempotent=True, patient=True)
        )

    def progress(self, skip: int = 0) -> Iterator[Step]:
        """What there is after each step, the steps already done first; ends when the job does.

        `skip` leaves that many out: steps are numbered from 1, and with the number of the last one seen, the loop goes
        on where it was left, also on a server that was started anew. Leaving the loop leaves the job alone.
        """
        return self._watch(self.name, checked_skip(skip))

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
        waiting = Waiting(self.name, timeout)
        return outcome_of(ended(self._caller, self._operations, waiting), self._trained)

    def cancel(self) -> None:
        """Have the job end after the step that it is at; what it has trained is its result."""
        request = operations_pb2.CancelOperationRequest(name=self.name)
        self._caller.make(self._operations.CancelOperation, request, idempotent=True, patient=True)

    def delete(self) -> None:
        """Have the server forget the job, which has ended; its model stays."""
        request = operations_pb2.DeleteOperationRequest(name=self.name)
        self._caller.delete(self._operations.DeleteOperation, request)


class Finder(Protocol):
    """Finds the jobs of one kind."""

    def job(self, name: str) -> Job[Any, Any]: ...


class JobsClient(NotPickled):
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

    def __init__(self, channel: grpc.Channel, caller: Caller, kinds: Mapping[str, Finder]) -> None:
        """`kinds` are the clients of the services that train, by kind."""
        self._operations = operations_pb2_grpc.OperationsStub(channel)
        self._caller = caller
        self._kinds = kinds

    def list(self, filter: str = "") -> tuple[JobInfo, ...]:
        """The jobs that the server knows, the oldest first.

        `filter` has terms joined by AND: `done`, `state`, `kind`, `model` and `request_id` with = and !=, `create_time`
        with <, <=, > and >=. For example `state = running AND kind = boosting`.
        """
        listing = Listing(filter)
        while not listing.complete:
            listing.take(
                self._caller.make(self._operations.ListOperations, listing.request(), idempotent=True, patient=True)
            )
        return listing.jobs()

    def info(self, name: str) -> JobInfo:
        """What the server says of a job now; NotFound where it does not know it (any more)."""
        request = get_request(full_name(name))
        return info_of(self._caller.make(self._operations.GetOperation, request, idempotent=True, patient=True))

    def get(self, name: str) -> Job[Any, Any]:
        """A job of any kind, with the progress and the result of that kind."""
        info = self.info(name)
        return self._kinds[known_kind(info, tuple(self._kinds))].job(info.name)

    def wait(self, name: str, timeout: float | None = None) -> JobInfo:
        """The job once it has ended, well or not; DeadlineExceeded after `timeout` seconds where it has not."""
        return info_of(ended(self._caller, self._operations, Waiting(full_name(name), timeout)))

    def cancel(self, name: str) -> None:
        """Have a job end after the step that it is at; nothing where it has ended."""
        request = operations_pb2.CancelOperationRequest(name=full_name(name))
        self._caller.make(self._operations.CancelOperation, request, idempotent=True, patient=True)

    def delete(self, name: str) -> None:
        """Have the server forget a job, which has ended; its model stays."""
        request = operations_pb2.DeleteOperationRequest(name=full_name(name))
        self._caller.delete(self._operations.DeleteOperation, request)


def ended(caller: Caller, operations: operations_pb2_grpc.OperationsStub, waiting: Waiting) -> Any:
    """A job's operation once it is done."""
    while True:
        request, left = waiting.request()
        operation = caller.make(
            operations.WaitOperation, request, idempotent=True, seconds=left + caller.timeout, patient=True
        )
        if waiting.over(operation):
            return operation
