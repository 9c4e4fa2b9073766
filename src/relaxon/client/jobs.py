"""A training job on a server: its progress, its result, and how to end it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from google.longrunning import operations_pb2, operations_pb2_grpc

from relaxon.client.caller import Caller
from relaxon.client.job_messages import JobHandle, JobState, Waiting, outcome_of, state_of

Step = TypeVar("Step")
Trained = TypeVar("Trained")


class Job(JobHandle, Generic[Step, Trained]):
    """A training job, from a client's `train` or `job`; it goes on without its client.

    `name` finds it again, from any client of the server, until it is deleted or long over.
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
        request = operations_pb2.GetOperationRequest(name=self.name)
        return state_of(self._caller.make(self._operations.GetOperation, request, idempotent=True))

    def progress(self, skip: int = 0) -> Iterator[Step]:
        """What there is after each step, the steps already done first; ends when the job does.

        `skip` leaves that many out. Leaving the loop leaves the job alone.
        """
        return self._watch(self.name, skip)

    def result(self, timeout: float | None = None) -> Trained:
        """The model, once the job has ended; None for `timeout` waits as long as it takes.

        A job that was cancelled gives what it had trained by then.

        Raises
        ------
        DeadlineExceeded : after `timeout` seconds; the job goes on. InvalidArgument : the engine refused the data or
        a setting. Cancelled : the job was cancelled before it had trained anything, or the server stopped. Otherwise
        what ended the job, `InternalError` where its process was killed.
        """
        waiting = Waiting(self.name, timeout)
        while True:
            request, left = waiting.request()
            operation = self._caller.make(
                self._operations.WaitOperation, request, idempotent=True, seconds=left + self._caller.timeout
            )
            if waiting.over(operation):
                return outcome_of(operation, self._trained)

    def cancel(self) -> None:
        """Have the job end after the step that it is at; what it has trained is its result."""
        request = operations_pb2.CancelOperationRequest(name=self.name)
        self._caller.make(self._operations.CancelOperation, request, idempotent=True)

    def delete(self) -> None:
        """Have the server forget the job, which has ended; its model stays."""
        request = operations_pb2.DeleteOperationRequest(name=self.name)
        self._caller.delete(self._operations.DeleteOperation, request)
