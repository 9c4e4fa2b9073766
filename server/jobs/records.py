"""What the server knows of its jobs, and the store that keeps it (`job_database` has it)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol

from google.protobuf import timestamp_pb2

from relaxon.server.gate import errors, identity

Json = Mapping[str, Any]


class JobState(Enum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job has no result."""

    code: str
    """The name of a gRPC status code."""
    message: str
    field: str = ""
    """The argument that was refused, where that is the reason."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is now; a change makes a new one."""

    id: str
    kind: str
    """What it trains: names the task that a worker process carries out."""
    model: str
    """The name of the model that it makes."""
    created: float
    """Seconds since the epoch, as all times here."""
    state: JobState = JobState.QUEUED
    started: float | None = None
    ended: float | None = None
    cancel_requested: bool = False
    failure: Failure | None = None
    owner: str = ""
    """The name of the caller who began it; empty where callers are not told apart."""
    request_id: str = ""
    """The caller's own; empty where it gave none."""
    fingerprint: str = ""
    """Of what was asked for under that id."""
    starts: int = 0
    """Processes that were started for it."""
    attempts: int = 0
    """Those of them since the last step that was new."""

    @classmethod
    def new(cls, kind: str, model: str, owner: str = "", request_id: str = "", fingerprint: str = "") -> Job:
        return cls(
            secrets.token_hex(16),
            kind,
            model,
            time.time(),
            owner=owner,
            request_id=request_id,
            fingerprint=fingerprint,
        )


class JobStore(Protocol):
    """Jobs with the progress that they have made. Called from the event loop's thread; no call but `saved` waits."""

    def put(self, job: Job) -> None:
        """Keep a job, in the place of the one with its id."""

    def find(self, job_id: str) -> Job:
        """NOT_FOUND where no job of that id is kept."""

    def jobs(self) -> Sequence[Job]:
        """All kept jobs, the oldest first."""

    def remove(self, job_id: str) -> None:
        """Forget a job and its progress; NOT_FOUND where it is not kept."""

    def by_request(self, kind: str, owner: str, request_id: str) -> Job | None:
        """The job of that owner and kind that was asked for under that id."""

    def add_progress(self, job_id: str, step: int, progress: Json) -> bool:
        """Keep what there is after a step, steps being numbered from 1; whether it is a new one."""

    def steps(self, job_id: str) -> int:
        """The number of the newest step; 0 where there is none."""

    def newest(self, job_id: str) -> Json | None:
        """What there is after it."""

    def progress(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, Json]]:
        """The first `limit` steps after that number."""

    async def saved(self) -> None:
        """Returns when all that was changed before outlives the server; sqlite3.Error where it could not be written."""

    def close(self) -> None:
        """No more calls come."""


OPERATIONS = "operations"


def operation_name(job_id: str) -> str:
    """A job's name as a `google.longrunning.Operation`."""
    return f"{OPERATIONS}/{job_id}"


def job_id_of(name: str) -> str:
    """The id in an operation's name; what is no such name gives an id that no job has."""
    return name.removeprefix(f"{OPERATIONS}/") if name.startswith(f"{OPERATIONS}/") else ""


def unknown(job_id: str) -> errors.ServiceError:
    """NOT_FOUND for a job that is not kept, or not the caller's."""
    return errors.not_found(
        "google.longrunning.Operation", operation_name(job_id), "never begun, was deleted, or is long over"
    )


def visible(job: Job) -> Job:
    """The job, where the caller may know of it; NOT_FOUND otherwise."""
    if not identity.current().sees(job.owner):
        raise unknown(job.id)
    return job


def begun(job: Job) -> Job:
    """The job as a process starts for it."""
    started = time.time() if job.started is None else job.started
    return replace(job, state=JobState.RUNNING, started=started, starts=job.starts + 1, attempts=job.attempts + 1)


def suspended(job: Job) -> Job:
    """The job as its server stops; the start that ends here is not held against it."""
    return replace(job, state=JobState.QUEUED, attempts=max(0, job.attempts - 1))


def done(job: Job) -> Job:
    """The job with its model stored."""
    return replace(job, state=JobState.DONE, ended=time.time())


def failed(job: Job, failure: Failure) -> Job:
    """The job without a model."""
    return replace(job, state=JobState.FAILED, ended=time.time(), failure=failure)


def timestamp(seconds: float | None) -> timestamp_pb2.Timestamp | None:
    """Return seconds since the epoch as a message, None as None."""
    if seconds is None:
        return None
    made = timestamp_pb2.Timestamp()
    made.FromMilliseconds(int(1000 * seconds))
    return made
