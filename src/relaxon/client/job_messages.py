"""Training jobs as they travel: where one is, what it ended with."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

from google.longrunning import operations_pb2
from google.protobuf.message import Message

from relaxon.client import errors
from relaxon.proto import boosting_pb2, equilibrium_pb2, job_pb2
from relaxon.solvers import validation
from relaxon.solvers.html import table

Trained = TypeVar("Trained")
WAIT_SECONDS = 20.0
"""Of one call that waits for the end; it is repeated."""


class JobState(Enum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class JobHandle:
    """What a client knows of a job without asking."""

    def __init__(self, name: str, model: str) -> None:
        self.name = name
        self.model = model
        """The name under which its model is stored when it is done."""

    def __repr__(self) -> str:
        return f"Job({self.name!r}, model={self.model!r})"

    def _repr_html_(self) -> str:
        return table("training job", {"name": self.name, "model": self.model})


class Waiting:
    """A wait for a job's end, made of calls that each wait for a while."""

    def __init__(self, name: str, timeout: float | None) -> None:
        """`timeout` in seconds for the whole wait, None for as long as it takes."""
        with errors.refusals():
            self._seconds = None if timeout is None else validation.non_negative_float("timeout", timeout)
        self._name = name
        self._end = None if self._seconds is None else time.monotonic() + self._seconds

    def request(self) -> tuple[Any, float]:
        """The next call's message, and how long the server will wait."""
        left = WAIT_SECONDS if self._end is None else min(WAIT_SECONDS, max(0.0, self._end - time.monotonic()))
        request = operations_pb2.WaitOperationRequest(name=self._name)
        request.timeout.FromMilliseconds(int(1000 * left))
        return request, left

    def over(self, operation: Any) -> bool:
        """Whether the job has ended; DeadlineExceeded where not, and the time is up."""
        if operation.done:
            return True
        if self._end is not None and time.monotonic() >= self._end:
            raise errors.DeadlineExceeded(f"{self._name} has not ended within {self._seconds:g} s; it goes on")
        return False


def metadata_of(operation: Any) -> job_pb2.Job:
    """What the metadata of jobs of every kind begin with."""
    for kind in (boosting_pb2.BoostingTraining, equilibrium_pb2.EquilibriumTraining):
        metadata: Any = kind()
        if operation.metadata.Unpack(metadata):
            job: job_pb2.Job = metadata.job
            return job
    raise errors.InternalError(f"the server's {operation.name!r} is a job of a kind that this client does not know")


def state_of(operation: Any) -> JobState:
    """Where a job is."""
    return JobState[job_pb2.JobState.Name(metadata_of(operation).state).removeprefix("JOB_STATE_")]


def outcome_of(operation: Any, trained: Callable[[Any], Trained]) -> Trained:
    """What a job ended with: the model, or its error."""
    if operation.HasField("error"):
        raise errors.of_status(operation.error)
    return trained(operation.response)


def unpacked(packed: Any, message: Message) -> Any:
    """A result as the message that it has to be."""
    if not packed.Unpack(message):
        raise errors.InternalError(f"the server's result is {packed.type_url!r}, not {message.DESCRIPTOR.full_name}")
    return message
