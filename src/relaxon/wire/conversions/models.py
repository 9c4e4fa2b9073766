"""Stored models, of any kind, and their files as they travel."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, NoReturn, get_args

from relaxon.core import errors
from relaxon.proto import models_pb2 as pb
from relaxon.wire.conversions import boosting, convex, energy, equilibrium, proximal
from relaxon.wire.conversions.fields import check_text, read_fields
from relaxon.wire.tensors import CHUNK_BYTES

Kind = Literal["boosting", "convex", "energy", "equilibrium", "proximal"]
Format = Literal["stored", "onnx"]
FORMATS = {"stored": pb.MODEL_FORMAT_STORED, "onnx": pb.MODEL_FORMAT_ONNX}


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model on the server, whatever its kind."""

    kind: str
    name: str
    created: datetime
    size: int
    """The total size of its files in bytes."""
    owner: str
    """The caller who owns it; empty where the server's callers are anonymous."""


ENGINES = (boosting.ENGINE, convex.ENGINE, energy.ENGINE, equilibrium.ENGINE, proximal.ENGINE)
FILES = {engine.kind: engine.files for engine in ENGINES}
"""The files of a saved model of each kind."""
EXPORTED = "model.onnx"


read_stored_model = partial(read_fields, StoredModel)
"""Returns a stored model from its message."""


def list_request(kind: str | None) -> pb.ListStoredModelsRequest:
    """Return the request for the models of a kind, or of all kinds if it is None."""
    with errors.refusals():
        return pb.ListStoredModelsRequest(kind=kind or "")


def get_request(kind: str, name: str) -> pb.GetStoredModelRequest:
    """Return the request for a model."""
    with errors.refusals():
        return pb.GetStoredModelRequest(kind=kind, name=name)


def delete_request(kind: str, name: str) -> pb.DeleteStoredModelRequest:
    """Return the request to delete a model."""
    with errors.refusals():
        return pb.DeleteStoredModelRequest(kind=kind, name=name)


def download_request(kind: str, name: str, format: str) -> pb.DownloadModelRequest:
    """Return the request for the files of a model."""
    with errors.refusals():
        if format not in get_args(Format):
            raise ValueError(f"format must be one of {', '.join(get_args(Format))}, got {format!r}")
        return pb.DownloadModelRequest(kind=kind, name=name, format=FORMATS[format])


def upload_requests(kind: str, folder: str | Path, name: str) -> Callable[[], Iterator[pb.UploadModelRequest]]:
    """Return the messages that store the model of a folder; OSError where a file cannot be read."""
    with errors.refusals():
        if kind not in FILES:
            raise ValueError(f"kind must be one of {', '.join(FILES)}, got {kind!r}")
        check_text("name", name)
    contents = {file: (Path(folder) / file).read_bytes() for file in FILES[kind]}
    files = [pb.ModelFile(name=file, size=len(one), crc32=zlib.crc32(one)) for file, one in contents.items()]
    header = pb.UploadModelHeader(kind=kind, name=name, files=files)
    return partial(_yield_upload, header, tuple(contents.values()))


def _yield_upload(header: pb.UploadModelHeader, contents: tuple[bytes, ...]) -> Iterator[pb.UploadModelRequest]:
    yield pb.UploadModelRequest(header=header)
    for content in contents:
        for start in range(0, len(content), CHUNK_BYTES):
            yield pb.UploadModelRequest(chunk=content[start : start + CHUNK_BYTES])


class Download:
    """Writes the files of a model beside their places as they arrive, and moves them there once all are complete."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._coming: list[pb.ModelFile] | None = None
        self._out: BinaryIO | None = None
        self._left = self._checksum = 0
        self._written: list[tuple[Path, Path]] = []

    def take(self, reply: pb.DownloadModelReply) -> None:
        """Write a reply; InternalError where it is out of place, OSError where it cannot be written."""
        if self._coming is None:
            if not reply.HasField("header"):
                raise errors.InternalError("the server sent no header")
            self._coming = self._expected(reply.header)
            self._folder.mkdir(parents=True, exist_ok=True)
        elif not reply.chunk or not self._coming:
            raise errors.InternalError("the server sent something beside the files that it announced")
        else:
            self._write(reply.chunk)
        while self._coming and self._left == 0:
            if self._out is not None:
                self._close()
            if self._coming and self._out is None:
                self._open(self._coming[0])

    def finished(self) -> tuple[Path, ...]:
        """Move the files to their places and return their paths."""
        if self._coming is None:
            raise errors.InternalError("the server sent no header")
        if self._coming:
            self._abandon()
            raise errors.InternalError(
                f"the server's {self._coming[0].name} is incomplete: {self._left} bytes are missing"
            )
        for part, path in self._written:
            os.replace(part, path)
        return tuple(path for _, path in self._written)

    @staticmethod
    def _expected(header: pb.DownloadModelHeader) -> list[pb.ModelFile]:
        known = {EXPORTED, *(name for names in FILES.values() for name in names)}
        for file in header.files:
            # A path must never come from the other side, neither here nor on the server.
            if file.name not in known:
                raise errors.InternalError(f"the server sent a file of the unknown name {file.name[:80]!r}")
        return list(header.files)

    def _open(self, file: pb.ModelFile) -> None:
        part = self._folder / f"{file.name}.part"
        self._out, self._left, self._checksum = part.open("wb"), file.size, 0
        self._written.append((part, self._folder / file.name))

    def _write(self, chunk: bytes) -> None:
        assert self._out is not None
        self._left -= len(chunk)
        self._checksum = zlib.crc32(chunk, self._checksum)
        if self._left < 0:
            self._damaged()
        self._out.write(chunk)

    def _close(self) -> None:
        assert self._coming
        if self._checksum != self._coming[0].crc32:
            self._damaged()
        if self._out is not None:
            self._out.close()
        self._out = None
        self._coming.pop(0)

    def _damaged(self) -> NoReturn:
        assert self._coming
        self._abandon()
        raise errors.InternalError(f"the server's {self._coming[0].name} is damaged")

    def _abandon(self) -> None:
        if self._out is not None:
            self._out.close()
        for part, _ in self._written:
            with suppress(OSError):
                part.unlink()
