"""The request messages of a call: the header, then the arrays part by part, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import grpc
from numpy.typing import NDArray

from relaxon.server.gate import errors
from relaxon.server.gate.errors import refusing
from relaxon.wire import tensors
from relaxon.wire.shared_memory import SharedFile
from relaxon.wire.tensors import AnnouncedArray


class Upload:
    """The request stream of one call, whose messages hold one of several fields in a oneof `message`.

    Every read raises INVALID_ARGUMENT, naming the argument, if something else arrives than what has to come next, and
    DEADLINE_EXCEEDED if nothing arrives for `idle_seconds`.
    """

    def __init__(
        self,
        context: grpc.aio.ServicerContext[Any, Any],
        idle_seconds: float,
        aside: Callable[[Any], bool] | None = None,
    ) -> None:
        """`aside` sees every message first, and returns True if it has handled it. Such a message may come any time."""
        self._context = context
        self._idle_seconds = idle_seconds
        self._aside = aside

    def close(self) -> None:
        """Release `aside`, which may reference this object."""
        self._aside = None

    async def header(self) -> Any:
        """Read the `header` that a stream starts with."""
        message = await self._read("header")
        kind = _kind(message)
        if message is None or kind != "header":
            raise errors.invalid("header", f"header must come first, got {kind}")
        return message.header

    async def next(self, kind: str) -> Any:
        """Wait without a time limit for a message of a kind, and return its content; None if the stream ends."""
        message = await self._next()
        if message is None:
            return None
        if _kind(message) != kind:
            raise errors.invalid(kind, f"{kind} must come next, got {_kind(message)}")
        return getattr(message, kind)

    async def array(self, kind: str, expected: AnnouncedArray, shared: SharedFile | None = None) -> NDArray[Any]:
        """Read an announced array, whose parts come next in messages that hold `kind`, or which lies in `shared`."""
        name = expected.name
        incoming = tensors.Assembler(name, expected.dtype, expected.shape)
        with refusing():
            while not incoming.complete:
                message = await self._read(name)
                if message is None:
                    raise incoming.truncated()
                if _kind(message) != kind:
                    raise tensors.TensorError(name, f"must be complete before {_kind(message)} comes")
                incoming.take(getattr(message, kind), shared)
        return incoming.array()

    async def arrays(self, parts: Iterable[tuple[str, AnnouncedArray]]) -> list[NDArray[Any]]:
        """Read announced arrays, each with the field of the messages that carry it."""
        return [await self.array(kind, expected) for kind, expected in parts]

    async def side(self, header: Any, expected: AnnouncedArray, shared: SharedFile | None) -> NDArray[Any]:
        """Read the announced `b`: from the shared file if the header says so, otherwise as `array` does."""
        if not header.HasField("shared_b"):
            return await self.array("b", expected, shared)
        incoming = tensors.Assembler(expected.name, expected.dtype, expected.shape)
        with refusing():
            incoming.take(tensors.make_shared_part(header.shared_b), shared)
        return incoming.array()

    async def chunk(self, name: str) -> bytes:
        """Read the bytes of the next message, which has to hold a `chunk` of `name`."""
        message = await self._read(name)
        if message is None or _kind(message) != "chunk":
            raise errors.invalid(name, f"{name} must be complete before {_kind(message)} comes")
        if not message.chunk:
            raise errors.invalid(name, f"{name} has an empty chunk")
        return bytes(message.chunk)

    async def end(self) -> None:
        """Read the end of the stream."""
        message = await self._read("the end of the stream")
        if message is not None:
            raise _refuse_surplus(message)

    async def cancelled(self) -> bool:
        """Wait, without a time limit, and return True for a `cancel`, False for the end of the stream."""
        message = await self._context.read()
        if message is grpc.aio.EOF:
            return False
        if _kind(message) != "cancel":
            raise _refuse_surplus(message)
        return True

    async def _read(self, awaited: str) -> Any:
        """Return the next message within `idle_seconds`; None at the end of the stream."""
        try:
            async with asyncio.timeout(self._idle_seconds):
                return await self._next()
        except TimeoutError:
            raise errors.ServiceError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"{awaited}: nothing was received for {self._idle_seconds:g} seconds",
            ) from None

    async def _next(self) -> Any:
        while True:
            message = await self._context.read()
            if message is grpc.aio.EOF:
                return None
            if self._aside is None or not self._aside(message):
                return message


def _kind(message: Any) -> str:
    if message is None:
        return "the end of the stream"
    return message.WhichOneof("message") or "an empty message"


def _refuse_surplus(message: Any) -> errors.ServiceError:
    kind = _kind(message)
    return errors.invalid(kind, f"{kind} came after all announced arrays were complete")
