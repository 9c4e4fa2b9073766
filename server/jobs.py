"""What the server knows of its jobs, and where it keeps that: in memory, behind `JobStore`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol

from relaxon.server import errors, identity

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
    """The name of the caller who began it."""

    @classmethod
    def new(cls, kind: str, model: str, owner: str = "") -> Job:
        return cls(secrets.token_hex(16), kind, model, time.time(), owner=owner)


class JobStore(Protocol):
    """Jobs with the progress that they have made. Called from the event loop's thread; no call may wait long."""

    def put(self, job: Job) -> None:
        """Keep a job, in the place of the one with its id."""

    def find(self, job_id: str) -> Job:
        """NOT_FOUND where no job of that id is kept."""

    def jobs(self) -> Sequence[Job]:
        """All kept jobs, the oldest first."""

    def remove(self, job_id: str) -> None:
        """Forget a job and its progress; NOT_FOUND where it is not kept."""

    def add_progress(self, job_id: str, progress: Json) -> None:
        """Keep a progress message of a job that is kept."""

    def progress(self, job_id: str) -> Sequence[Json]:
        """The messages so far; the same object each time, which grows."""


class MemoryJobStore:
    """A `JobStore` that ends with the process. Of the jobs that have ended, the last `max_ended` are kept."""

    def __init__(self, max_ended: int) -> None:
        self._max_ended = max_ended
        self._jobs: dict[str, Job] = {}
        self._progress: dict[str, list[Json]] = {}

    def put(self, job: Job) -> None:
        self._jobs[job.id] = job
        self._progress.setdefault(job.id, [])
        if job.state.ended:
            self._make_room()

    def find(self, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None:
            raise unknown(job_id)
        return job

    def jobs(self) -> Sequence[Job]:
        return tuple(self._jobs.values())

    def remove(self, job_id: str) -> None:
        del self._jobs[self.find(job_id).id]
        del self._progress[job_id]

    def add_progress(self, job_id: str, progress: Json) -> None:
        self._progress[job_id].append(progress)

    def progress(self, job_id: str) -> Sequence[Json]:
        return self._progress[self.find(job_id).id]

    def _make_room(self) -> None:
        ended = sorted((job for job in self._jobs.values() if job.state.ended), key=lambda job: job.ended or 0.0)
        for job in ended[: max(0, len(ended) - self._max_ended)]:
            self.remove(job.id)


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
    """The job as its process starts."""
    return replace(job, state=JobState.RUNNING, started=time.time())


def done(job: Job) -> Job:
    """The job with its model stored."""
    return replace(job, state=JobState.DONE, ended=time.time())


def failed(job: Job, failure: Failure) -> Job:
    """The job without a model."""
    return replace(job, state=JobState.FAILED, ended=time.time(), failure=failure)
