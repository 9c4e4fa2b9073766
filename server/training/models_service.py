"""`ModelService`: stored models of all kinds as files."""

from __future__ import annotations

import asyncio
import contextvars
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc

from relaxon.core.extras import require
from relaxon.proto import models_pb2 as pb
from relaxon.proto import models_pb2_grpc
from relaxon.server.config.capabilities import ENGINES
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors, uploads
from relaxon.server.jobs.models import ModelStore, owner_of
from relaxon.server.jobs.operations_service import timestamp
from relaxon.server.training.model_kinds import KINDS, ModelKind, check_whole
from relaxon.wire.tensors import CHUNK_BYTES

Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")
MOST_TRANSFERS = 8
"""Uploads and downloads at the same time."""
RETRY_SECONDS = 1.0
KIND_NEEDS = {engine.name: engine.needs for engine in ENGINES if engine.name in KINDS}
"""The modules without which no model of a kind can be read."""


class ModelsServicer(models_pb2_grpc.ModelServiceServicer):
    """The service's calls; `checks` runs what reads and writes files."""

    def __init__(self, settings: ServerSettings, models: ModelStore, checks: Executor) -> None:
        self._settings = settings
        self._models = models
        self._checks = checks
        self._transfers = 0

    async def ListModels(self, request: pb.ListStoredModelsRequest, context: Context) -> pb.ListStoredModelsReply:
        return await errors.reported(context, self._beside(lambda: self._list(request)))

    async def GetModel(self, request: pb.GetStoredModelRequest, context: Context) -> pb.StoredModel:
        return await errors.reported(context, self._beside(lambda: self._described(request.kind, request.name)))

    async def DeleteModel(self, request: pb.DeleteStoredModelRequest, context: Context) -> pb.DeleteStoredModelReply:
        return await errors.reported(context, self._beside(lambda: self._delete(request)))

    async def Download(self, request: pb.DownloadModelRequest, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._download(request, context))

    async def Upload(self, request_iterator: object, context: Context) -> pb.StoredModel:
        return await errors.reported(context, self._upload(uploads.Upload(context, self._settings.idle_seconds)))

    def _list(self, request: pb.ListStoredModelsRequest) -> pb.ListStoredModelsReply:
        kinds = [request.kind] if request.kind else list(KINDS)
        reply = pb.ListStoredModelsReply()
        for kind in kinds:
            _known(kind)
            for name in self._models.names(kind):
                try:
                    reply.models.append(self._described(kind, name))
                except errors.ServiceError as error:
                    if error.code is not grpc.StatusCode.NOT_FOUND:  # deleted since the names were read
                        raise
        return reply

    def _described(self, kind: str, name: str) -> pb.StoredModel:
        known, place = _known(kind), self._models.path(kind, name, "name")
        try:
            size = sum((place / file).stat().st_size for file in known.files)
            return pb.StoredModel(
                kind=kind,
                name=name,
                create_time=timestamp(place.stat().st_mtime),
                size=size,
                owner=owner_of(place),
            )
        except FileNotFoundError:
            raise self._models.unknown(kind, name) from None

    def _delete(self, request: pb.DeleteStoredModelRequest) -> pb.DeleteStoredModelReply:
        _known(request.kind)
        self._models.delete(request.kind, request.name)
        return pb.DeleteStoredModelReply()

    async def _download(self, request: pb.DownloadModelRequest, context: Context) -> None:
        with self._transfer():
            model = await self._beside(lambda: self._described(request.kind, request.name))
            contents = await self._beside(lambda: self._contents(request))
            files = [pb.ModelFile(name=name, size=len(one), crc32=zlib.crc32(one)) for name, one in contents.items()]
            await context.write(pb.DownloadModelReply(header=pb.DownloadModelHeader(model=model, files=files)))
            for content in contents.values():
                for start in range(0, len(content), CHUNK_BYTES):
                    await context.write(pb.DownloadModelReply(chunk=content[start : start + CHUNK_BYTES]))

    def _contents(self, request: pb.DownloadModelRequest) -> dict[str, bytes]:
        kind, place = _known(request.kind), self._models.path(request.kind, request.name, "name")
        if request.format in (pb.MODEL_FORMAT_UNSPECIFIED, pb.MODEL_FORMAT_STORED):
            try:
                return {name: (place / name).read_bytes() for name in kind.files}
            except FileNotFoundError:
                raise self._models.unknown(request.kind, request.name) from None
        if request.format != pb.MODEL_FORMAT_ONNX:
            raise errors.invalid("format", f"format must be a known value, got {request.format}")
        if kind.onnx is None:
            raise errors.failed_precondition(f"models of the kind {request.kind!r} cannot be exported to ONNX")
        return {"model.onnx": kind.onnx(self._models.load(request.kind, request.name, kind.load))}

    async def _upload(self, upload: uploads.Upload) -> pb.StoredModel:
        header: pb.UploadModelHeader = await upload.header()
        kind = _known(header.kind)
        files = self._announced(kind, header)
        await self._beside(partial(require, KIND_NEEDS[header.kind], f"a model of the kind {header.kind!r}"))
        with self._transfer():
            name = self._models.reserve(header.kind, header.name, "name")
            folder = self._models.jobs / secrets.token_hex(16)
            try:
                await self._beside(folder.mkdir)
                for file in files:
                    await self._receive(upload, file, folder / file.name)
                await upload.end()
                await self._beside(lambda: check_whole(kind, folder, self._settings))
                await self._beside(lambda: self._models.put(header.kind, name, folder))
            finally:
                self._models.release(header.kind, name)
                await asyncio.shield(self._beside(lambda: shutil.rmtree(folder, ignore_errors=True)))
        return await self._beside(lambda: self._described(header.kind, name))

    def _announced(self, kind: ModelKind, header: pb.UploadModelHeader) -> list[pb.ModelFile]:
        names = [file.name for file in header.files]
        if sorted(names) != sorted(kind.files):
            raise errors.invalid("files", f"files must be {' and '.join(kind.files)}, got {str(names)[:200]}")
        if min(file.size for file in header.files) < 1:
            raise errors.invalid("files", "files must have at least one byte each")
        size = sum(file.size for file in header.files)
        if size > self._settings.max_model_bytes:
            raise errors.exhausted(
                "files", f"files must have at most {self._settings.max_model_bytes} bytes here, got {size}"
            )
        return list(header.files)

    async def _receive(self, upload: uploads.Upload, file: pb.ModelFile, path: Path) -> None:
        """Write a file as its bytes come. `path` is this server's own, whatever the caller calls the file."""
        left, checksum = file.size, 0
        with await self._beside(lambda: path.open("xb")) as out:
            while left:
                chunk = await upload.chunk(file.name)
                left -= len(chunk)
                if left < 0:
                    raise errors.invalid(file.name, f"{file.name} has more bytes than the {file.size} announced")
                checksum = zlib.crc32(chunk, checksum)
                await self._beside(partial(out.write, chunk))
        if checksum != file.crc32:
            raise errors.invalid(
                file.name, f"{file.name} has the checksum {checksum:08x}, where the header says {file.crc32:08x}"
            )

    @contextmanager
    def _transfer(self) -> Iterator[None]:
        if self._transfers >= MOST_TRANSFERS:
            raise errors.exhausted("transfers", f"transfers must number at most {MOST_TRANSFERS}", RETRY_SECONDS)
        self._transfers += 1
        try:
            yield
        finally:
            self._transfers -= 1

    async def _beside(self, work: Callable[[], Answer]) -> Answer:
        """Run `work` in a thread of `checks` that knows the caller."""
        mine = contextvars.copy_context().run
        try:
            return await asyncio.get_running_loop().run_in_executor(self._checks, mine, work)
        except ImportError as error:
            raise errors.missing_package(error) from error


def _known(kind: str) -> ModelKind:
    if kind not in KINDS:
        raise errors.invalid("kind", f"kind must be one of {', '.join(KINDS)}, got {kind[:80]!r}")
    return KINDS[kind]
