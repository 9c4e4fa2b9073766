"""Training jobs as they travel: their description, state and result."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from google.longrunning import operations_pb2
from google.protobuf.message import Message

from relaxon.core import errors, validation
from relaxon.core.html import table
from relaxon.proto import job_pb2
from relaxon.wire.conversions.fields import check_text, read_fields
from relaxon.wire.ownership import NotPickled

Trained = TypeVar("Trained")
OPERATIONS = "operations/"
WAIT_SECONDS = 20.0
"""The time for which one call waits for the end of a job; the call is repeated."""


class JobState(Enum):
    """The state of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED)


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as the server described it."""

    name: str
    kind: str
    """The engine that trains it: "boosting", "convex", "energy", "equilibrium" or "proximal"."""
    model: str
    """The name under which its model is stored once it is done."""
    state: JobState
    steps: int
    """Stages, epochs or reports so far."""
    created: datetime
    started: datetime | None
    ended: datetime | None
    cancel_requested: bool
    starts: int
    """The processes that were started for it: more than one if a process or the server was killed."""
    request_id: str
    error: str
    """Why it has no model; empty if it has one or has not ended."""

    def _repr_html_(self) -> str:
        rows = {
            "model": self.model,
            "state": f"{self.state.value}, {self.steps} steps" + ", to be cancelled" * self.cancel_requested,
            "created": f"{self.created:%Y-%m-%d %H:%M} UTC",
            "ended": self.ended and f"{self.ended:%Y-%m-%d %H:%M} UTC",
            "processes": self.starts if self.starts > 1 else "",
            "error": self.error,
        }
        return table(f"{self.kind} job {self.name!r}", rows)


class JobHandle(NotPickled):
    """A job's name and the name of its model, which need no call."""

    def __init__(self, name: str, model: str) -> None:
        self.name = name
        self.model = model
        """The name under which its model is stored once it is done."""

    def __repr__(self) -> str:
        return f"Job({self.name!r}, model={self.model!r})"

    def _repr_html_(self) -> str:
        return table("training job", {"name": self.name, "model": self.model})


class Waiting:
    """A wait for the end of a job, made up of calls that each wait for a while."""

    def __init__(self, name: str, timeout: float | None) -> None:
        """`timeout` is for the whole wait, in seconds; None waits as long as it takes."""
        with errors.refusals():
            self._seconds = None if timeout is None else validation.non_negative_float("timeout", timeout)
        self._name = name
        self._end = None if self._seconds is None else time.monotonic() + self._seconds

    def request(self) -> tuple[Any, float]:
        """Return the message of the next call, and how long the server will wait."""
        left = WAIT_SECONDS if self._end is None else min(WAIT_SECONDS, max(0.0, self._end - time.monotonic()))
        request = operations_pb2.WaitOperationRequest(name=self._name)
        request.timeout.FromMilliseconds(int(1000 * left))
        return request, left

    def over(self, operation: Any) -> bool:
        """Return whether the job has ended; DeadlineExceeded if it has not and the time is up."""
        if operation.done:
            return True
        if self._end is not None and time.monotonic() >= self._end:
            raise errors.DeadlineExceeded(f"{self._name} has not ended within {self._seconds:g} s; it goes on")
        return False


def metadata_of(operation: Any) -> job_pb2.Job:
    """Return what the metadata of jobs of every kind hold."""
    return job_pb2.JobMetadata.FromString(operation.metadata.value).job


def read_job(operation: Any) -> JobInfo:
    """Return a job from its operation."""
    job = metadata_of(operation)
    return read_fields(
        JobInfo,
        job,
        name=operation.name,
        state=JobState[job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")],
        error=operation.error.message if operation.HasField("error") else "",
    )


def full_name(name: str) -> str:
    """Return the full name of a job that is given by its name or the last part of it."""
    with errors.refusals():
        check_text("name", name)
    return name if "/" in name else OPERATIONS + name


def read_outcome(operation: Any, trained: Callable[[Any], Trained]) -> Trained:
    """Return the model that a job ended with; its error is raised."""
    if operation.HasField("error"):
        raise errors.of_status(operation.error)
    return trained(operation.response)


def unpack_result(packed: Any, message: Message) -> Any:
    """Return a packed result as the given message; InternalError where it is another."""
    if not packed.Unpack(message):
        raise errors.InternalError(f"the server's result is {packed.type_url!r}, not {message.DESCRIPTOR.full_name}")
    return message


def get_request(name: str) -> Any:
    """Return the request for a job."""
    return operations_pb2.GetOperationRequest(name=name)


class Listing:
    """A list of jobs, fetched page by page."""

    def __init__(self, filter: str) -> None:
        with errors.refusals():
            self._filter = check_text("filter", filter)
        self._token = ""
        self._found: list[JobInfo] = []
        self.complete = False

    def request(self) -> Any:
        """Return the request for the next page."""
        return operations_pb2.ListOperationsRequest(filter=self._filter, page_token=self._token)

    def take(self, page: Any) -> None:
        """Add a page; `complete` becomes True with the last one."""
        self._found += map(read_job, page.operations)
        self._token = page.next_page_token
        self.complete = not self._token

    def jobs(self) -> tuple[JobInfo, ...]:
        """Return all jobs that have arrived."""
        return tuple(self._found)


def check_kind(info: JobInfo, kinds: Sequence[str]) -> str:
    """Return the job's kind; FailedPrecondition for one that this client does not know."""
    if info.kind not in kinds:
        raise errors.FailedPrecondition(f"{info.name} is of kind {info.kind!r}, which this client does not know")
    return info.kind


def validate_skip(skip: int) -> int:
    """Return how many steps to skip; InvalidArgument for a number that is negative or not whole."""
    with errors.refusals():
        told = validation.whole_number("skip", skip)
        if told < 0:
            raise ValueError(f"skip must not be negative, got {skip}")
        return told


def validate_request_id(request_id: str) -> str:
    """Return a call's request id, a random one if it is empty; the server checks which strings are valid."""
    return check_text("request_id", request_id) or uuid.uuid4().hex
