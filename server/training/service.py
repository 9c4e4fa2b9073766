"""The service of a training engine: jobs, from the upload to the queue, their progress, and the models they leave."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.message_factory import GetMessageClass

from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors, identity
from relaxon.server.gate.admission import AdmissionLimit
from relaxon.server.gate.uploads import Upload
from relaxon.server.jobs import folder as job_folder
from relaxon.server.jobs import records as jobs
from relaxon.server.jobs.models import ModelStore
from relaxon.server.jobs.operations_service import OperationsServicer, Presentation, job_message
from relaxon.server.jobs.records import JobRecord, timestamp
from relaxon.server.jobs.runner import JobRunner
from relaxon.server.jobs.worker import ENGINES_PACKAGE
from relaxon.server.solving.observations import Observations
from relaxon.server.training.engine import TrainingEngine

Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
HANDLERS: dict[tuple[bool, bool], Callable[..., Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
"""By whether a method streams requests and whether it streams replies."""


@dataclass(slots=True)
class _RequestTurn:
    """The calls of one request id."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    calls: int = 0


class TrainingService:
    """The gRPC service of one engine.

    `checks` runs what takes more than a moment, so that the event loop never computes; `engines` runs what may take
    minutes, in turn with the solves.
    """

    def __init__(
        self,
        engine: TrainingEngine,
        settings: ServerSettings,
        runner: JobRunner,
        models: ModelStore,
        operations: OperationsServicer,
        checks: Executor,
        engines: Executor,
        observations: Observations | None = None,
    ) -> None:
        """`observations` records what an engine solves, for the dashboard."""
        self.engine = engine
        self.settings = settings
        self.models = models
        self.engines = engines
        self.observations = observations
        self.admission = AdmissionLimit(settings.max_pending, "predictions")
        """Admits the calls that hold arrays and compute."""
        self._runner = runner
        self._operations = operations
        self._checks = checks
        self._turns: dict[tuple[str, str], _RequestTurn] = {}

    def register(self, server: grpc.aio.Server) -> None:
        """Have a server answer the calls of this service."""
        calls: dict[str, Callable[[Any, Context], Awaitable[Any]]] = {
            "Train": self._train,
            "Watch": self._watch,
            "GetModel": self._get_model,
            "ListModels": self._list_models,
            "DeleteModel": self._delete_model,
            **{name: partial(call, self) for name, call in self.engine.calls.items()},
        }
        service = self.engine.wire.service
        handlers = {
            method.name: HANDLERS[method.client_streaming, method.server_streaming](
                calls[method.name],
                request_deserializer=GetMessageClass(method.input_type).FromString,
                response_serializer=GetMessageClass(method.output_type).SerializeToString,
            )
            for method in service.methods
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        server.add_registered_method_handlers(service.full_name, handlers)

    def upload(self, context: Context) -> Upload:
        """Return the reader of a call's stream of requests."""
        return Upload(context, self.settings.idle_seconds)

    def load(self, name: str) -> Any:
        """Return a stored model; NOT_FOUND where there is none of that name."""
        return self.models.load(self.engine.kind, name, self.engine.load)

    def describe(self, name: str, field: str = "model", whole: bool = True) -> Any:
        """Return the message of a stored model; NOT_FOUND where there is none, naming the argument `field`."""
        return describe_stored(self.engine, self.models, name, field, whole)

    def admitted(self) -> AbstractContextManager[None]:
        """Hold a place among the calls that hold arrays and compute; RESOURCE_EXHAUSTED where none is free."""
        return self.admission.taking()

    async def run_beside(self, work: Callable[[], Answer], threads: Executor | None = None) -> Answer:
        """Run `work` in a thread of `checks`, or of `threads`; a missing package is FAILED_PRECONDITION."""
        return await run_in_thread(threads or self._checks, work)

    async def _train(self, _: object, context: Context) -> Any:
        """Return a job's operation, once its request and data are in its folder.

        A header whose `request_id` began a job before gets that job, provided that everything else is the same.
        """
        upload = self.upload(context)
        header = await upload.header()
        plan = await self.run_beside(lambda: self.engine.plan(header, self.settings))
        if not self.engine.module.startswith(f"{ENGINES_PACKAGE}."):
            plan = replace(plan, request={**plan.request, "engine": self.engine.module})
        receive = partial(plan.receive, upload, self.run_beside)
        kind, request_id, owner = self.engine.kind, _validate_request_id(header.request_id), identity.current().name
        asked = _header_digest(header)
        async with self._turn(request_id, owner):
            known = self._runner.store.by_request(kind, owner, request_id) if request_id else None
            if known is not None:
                await self._check_same(known, asked, receive)
                await self._runner.store.saved()
                return await self._operations.operation(known.id)
            with self._runner.place(owner):
                name = self.models.reserve(kind, header.model, "model")
                job = JobRecord.new(kind, name, owner, request_id)
                folder = self._runner.folder_of(job)
                try:
                    await receive(folder)
                    data = await self.run_beside(lambda: _sync_and_digest(folder))
                    job = replace(job, fingerprint=asked + data)
                    self._runner.submit(job)
                except BaseException:
                    self.models.release(kind, name)
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
            await self._runner.store.saved()
        return await self._operations.operation(job.id)

    async def _check_same(self, known: JobRecord, asked: str, receive: Callable[[Path], Awaitable[None]]) -> None:
        """Raise ALREADY_EXISTS for a call whose header or data are not those that a job was begun with."""
        name = jobs.operation_name(known.id)
        message = f"request_id {known.request_id!r} was that of {name}, whose %s was another"
        if not known.fingerprint.startswith(asked):
            raise errors.already_exists("google.longrunning.Operation", name, message % "header")
        folder = self._runner.folder_of(JobRecord.new(known.kind, known.model))
        with self.admitted():
            try:
                await receive(folder)
                data = await self.run_beside(lambda: _sync_and_digest(folder))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        if known.fingerprint != asked + data:
            raise errors.already_exists("google.longrunning.Operation", name, message % "data")

    @asynccontextmanager
    async def _turn(self, request_id: str, owner: str) -> AsyncIterator[None]:
        """Let one call at a time in for each request id: the second one finds what the first has begun."""
        if not request_id:
            yield
            return
        turn = self._turns.setdefault((owner, request_id), _RequestTurn())
        turn.calls += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.calls -= 1
            if not turn.calls:
                del self._turns[owner, request_id]

    async def _watch(self, request: Any, context: Context) -> None:
        job_id = jobs.job_id_of(request.operation)
        if jobs.check_visible(self._runner.store.find(job_id)).kind != self.engine.kind:
            raise errors.invalid("operation", f"operation must be one of this service, got {request.operation!r}")
        if request.skip < 0:
            raise errors.invalid("skip", f"skip must not be negative, got {request.skip}")
        message = self.engine.wire.reply("Watch")
        async for progress in self._runner.watch(job_id, request.skip):
            await context.write(message(**progress))

    async def _get_model(self, request: Any, _: Context) -> Any:
        return await self.run_beside(lambda: self.describe(request.name, "name"))

    async def _list_models(self, _: Any, __: Context) -> Any:
        return await self.run_beside(self._list_stored_models)

    def _list_stored_models(self) -> Any:
        reply = self.engine.wire.reply("ListModels")()
        for name in self.models.names(self.engine.kind):
            try:
                reply.models.append(self.describe(name, whole=False))
            except errors.ServiceError as error:
                if error.code is not grpc.StatusCode.NOT_FOUND:  # deleted since the names were read
                    raise
        return reply

    async def _delete_model(self, request: Any, _: Context) -> Any:
        await self.run_beside(lambda: self.models.delete(self.engine.kind, request.name))
        return self.engine.wire.reply("DeleteModel")()


async def run_in_thread(threads: Executor, work: Callable[[], Answer]) -> Answer:
    """Run `work` in one of `threads`, with the identity of the caller; a missing package is FAILED_PRECONDITION."""
    mine = contextvars.copy_context().run
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, mine, work)
    except ImportError as error:
        raise errors.missing_package(error) from error


