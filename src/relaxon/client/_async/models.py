"""Stored models as files, for asyncio: listed, downloaded, uploaded to another server, deleted."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from relaxon.client._async.caller import RetryingCaller
from relaxon.client.shared.asyncio_runtime import Channel
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
    read_stored_model,
    upload_requests,
)
from relaxon.wire.ownership import NotPickled


class ModelsClient(NotPickled):
    """The calls of a `relaxon.aio.Client` that move models as files; a model is used by the client of its kind.

    Examples
    --------
    >>> import asyncio
    >>> import tempfile
    >>> import numpy as np
    >>> import relaxon.aio
    >>> from relaxon.client import BoostingSettings
    >>> from relaxon.neuromorphic.boosting import load
    >>> from relaxon.server.app import EmbeddedServer
    >>> X = np.linspace(-2, 2, 200).reshape(-1, 1)
    >>> async def copy_model(target, folder):
    ...     async with relaxon.aio.connect(target) as client:
    ...         settings = BoostingSettings(n_units=3)
    ...         job = await client.boosting.train(X, X[:, 0] ** 2, settings=settings, model="square")
    ...         remote = await client.boosting.predict(await job.result(), X)
    ...         files = await client.models.download("boosting", "square", folder)
    ...         local = load(folder).predict(X)
    ...         copy = await client.models.upload("boosting", folder, name="copy")
    ...         return [path.name for path in files], bool((local == remote).all()), copy.name
    >>> with EmbeddedServer() as server, tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(copy_model(server.target, folder))
    (['model.json', 'network.safetensors'], True, 'copy')
    """

    def __init__(self, channel: Channel, caller: RetryingCaller) -> None:
        self._stub = models_pb2_grpc.ModelServiceStub(channel)
        self._caller = caller

    async def list(self, kind: Kind | None = None) -> tuple[StoredModel, ...]:
        """List the caller's models by kind and name; of one kind where it is given."""
        reply = await self._caller.make(self._stub.ListModels, list_request(kind), idempotent=True)
        return tuple(map(read_stored_model, reply.models))

    async def get(self, kind: Kind, name: str) -> StoredModel:
        """Describe a model; NotFound where there is none of that name."""
        return read_stored_model(await self._caller.make(self._stub.GetModel, get_request(kind, name), idempotent=True))

    async def delete(self, kind: Kind, name: str) -> None:
        """Delete a stored model; NotFound where there is none of that name."""
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
        """Write a model's files into a folder, which is made where it is missing, and return their paths.

        `format` is "stored", which the library's `load` for that kind reads, or "onnx" (boosted networks). A file of
        the same name is replaced once the new one is complete. Raises NotFound, FailedPrecondition for a format that
        the server cannot produce, and OSError where the folder cannot be written to.
        """
        seconds = self._caller.transfer_seconds(timeout)
        request = download_request(kind, name, format)
        return await self._caller.gather(
            self._stub.Download, lambda: request, partial(Download, folder), seconds=seconds
        )

    async def upload(
        self, kind: Kind, folder: str | Path, *, name: str = "", timeout: float | None = None
    ) -> StoredModel:
        """Send the model in a folder, as the library's `save` for that kind writes it, for the server to store.

        `name` is the name under which it is stored; the server makes one up where it is empty. Raises InvalidArgument
        where the folder holds no complete model, AlreadyExists, ResourceExhausted, and OSError where a file cannot be
        read.
        """
        seconds = self._caller.transfer_seconds(timeout)
        requests = await asyncio.to_thread(upload_requests, kind, folder, name)
        return read_stored_model(
            await self._caller.make(self._stub.Upload, requests, idempotent=False, seconds=seconds)
        )
