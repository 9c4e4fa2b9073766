"""`google.longrunning.Operations` over the training jobs of all services."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from relaxon.proto import job_pb2
from relaxon.server.gate import errors, identity
from relaxon.server.jobs import filter as job_filter
from relaxon.server.jobs import records as jobs
from relaxon.server.jobs.records import JobFailure, JobRecord, Json, timestamp
from relaxon.server.jobs.runner import JobRunner
from relaxon.wire.conversions.fields import write_fields
from relaxon.wire.conversions.jobs import JobState

Context = grpc.aio.ServicerContext[Any, Any]
MAX_PAGE = 100
"""Operations in one answer, also if the caller asks for more or for no number."""
MAX_WAIT_SECONDS = 3600.0
"""The longest wait of one WaitOperation."""


@dataclass(frozen=True, slots=True)
class Presentation:
    """How the jobs of a kind appear as operations."""

    metadata: Callable[[JobRecord, Json | None], Message]
    """Returns the metadata for a job and its newest report: a message whose field `job` is that of `job_message`."""
    response: Callable[[JobRecord], Message]
    """Returns the response of a job that is done; NOT_FOUND if its model was deleted since. Called in a thread."""


class OperationsServicer(operations_pb2_grpc.OperationsServicer):  # type: ignore[misc]
    """The calls of `google.longrunning.Operations`; `kinds` maps each kind of job to its presentation."""

    def __init__(self, runner: JobRunner, kinds: Mapping[str, Presentation]) -> None:
        self._runner = runner
        self._kinds = kinds

    async def GetOperation(self, request: Any, context: Context) -> Any:
        return await self.operation(jobs.job_id_of(request.name))

    async def operation(self, job_id: str) -> Any:
        """Return a job as an `Operation`; NOT_FOUND where it belongs to another caller."""
        job = jobs.check_visible(self._runner.store.find(job_id))
        presented = self._kinds.get(job.kind)
        if presented is None:  # of an engine that this server does not have
            raise jobs.unknown_job(job_id)
        operation = operations_pb2.Operation(name=jobs.operation_name(job_id), done=job.state.ended)
        metadata: Any = presented.metadata(job, self._runner.store.newest(job_id))
        metadata.job.steps = self._runner.store.steps(job_id)
        operation.metadata.Pack(metadata)
        failure = job.failure
        if job.state is JobState.DONE:
            try:
                operation.response.Pack(await asyncio.to_thread(presented.response, job))
            except errors.ServiceError as error:
                failure = JobFailure(error.code.name, error.message)
            except ImportError as error:  # the job was done by an earlier server, which had the package
                failure = JobFailure(grpc.StatusCode.FAILED_PRECONDITION.name, errors.missing_package(error).message)
        if failure is not None:
            operation.error.code = grpc.StatusCode[failure.code].value[0]
            operation.error.message = failure.message
            if failure.field:
                violation = error_details_pb2.BadRequest.FieldViolation(
                    field=failure.field, description=failure.message
                )
                operation.error.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
        return operation

    async def ListOperations(self, request: Any, context: Context) -> Any:
        if request.name not in ("", jobs.OPERATIONS):
            raise errors.invalid("name", f"name must be {jobs.OPERATIONS!r} or empty, got {request.name[:80]!r}")
        wanted = job_filter.parse_filter(request.filter)
        if request.page_size < 0:
            raise errors.invalid("page_size", f"page_size must not be negative, got {request.page_size}")
        size = min(request.page_size or MAX_PAGE, MAX_PAGE)
        after, caller = job_filter.read_page_token(request.page_token, request.filter), identity.current()
        kept = [
            job
            for job in self._runner.store.jobs()
            if (job.created, job.id) > after and caller.sees(job.owner) and wanted(job)
        ]
        reply = operations_pb2.ListOperationsResponse()
        for job in kept[:size]:
            with suppress(errors.ServiceError):  # removed while the list was put together
                reply.operations.append(await self.operation(job.id))
        if size < len(kept):
            reply.next_page_token = job_filter.page_token(kept[size - 1], request.filter)
        return reply

    async def WaitOperation(self, request: Any, context: Context) -> Any:
        job_id = jobs.job_id_of(request.name)
        seconds = MAX_WAIT_SECONDS
        if request.HasField("timeout"):
            seconds = min(request.timeout.seconds + 1e-9 * request.timeout.nanos, MAX_WAIT_SECONDS)
            if seconds < 0:
                raise errors.invalid("timeout", f"timeout must not be negative, got {seconds} s")
        jobs.check_visible(self._runner.store.find(job_id))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._runner.wait(job_id)
        return await self.operation(job_id)

    async def CancelOperation(self, request: Any, context: Context) -> Any:
        await self._runner.cancel(self._own(request.name).id)
        return empty_pb2.Empty()

    async def DeleteOperation(self, request: Any, context: Context) -> Any:
        await self._runner.remove(self._own(request.name).id)
        return empty_pb2.Empty()

    def _own(self, name: str) -> JobRecord:
        return jobs.check_visible(self._runner.store.find(jobs.job_id_of(name)))


def job_message(job: JobRecord) -> job_pb2.Job:
    """Return what the metadata of jobs of every kind hold."""
    times = {"create_time": job.created, "start_time": job.started, "end_time": job.ended}
    return write_fields(job_pb2.Job, job, **{name: timestamp(seconds) for name, seconds in times.items()})
