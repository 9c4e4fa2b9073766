"""`ModelService`: stored models of all kinds as files."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import zlib
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc

from relaxon.core.extras import require
from relaxon.proto import models_pb2 as pb
from relaxon.proto import models_pb2_grpc
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors, uploads
from relaxon.server.gate.admission import AdmissionLimit
from relaxon.server.jobs.models import ModelStore, read_owner
from relaxon.server.jobs.records import timestamp
from relaxon.server.training.engine import TrainingEngine
from relaxon.server.training.registry import ENGINES
from relaxon.server.training.service import run_in_thread
from relaxon.server.training.stored_files import check_whole
from relaxon.wire.tensors import CHUNK_BYTES

Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")
MOST_TRANSFERS = 8
"""Concurrent uploads and downloads."""


class ModelsServicer(models_pb2_grpc.ModelServiceServicer):
    """The calls of the service; `checks` runs what reads and writes files."""

    def __init__(self, settings: ServerSettings, models: ModelStore, checks: Executor) -> None:
        self._settings = settings
        self._models = models
        self._checks = checks
        self._transfers = AdmissionLimit(MOST_TRANSFERS, "transfers")

    async def ListModels(self, request: pb.ListStoredModelsRequest, context: Context) -> pb.ListStoredModelsReply:
        return await self._run_beside(lambda: self._list(request))

    async def GetModel(self, request: pb.GetStoredModelRequest, context: Context) -> pb.StoredModel:
        return await self._run_beside(lambda: self._describe(request.kind, request.name))

    async def DeleteModel(self, request: pb.DeleteStoredModelRequest, context: Context) -> pb.DeleteStoredModelReply:
        _find_engine(request.kind)
        await self._run_beside(lambda: self._models.delete(request.kind, request.name))
        return pb.DeleteStoredModelReply()

    def _list(self, request: pb.ListStoredModelsRequest) -> pb.ListStoredModelsReply:
        kinds = [request.kind] if request.kind else list(ENGINES)
        reply = pb.ListStoredModelsReply()
        for kind in kinds:
            _find_engine(kind)
            for name in self._models.names(kind):
                try:
                    reply.models.append(self._describe(kind, name))
                except errors.ServiceError as error:
                    if error.code is not grpc.StatusCode.NOT_FOUND:  # deleted since the names were read
                        raise
        return reply

    def _describe(self, kind: str, name: str) -> pb.StoredModel:
        files, place = _find_engine(kind).wire.files, self._models.path(kind, name, "name")
        try:
            size = sum((place / file).stat().st_size for file in files)
            return pb.StoredModel(
                kind=kind,
                name=name,
                create_time=timestamp(place.stat().st_mtime),
                size=size,
                owner=read_owner(place),
            )
        except FileNotFoundError:
            raise self._models.unknown(kind, name) from None

    async def Download(self, request: pb.DownloadModelRequest, context: Context) -> None:  # type: ignore[override]
        with self._transfers.taking():
            model = await self._run_beside(lambda: self._describe(request.kind, request.name))
            contents = await self._run_beside(lambda: self._contents(request))
            files = [pb.ModelFile(name=name, size=len(one), crc32=zlib.crc32(one)) for name, one in contents.items()]
            await context.write(pb.DownloadModelReply(header=pb.DownloadModelHeader(model=model, files=files)))
            for content in contents.values():
                for start in range(0, len(content), CHUNK_BYTES):
                    await context.write(pb.DownloadModelReply(chunk=content[start : start + CHUNK_BYTES]))

    def _contents(self, request: pb.DownloadModelRequest) -> dict[str, bytes]:
        engine, place = _find_engine(request.kind), self._models.path(request.kind, request.name, "name")
        if request.format in (pb.MODEL_FORMAT_UNSPECIFIED, pb.MODEL_FORMAT_STORED):
            try:
                return {name: (place / name).read_bytes() for name in engine.wire.files}
            except FileNotFoundError:
                raise self._models.unknown(request.kind, request.name) from None
        if request.format != pb.MODEL_FORMAT_ONNX:
            raise errors.invalid("format", f"format must be a known value, got {request.format}")
        if engine.onnx is None:
            raise errors.failed_precondition(f"models of the kind {request.kind!r} cannot be exported to ONNX")
        return {"model.onnx": engine.onnx(self._models.load(request.kind, request.name, engine.load))}

    async def Upload(self, request_iterator: object, context: Context) -> pb.StoredModel:
        upload = uploads.Upload(context, self._settings.idle_seconds)
        header: pb.UploadModelHeader = await upload.header()
        engine = _find_engine(header.kind)
        files = self._check_announced(engine.wire.files, header)
        await self._run_beside(partial(require, engine.needs, f"a model of the kind {header.kind!r}"))
        with self._transfers.taking():
            name = self._models.reserve(header.kind, header.name, "name")
            folder = self._models.jobs / secrets.token_hex(16)
            try:
                await self._run_beside(folder.mkdir)
                for file in files:
                    await self._receive(upload, file, folder / file.name)
                await upload.end()
                await self._run_beside(lambda: check_whole(engine, folder, self._settings))
                await self._run_beside(lambda: self._models.put(header.kind, name, folder))
            finally:
                self._models.release(header.kind, name)
                await asyncio.shield(self._run_beside(lambda: shutil.rmtree(folder, ignore_errors=True)))
        return await self._run_beside(lambda: self._describe(header.kind, name))

    def _check_announced(self, expected: tuple[str, ...], header: pb.UploadModelHeader) -> list[pb.ModelFile]:
        names = [file.name for file in header.files]
        if sorted(names) != sorted(expected):
            raise errors.invalid("files", f"files must be {' and '.join(expected)}, got {str(names)[:200]}")
        if min(file.size for file in header.files) < 1:
            raise errors.invalid("files", "files must have at least one byte each")
        size = sum(file.size for file in header.files)
        if size > self._settings.max_model_bytes:
            raise errors.exhausted(
                "files", f"files must have at most {self._settings.max_model_bytes} bytes here, got {size}"
            )
        return list(header.files)

    async def _receive(self, upload: uploads.Upload, file: pb.ModelFile, path: Path) -> None:
        """Write a file as its bytes arrive. `path` is the server's own choice, whatever the caller calls the file."""
        left, checksum = file.size, 0
        with await self._run_beside(lambda: path.open("xb")) as out:
            while left:
                chunk = await upload.chunk(file.name)
                left -= len(chunk)
                if left < 0:
                    raise errors.invalid(file.name, f"{file.name} has more bytes than the {file.size} announced")
                checksum = zlib.crc32(chunk, checksum)
                await self._run_beside(partial(out.write, chunk))
        if checksum != file.crc32:
            raise errors.invalid(
                file.name, f"{file.name} has the checksum {checksum:08x}, where the header says {file.crc32:08x}"
            )

    async def _run_beside(self, work: Callable[[], Answer]) -> Answer:
        return await run_in_thread(self._checks, work)


def _find_engine(kind: str) -> TrainingEngine:
    if kind not in ENGINES:
        raise errors.invalid("kind", f"kind must be one of {', '.join(ENGINES)}, got {kind[:80]!r}")
    return ENGINES[kind]
