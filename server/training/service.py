"""What the services that train have in common: a job's way from the upload to the queue, progress, admission."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors, identity
from relaxon.server.gate.uploads import Upload
from relaxon.server.jobs import folder as job_folder
from relaxon.server.jobs import records as jobs
from relaxon.server.jobs.models import ModelStore
from relaxon.server.jobs.operations_service import OperationsServicer
from relaxon.server.jobs.records import Job, Json
from relaxon.server.jobs.runner import JobRunner

Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")
RETRY_SECONDS = 1.0
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@dataclass(slots=True)
class _Turn:
    """The calls of one request id."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    calls: int = 0


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
        self._turns: dict[tuple[str, str], _Turn] = {}

    def _upload(self, context: Context) -> Upload:
        return Upload(context, self._settings.idle_seconds)

    async def _submit(self, header: Any, receive: Callable[[Path], Awaitable[None]]) -> Any:
        """A job's operation, once `receive` has put its request and data into the folder that it is given.

        A header whose `request_id` a job was begun with before is answered with that job, where all else is the same.
        """
        request_id, owner = _checked_id(header.request_id), identity.current().name
        asked = _header_digest(header)
        async with self._turn(request_id, owner):
            known = self._runner.store.by_request(self.kind, owner, request_id) if request_id else None
            if known is not None:
                await self._check_same(known, asked, receive)
                await self._runner.store.saved()
                return await self._operations.operation(known.id)
            with self._runner.place(owner):
                name = self._models.reserve(self.kind, header.model, "model")
                job = Job.new(self.kind, name, owner, request_id)
                folder = self._runner.folder_of(job)
                try:
                    await receive(folder)
                    data = await self._beside(lambda: _kept(folder))
                    job = replace(job, fingerprint=asked + data)
                    self._runner.submit(job)
                except BaseException:
                    self._models.release(self.kind, name)
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
            await self._runner.store.saved()
        return await self._operations.operation(job.id)

    async def _check_same(self, known: Job, asked: str, receive: Callable[[Path], Awaitable[None]]) -> None:
        """ALREADY_EXISTS where a call is not the one that a job was begun with: of another header, or of other data."""
        name = jobs.operation_name(known.id)
        message = f"request_id {known.request_id!r} was that of {name}, whose %s was another"
        if not known.fingerprint.startswith(asked):
            raise errors.already_exists("google.longrunning.Operation", name, message % "header")
        folder = self._runner.folder_of(Job.new(known.kind, known.model))
        with self._admitted():
            try:
                await receive(folder)
                data = await self._beside(lambda: _kept(folder))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        if known.fingerprint != asked + data:
            raise errors.already_exists("google.longrunning.Operation", name, message % "data")

    @asynccontextmanager
    async def _turn(self, request_id: str, owner: str) -> AsyncIterator[None]:
        """One call at a time for each request id: the second one finds what the first has begun."""
        if not request_id:
            yield
            return
        turn = self._turns.setdefault((owner, request_id), _Turn())
        turn.calls += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.calls -= 1
            if not turn.calls:
                del self._turns[owner, request_id]

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
            raise errors.missing_package(error) from error


def _checked_id(request_id: str) -> str:
    if request_id and not REQUEST_ID.fullmatch(request_id):
        raise errors.invalid(
            "request_id",
            f"request_id must be 1 to 64 letters, digits, '.', '_', ':' and '-', got {request_id[:80]!r}",
        )
    return request_id


def _header_digest(header: Any) -> str:
    """Of all that a header asks for; what it asks under is left out."""
    bare = type(header)()
    bare.CopyFrom(header)
    bare.ClearField("request_id")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def _kept(folder: Path) -> str:
    """Have the disk hold a job's folder; the digest of its data. Its request may hold a seed drawn for it: left out."""
    job_folder.sync_tree(folder)
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.name != job_folder.REQUEST:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
