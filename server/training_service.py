"""What the services that train have in common: a job's way from the upload to the queue, progress, admission."""

from __future__ import annotations

import asyncio
import contextvars
import shutil
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from relaxon.server import errors, identity, jobs
from relaxon.server.job_runner import JobRunner
from relaxon.server.jobs import Job, Json
from relaxon.server.models import ModelStore
from relaxon.server.operations_service import OperationsServicer
from relaxon.server.settings import ServerSettings
from relaxon.server.uploads import Upload
from relaxon.server.worker import MODEL

Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")
RETRY_SECONDS = 1.0


class TrainingServicer:
    """Base of a service that trains models of `kind`.

    `checks` runs what takes more than a moment, so that the event loop never computes; `engines` what may take
    minutes, one after the other with the solves.
    """

    kind: str

    def __init__(
        self,
        settings: ServerSettings,
        runner: JobRunner,
        models: ModelStore,
        operations: OperationsServicer,
        checks: Executor,
        engines: Executor,
    ) -> None:
        self._settings = settings
        self._runner = runner
        self._models = models
        self._operations = operations
        self._checks = checks
        self._engines = engines
        self._pending = 0

    def _upload(self, context: Context) -> Upload:
        return Upload(context, self._settings.idle_seconds)

    async def _submit(self, model: str, receive: Callable[[Path], Awaitable[None]]) -> Any:
        """A job's operation, once `receive` has put its request and data into the folder that it is given."""
        with self._runner.place():
            name = self._models.reserve(self.kind, model, "model")
            job = Job.new(self.kind, name, identity.current().name)
            folder = self._runner.folder_of(job)

            def release() -> None:
                self._models.release(self.kind, name)

            try:
                await receive(folder)
                self._runner.submit(job, self._keep, release)
            except BaseException:
                release()
                shutil.rmtree(folder, ignore_errors=True)
                raise
        return await self._operations.operation(job.id)

    async def _keep(self, job: Job, folder: Path) -> None:
        await self._beside(lambda: self._models.put(self.kind, job.model, folder / MODEL))

    async def _tell(self, request: Any, context: Context, message: Callable[[Json], Message]) -> None:
        """Answer a `Watch`."""
        job_id = jobs.job_id_of(request.operation)
        if jobs.visible(self._runner.store.find(job_id)).kind != self.kind:
            raise errors.invalid("operation", f"operation must be one of this service, got {request.operation!r}")
        if request.skip < 0:
            raise errors.invalid("skip", f"skip must not be negative, got {request.skip}")
        async for progress in self._runner.watch(job_id, request.skip):
            await context.write(message(progress))

    def _stored(self, described: Callable[[str], Answer]) -> list[Answer]:
        """What `described` tells of each stored model, without those deleted since the names were read."""
        found = []
        for name in self._models.names(self.kind):
            try:
                found.append(described(name))
            except errors.ServiceError as error:
                if error.code is not grpc.StatusCode.NOT_FOUND:
                    raise
        return found

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """A place among the calls that hold arrays and compute; RESOURCE_EXHAUSTED if none is free."""
        if self._pending >= self._settings.max_pending:
            raise errors.exhausted(
                "predictions",
                f"predictions: {self._pending} are pending, which is this server's limit",
                RETRY_SECONDS,
            )
        self._pending += 1
        try:
            yield
        finally:
            self._pending -= 1

    async def _beside(self, work: Callable[[], Answer], threads: Executor | None = None) -> Answer:
        """Run `work` in a thread of `checks` or of `threads`; a missing package is FAILED_PRECONDITION."""
        try:
            # The thread knows whose call it works for.
            mine = contextvars.copy_context().run
            return await asyncio.get_running_loop().run_in_executor(threads or self._checks, mine, work)
        except ImportError as error:
            raise errors.failed_precondition(f"this server cannot do that: {error}") from error
