"""Jobs as the server knows them; `database` keeps them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf import timestamp_pb2

from relaxon.server.gate import errors, identity
from relaxon.wire.conversions.jobs import JobState

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JobFailure:
    """The reason why a job has no result."""

    code: str
    """The name of a gRPC status code."""
    message: str
    field: str = ""
    """The argument that was refused, where that is the reason."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A snapshot of a job; a change makes a new one."""

    id: str
    kind: str
    """The engine that trains it."""
    model: str
    """The name of the model that it trains."""
    created: float
    """In seconds since 1970, like all times here."""
    state: JobState = JobState.QUEUED
    started: float | None = None
    ended: float | None = None
    cancel_requested: bool = False
    failure: JobFailure | None = None
    owner: str = ""
    """The name of the caller who started it; empty where callers are anonymous."""
    request_id: str = ""
    """The caller's own id for the call; empty where it gave none."""
    fingerprint: str = ""
    """The digest of what was asked for under that id."""
    starts: int = 0
    """The processes that were started for it."""
    attempts: int = 0
    """Those started since the last new step."""

    @classmethod
    def new(cls, kind: str, model: str, owner: str = "", request_id: str = "", fingerprint: str = "") -> JobRecord:
        return cls(
            secrets.token_hex(16),
            kind,
            model,
            time.time(),
            owner=owner,
            request_id=request_id,
            fingerprint=fingerprint,
        )


OPERATIONS = "operations"


def operation_name(job_id: str) -> str:
    """Return a job's name as a `google.longrunning.Operation`."""
    return f"{OPERATIONS}/{job_id}"


def job_id_of(name: str) -> str:
    """Return the id in an operation's name; any other text gives an id that no job has."""
    return name.removeprefix(f"{OPERATIONS}/") if name.startswith(f"{OPERATIONS}/") else ""


def unknown_job(job_id: str) -> errors.ServiceError:
    """Return NOT_FOUND for a job that is not kept, or belongs to another caller."""
    return errors.not_found(
        "google.longrunning.Operation", operation_name(job_id), "never begun, was deleted, or is long over"
    )


def check_visible(job: JobRecord) -> JobRecord:
    """Return the job if the caller may see it; NOT_FOUND otherwise."""
    if not identity.current().sees(job.owner):
        raise unknown_job(job.id)
    return job


def start_job(job: JobRecord) -> JobRecord:
    """Return the job as a process starts for it."""
    started = time.time() if job.started is None else job.started
    return replace(job, state=JobState.RUNNING, started=started, starts=job.starts + 1, attempts=job.attempts + 1)


def suspend_job(job: JobRecord) -> JobRecord:
    """Return the job as its server stops; the start that ends here does not count as an attempt."""
    return replace(job, state=JobState.QUEUED, attempts=max(0, job.attempts - 1))


def finish_job(job: JobRecord) -> JobRecord:
    """Return the job with its model stored."""
    return replace(job, state=JobState.DONE, ended=time.time())


def fail_job(job: JobRecord, failure: JobFailure) -> JobRecord:
    """Return the job without a model."""
    return replace(job, state=JobState.FAILED, ended=time.time(), failure=failure)


def timestamp(seconds: float | None) -> timestamp_pb2.Timestamp | None:
    """Return seconds since the epoch as a message, None as None."""
    if seconds is None:
        return None
    made = timestamp_pb2.Timestamp()
    made.FromMilliseconds(int(1000 * seconds))
    return made