def describe_stored(engine: TrainingEngine, models: ModelStore, name: str, field: str, whole: bool = True) -> Any:
    """Return the message of a stored model; NOT_FOUND where there is none, naming the argument `field`."""
    created = models.created(engine.kind, name, field)
    message = engine.describe(models.load(engine.kind, name, engine.load), whole)
    message.name = name
    message.create_time.CopyFrom(timestamp(created))
    return message


def present_jobs(engine: TrainingEngine, models: ModelStore) -> Presentation:
    """Return how the jobs of an engine appear as operations."""
    progress_message = engine.wire.reply("Watch")
    return Presentation(
        metadata=lambda job, newest: engine.training(
            job=job_message(job), progress=None if newest is None else progress_message(**newest)
        ),
        response=lambda job: describe_stored(engine, models, job.model, "model"),
    )


def _validate_request_id(request_id: str) -> str:
    if request_id and not REQUEST_ID.fullmatch(request_id):
        raise errors.invalid(
            "request_id",
            f"request_id must be 1 to 64 letters, digits, '.', '_', ':' and '-', got {request_id[:80]!r}",
        )
    return request_id


def _header_digest(header: Any) -> str:
    """Return the digest of everything that a header asks for, its request id left out."""
    bare = type(header)()
    bare.CopyFrom(header)
    bare.ClearField("request_id")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def _sync_and_digest(folder: Path) -> str:
    """Flush a job's folder to disk and return the digest of its data.

    The request is left out: it may hold a seed that was drawn for it.
    """
    job_folder.sync_tree(folder)
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.name != job_folder.REQUEST:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
