"""Stored models as files: listed, brought here, taken to another server, deleted."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import grpc

from relaxon.client import errors
from relaxon.client.jobs import stream
from relaxon.proto import models_pb2 as pb
from relaxon.proto import models_pb2_grpc
from relaxon.proto.tensors import CHUNK_BYTES
from relaxon.solvers import validation

Kind = Literal["boosting", "equilibrium"]
Format = Literal["stored", "onnx"]
FORMATS = {"stored": pb.MODEL_FORMAT_STORED, "onnx": pb.MODEL_FORMAT_ONNX}


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model on the server, whatever its kind."""

    kind: str
    name: str
    created: datetime
    size: int
    """Bytes of its files."""
    owner: str
    """The caller who made it; empty where the server asks nobody who they are."""


class ModelsClient:
    """The calls of a `Client` that take models as files. What a model can do is in the client of its kind.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import relaxon
    >>> from relaxon.client import BoostingSettings
    >>> from relaxon.neuromorphic.boosting import load
    >>> from relaxon.server.app import EmbeddedServer
    >>> X = np.linspace(-2, 2, 200).reshape(-1, 1)
    >>> with EmbeddedServer() as server, relaxon.connect(server.target) as client:
    ...     job = client.boosting.train(X, X[:, 0] ** 2, settings=BoostingSettings(n_units=3), model="square")
    ...     there = client.boosting.predict(job.result(), X)
    ...     with tempfile.TemporaryDirectory() as folder:
    ...         files = client.models.download("boosting", "square", folder)
    ...         here = load(folder).predict(X)
    ...         copy = client.models.upload("boosting", folder, name="copy")
    ...     [path.name for path in files], bool((here == there).all()), copy.name
    (['model.json', 'network.safetensors'], True, 'copy')
    """

    def __init__(self, channel: grpc.Channel, timeout: float, transfer_timeout: float) -> None:
        self._stub = models_pb2_grpc.ModelServiceStub(channel)
        self._timeout = timeout
        self._transfer_timeout = transfer_timeout

    def list(self, kind: Kind | None = None) -> tuple[StoredModel, ...]:
        """The caller's models by kind and name, of one kind where it is given."""
        with errors.translated():
            reply = self._stub.ListModels(pb.ListStoredModelsRequest(kind=kind or ""), timeout=self._timeout)
        return tuple(map(_told, reply.models))

    def get(self, kind: Kind, name: str) -> StoredModel:
        """A model; NotFound where there is none of that name."""
        with errors.refusals():
            request = pb.GetStoredModelRequest(kind=kind, name=name)
        with errors.translated():
            return _told(self._stub.GetModel(request, timeout=self._timeout))

    def delete(self, kind: Kind, name: str) -> None:
        """Have the server delete a model; NotFound where there is none of that name."""
        with errors.refusals():
            request = pb.DeleteStoredModelRequest(kind=kind, name=name)
        with errors.translated():
            self._stub.DeleteModel(request, timeout=self._timeout)

    def download(
        self,
        kind: Kind,
        name: str,
        folder: str | Path,
        *,
        format: Format = "stored",
        timeout: float | None = None,
    ) -> tuple[Path, ...]:
        """Write a model's files into a folder, made where missing, and say which.

        `format` is "stored", which the library's own `load` of the kind reads, or "onnx" (boosted networks). A file of
        the same name is replaced once the new one is complete. Raises NotFound, FailedPrecondition for a format that
        the server cannot make, OSError where the folder cannot be written to.
        """
        with errors.refusals():
            if format not in get_args(Format):
                raise ValueError(f"format must be one of {', '.join(get_args(Format))}, got {format!r}")
            request = pb.DownloadModelRequest(kind=kind, name=name, format=FORMATS[format])
            seconds = self._transfer_timeout if timeout is None else validation.positive_float("timeout", timeout)
        folder = Path(folder)
        with errors.translated():
            replies = stream(self._stub.Download(request, timeout=seconds))
            header = _first(replies)
            folder.mkdir(parents=True, exist_ok=True)
            written = [_receive(file, replies, folder) for file in header.files]
        for part, path in written:
            os.replace(part, path)
        return tuple(path for _, path in written)

    def upload(self, kind: Kind, folder: str | Path, *, name: str = "", timeout: float | None = None) -> StoredModel:
        """Send the model in a folder, as the library's own `save` of the kind writes it, and have the server store it.

        `name` is the name to store it under; the server makes one up where it is empty. Raises InvalidArgument for what
        is no whole model, AlreadyExists, ResourceExhausted, OSError where a file cannot be read.
        """
        with errors.refusals():
            seconds = self._transfer_timeout if timeout is None else validation.positive_float("timeout", timeout)
            if kind not in FILES:
                raise ValueError(f"kind must be one of {', '.join(FILES)}, got {kind!r}")
            if not isinstance(name, str):
                raise TypeError(f"name must be a string, got {type(name).__name__}")
        contents = {file: (Path(folder) / file).read_bytes() for file in FILES[kind]}
        files = [pb.ModelFile(name=file, size=len(one), crc32=zlib.crc32(one)) for file, one in contents.items()]

        def requests() -> Iterator[pb.UploadModelRequest]:
            yield pb.UploadModelRequest(header=pb.UploadModelHeader(kind=kind, name=name, files=files))
            for content in contents.values():
                for start in range(0, len(content), CHUNK_BYTES):
                    yield pb.UploadModelRequest(chunk=content[start : start + CHUNK_BYTES])

        with errors.translated():
            return _told(self._stub.Upload(requests(), timeout=seconds))


FILES: dict[str, tuple[str, ...]] = {
    "boosting": ("model.json", "network.safetensors"),
    "equilibrium": ("network.json", "network.safetensors"),
}
"""What a saved model of each kind consists of."""
EXPORTED = "model.onnx"


def _first(replies: Iterator[pb.DownloadModelReply]) -> pb.DownloadModelHeader:
    reply = next(replies, None)
    if reply is None or not reply.HasField("header"):
        raise errors.InternalError("the server sent no header")
    expected = {EXPORTED, *(name for names in FILES.values() for name in names)}
    for file in reply.header.files:
        # A path must not come from the other side, here as little as there.
        if file.name not in expected:
            raise errors.InternalError(f"the server sent a file of the unknown name {file.name[:80]!r}")
    return reply.header


def _receive(file: pb.ModelFile, replies: Iterator[pb.DownloadModelReply], folder: Path) -> tuple[Path, Path]:
    """Write a file beside its place, whole; where it is and where it belongs."""
    part = folder / f"{file.name}.part"
    left, checksum = file.size, 0
    with part.open("wb") as out:
        while left > 0:
            reply = next(replies, None)
            if reply is None or not reply.chunk:
                raise errors.InternalError(f"the server's {file.name} is incomplete: {left} bytes are missing")
            left -= len(reply.chunk)
            checksum = zlib.crc32(reply.chunk, checksum)
            out.write(reply.chunk)
    if left or checksum != file.crc32:
        raise errors.InternalError(f"the server's {file.name} is damaged")
    return part, folder / file.name


def _told(message: pb.StoredModel) -> StoredModel:
    return StoredModel(message.kind, message.name, message.create_time.ToDatetime(UTC), message.size, message.owner)
