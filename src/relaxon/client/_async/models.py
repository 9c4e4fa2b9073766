"""Stored models as files, for asyncio: listed, brought here, taken to another server, deleted."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import grpc.aio

from relaxon.client._async.caller import Caller
from relaxon.proto import models_pb2_grpc
from relaxon.wire.conversions.models import (
    Download,
    Format,
    Kind,
    StoredModel,
    delete_request,
    download_request,
    get_request,
    list_request,
    told,
    upload_requests,
)
from relaxon.wire.ownership import NotPickled


class ModelsClient(NotPickled):
    """The calls of a `relaxon.aio.Client` that take models as files; what one can do is in the client of its kind."""

    def __init__(self, channel: grpc.aio.Channel, caller: Caller) -> None:
        self._stub = models_pb2_grpc.ModelServiceStub(channel)
        self._caller = caller

    async def list(self, kind: Kind | None = None) -> tuple[StoredModel, ...]:
        """The caller's models by kind and name, of one kind where it is given."""
        reply = await self._caller.make(self._stub.ListModels, list_request(kind), idempotent=True)
        return tuple(map(told, reply.models))

    async def get(self, kind: Kind, name: str) -> StoredModel:
        """A model; NotFound where there is none of that name."""
        return told(await self._caller.make(self._stub.GetModel, get_request(kind, name), idempotent=True))

    async def delete(self, kind: Kind, name: str) -> None:
        """Have the server delete a model; NotFound where there is none of that name."""
        await self._caller.delete(self._stub.DeleteModel, delete_request(kind, name))

    async def download(
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
        seconds = self._caller.transfer_seconds(timeout)
        request = download_request(kind, name, format)
        return await self._caller.gather(
            self._stub.Download, lambda: request, partial(Download, folder), seconds=seconds
        )

    async def upload(
        self, kind: Kind, folder: str | Path, *, name: str = "", timeout: float | None = None
    ) -> StoredModel:
        """Send the model in a folder, as the library's own `save` of the kind writes it, and have the server store it.

        `name` is the name to store it under; the server makes one up where it is empty. Raises InvalidArgument for what
        is no whole model, AlreadyExists, ResourceExhausted, OSError where a file cannot be read.
        """
        seconds = self._caller.transfer_seconds(timeout)
        requests = await asyncio.to_thread(upload_requests, kind, folder, name)
        return told(await self._caller.make(self._stub.Upload, requests, idempotent=False, seconds=seconds))
