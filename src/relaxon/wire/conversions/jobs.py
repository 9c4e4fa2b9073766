"""Training jobs as they travel: what a server says of them, where one is, what it ended with."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

from google.longrunning import operations_pb2
from google.protobuf.message import Message

from relaxon.core import errors, validation
from relaxon.core.html import table
from relaxon.proto import job_pb2
from relaxon.wire.ownership import NotPickled

Trained = TypeVar("Trained")
OPERATIONS = "operations/"
WAIT_SECONDS = 20.0
"""Of one call that waits for the end; it is repeated."""


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
    """What it trains: "boosting", "convex", "energy", "equilibrium" or "proximal"."""
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


def full_name(name: str) -> str:
    """A job's name; its last part alone will do."""
    with errors.refusals():
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, got {type(name).__name__}")
    return name if "/" in name else OPERATIONS + name


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


def get_request(name: str) -> Any:
    """Asks for a job."""
    return operations_pb2.GetOperationRequest(name=name)


class Listing:
    """A list of jobs, asked for page by page."""

    def __init__(self, filter: str) -> None:
        with errors.refusals():
            if not isinstance(filter, str):
                raise TypeError(f"filter must be a string, got {type(filter).__name__}")
        self._filter = filter
        self._token = ""
        self._found: list[JobInfo] = []
        self.complete = False

    def request(self) -> Any:
        """Asks for the next page."""
        return operations_pb2.ListOperationsRequest(filter=self._filter, page_token=self._token)

    def take(self, page: Any) -> None:
        """Add a page; `complete` becomes true with the last."""
        self._found += map(info_of, page.operations)
        self._token = page.next_page_token
        self.complete = not self._token

    def jobs(self) -> tuple[JobInfo, ...]:
        """All that came."""
        return tuple(self._found)


def known_kind(info: JobInfo, kinds: Sequence[str]) -> str:
    """The job's kind; FailedPrecondition for one that this client does not know."""
    if info.kind not in kinds:
        raise errors.FailedPrecondition(f"{info.name} is of kind {info.kind!r}, which this client does not know")
    return info.kind


def checked_skip(skip: int) -> int:
    """How many steps to leave out."""
    with errors.refusals():
        told = validation.whole_number("skip", skip)
        if told < 0:
            raise ValueError(f"skip must not be negative, got {skip}")
        return told


def checked_id(request_id: str) -> str:
    """A call's request id, made up where it is empty; the server knows which strings are sound."""
    if not isinstance(request_id, str):
        raise TypeError(f"request_id must be a string, got {type(request_id).__name__}")
    return request_id or uuid.uuid4().hex
