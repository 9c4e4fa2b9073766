"""Training jobs on a server, for asyncio: listed, followed, cancelled and deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from google.longrunning import operations_pb2, operations_pb2_grpc

from relaxon.client._async.caller import RetryingCaller
from relaxon.client.shared.asyncio_runtime import Channel
from relaxon.wire.conversions.jobs import (
    JobHandle,
    JobInfo,
    JobState,
    Listing,
    Waiting,
    check_kind,
    full_name,
    get_request,
    read_job,
    read_outcome,
    validate_skip,
)
from relaxon.wire.ownership import NotPickled

Step = TypeVar("Step")
Trained = TypeVar("Trained")


class Job(JobHandle, Generic[Step, Trained]):
    """A training job, from a client's `train` or `job`; it does not depend on its client.

    Any client of the server finds it by its `name`, until it is deleted or long over. Where the server is stopped or
    killed and then started again with its folder, the job continues; `progress` and `result` wait for the server for up
    to the client's `timeout`.
    """

    def __init__(
        self,
        name: str,
        model: str,
        operations: operations_pb2_grpc.OperationsStub,
        watch: Callable[[str, int], AsyncIterator[Step]],
        trained: Callable[[Any], Trained],
        caller: RetryingCaller,
    ) -> None:
        super().__init__(name, model)
        self._operations = operations
        self._watch = watch
        self._trained = trained
        self._caller = caller

    @property
    async def state(self) -> JobState:
        """The current state, asked of the server: `await job.state`."""
        info = await self.info()
        return info.state

    async def info(self) -> JobInfo:
        """Ask the server for everything that it knows of the job."""
        return await fetch_info(self._caller, self._operations, self.name)

    def progress(self, skip: int = 0) -> AsyncIterator[Step]:
        """Iterate over the progress of each step, first of the steps already done, until the job ends.

        `skip` leaves out that many steps. Steps are numbered from 1, so the number of the last step seen resumes a loop
        where it was left, even after a restart of the server. Leaving the loop does not affect the job.
        """
        return self._watch(self.name, validate_skip(skip))

    async def result(self, timeout: float | None = None) -> Trained:
        """Wait for the end of the job and return its model; `timeout` None waits for as long as it takes.

        The result of a cancelled job is what it had trained by then.

        Raises
        ------
        DeadlineExceeded : after `timeout` seconds; the job continues. InvalidArgument : the engine refused the data or
        a setting. Cancelled : the job was cancelled before it had trained anything, or the server stopped.
        Unavailable : the server was away for longer than the client's timeout. Otherwise the error that ended the job:
        `InternalError` where its process was killed repeatedly.
        """
        waiting = Waiting(self.name, timeout)
        return read_outcome(await wait_for_end(self._caller, self._operations, waiting), self._trained)

    async def cancel(self) -> None:
        """Stop the job after its current step; what it has trained by then is its result."""
        await cancel_job(self._caller, self._operations, self.name)

    async def delete(self) -> None:
        """Delete the job, which must have ended; its model is kept."""
        await delete_job(self._caller, self._operations, self.name)


class Finder(Protocol):
    """Finds the jobs of one kind."""

    async def job(self, name: str) -> Job[Any, Any]: ...


class JobsClient(NotPickled):
    """The jobs of all kinds on a server: `client.jobs` of a `relaxon.aio.Client`.

    Examples
    --------
    >>> import asyncio
    >>> import numpy as np
    >>> import relaxon.aio
    >>> from relaxon.client import BoostingSettings
    >>> from relaxon.server.app import EmbeddedServer
    >>> X = np.linspace(-2, 2, 50).reshape(-1, 1)
    >>> async def train(target):
    ...     async with relaxon.aio.connect(target) as client:
    ...         job = await client.boosting.train(X, X[:, 0], settings=BoostingSettings(n_units=2), model="line")
    ...         await job.result()
    ...         jobs = await client.jobs.list("kind = boosting AND done = true")
    ...         return [(job.model, job.state.name, job.steps) for job in jobs]
    >>> with EmbeddedServer() as server:
    ...     asyncio.run(train(server.target))
    [('line', 'DONE', 2)]
    """

    def __init__(self, channel: Channel, caller: RetryingCaller, kinds: Mapping[str, Finder]) -> None:
        """`kinds` are the clients of the services that train, by kind."""
        self._operations = operations_pb2_grpc.OperationsStub(channel)
        self._caller = caller
        self._kinds = kinds

    async def list(self, filter: str = "") -> tuple[JobInfo, ...]:
        """List the jobs that the server knows, the oldest first.

        `filter` consists of terms joined by AND. The fields `done`, `state`, `kind`, `model` and `request_id` take =
        and !=, and `create_time` takes <, <=, > and >=. For example: `state = running AND kind = boosting`.
        """
        listing = Listing(filter)
        while not listing.complete:
            method, request = self._operations.ListOperations, listing.request()
            listing.take(await self._caller.make(method, request, idempotent=True, patient=True))
        return listing.jobs()

    async def info(self, name: str) -> JobInfo:
        """Ask the server for everything that it knows of a job; NotFound where it does not know it (any more)."""
        return await fetch_info(self._caller, self._operations, full_name(name))

    async def get(self, name: str) -> Job[Any, Any]:
        """Return a job of any kind, with the progress and the result of that kind."""
        info = await self.info(name)
        return await self._kinds[check_kind(info, tuple(self._kinds))].job(info.name)

    async def wait(self, name: str, timeout: float | None = None) -> JobInfo:
        """Wait for the end of a job, good or bad, and describe it; DeadlineExceeded after `timeout` seconds."""
        return read_job(await wait_for_end(self._caller, self._operations, Waiting(full_name(name), timeout)))

    async def cancel(self, name: str) -> None:
        """Stop a job after its current step; do nothing where it has ended."""
        await cancel_job(self._caller, self._operations, full_name(name))

    async def delete(self, name: str) -> None:
        """Delete a job, which must have ended; its model is kept."""
        await delete_job(self._caller, self._operations, full_name(name))


async def fetch_info(caller: RetryingCaller, operations: operations_pb2_grpc.OperationsStub, name: str) -> JobInfo:
    """Return what the server knows of the job with that full name."""
    return read_job(await caller.make(operations.GetOperation, get_request(name), idempotent=True, patient=True))


async def cancel_job(caller: RetryingCaller, operations: operations_pb2_grpc.OperationsStub, name: str) -> None:
    """Stop the job with that full name after its current step."""
    request = operations_pb2.CancelOperationRequest(name=name)
    await caller.make(operations.CancelOperation, request, idempotent=True, patient=True)


async def delete_job(caller: RetryingCaller, operations: operations_pb2_grpc.OperationsStub, name: str) -> None:
    """Delete the job with that full name."""
    await caller.delete(operations.DeleteOperation, operations_pb2.DeleteOperationRequest(name=name))


async def wait_for_end(caller: RetryingCaller, operations: operations_pb2_grpc.OperationsStub, waiting: Waiting) -> Any:
    """Return a job's operation once the job has ended."""
    while True:
        request, left = waiting.request()
        operation = await caller.make(
            operations.WaitOperation, request, idempotent=True, seconds=left + caller.timeout, patient=True
        )
        if waiting.over(operation):
            return operation
