"""Reads a call's request messages: the header, then arrays part by part, each in its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from numpy.typing import NDArray

from relaxon.server.gate import errors
from relaxon.server.gate.announced import AnnouncedArray, refusing
from relaxon.wire import tensors
from relaxon.wire.shared_memory import SharedFile


class Upload:
    """The request stream of one call, whose messages hold one of several things in a oneof `message`.

    Every reading raises INVALID_ARGUMENT, naming the argument, where something else comes than has to come now,
    and DEADLINE_EXCEEDED where nothing comes for `idle_seconds`.
    """

    def __init__(
        self,
        context: grpc.aio.ServicerContext[Any, Any],
        idle_seconds: float,
        aside: Callable[[Any], bool] | None = None,
    ) -> None:
        """`aside` is shown every message; where it says True it has dealt with that, which may come at any time."""
        self._context = context
        self._idle_seconds = idle_seconds
        self._aside = aside

    def close(self) -> None:
        """Let go of what deals with messages, which may hold this."""
        self._aside = None

    async def header(self) -> Any:
        """The `header` that a stream starts with."""
        message = await self._read("header")
        kind = _kind(message)
        if message is None or kind != "header":
            raise errors.invalid("header", f"header must come first, got {kind}")
        return message.header

    async def next(self, kind: str) -> Any:
        """What a message of that kind holds, which may be long in coming; None where the stream ends instead."""
        message = await self._next()
        if message is None:
            return None
        if _kind(message) != kind:
            raise errors.invalid(kind, f"{kind} must come next, got {_kind(message)}")
        return getattr(message, kind)

    async def array(self, kind: str, expected: AnnouncedArray, shared: SharedFile | None = None) -> NDArray[Any]:
        """The announced array, whose parts come next in messages that hold `kind`, or which lies in `shared`."""
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

    async def side(self, header: Any, expected: AnnouncedArray, shared: SharedFile | None) -> NDArray[Any]:
        """The announced `b`: where the header says that it lies in the shared file, or as `array`."""
        if not header.HasField("shared_b"):
            return await self.array("b", expected, shared)
        incoming = tensors.Assembler(expected.name, expected.dtype, expected.shape)
        with refusing():
            incoming.take(tensors.shared_part(header.shared_b), shared)
        return incoming.array()

    async def chunk(self, name: str) -> bytes:
        """The bytes of the next message, which has to hold a `chunk` of `name`."""
        message = await self._read(name)
        if message is None or _kind(message) != "chunk":
            raise errors.invalid(name, f"{name} must be complete before {_kind(message)} comes")
        if not message.chunk:
            raise errors.invalid(name, f"{name} has an empty chunk")
        return bytes(message.chunk)

    async def end(self) -> None:
        """The end of the stream."""
        message = await self._read("the end of the stream")
        if message is not None:
            raise _surplus(message)

    async def cancelled(self) -> bool:
        """Waits, as long as it takes, for a `cancel` (true) or the end of the stream (false)."""
        message = await self._context.read()
        if message is grpc.aio.EOF:
            return False
        if _kind(message) != "cancel":
            raise _surplus(message)
        return True

    async def _read(self, awaited: str) -> Any:
        """The next message, which comes soon; None at the end of the stream."""
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


def _surplus(message: Any) -> errors.ServiceError:
    kind = _kind(message)
    return errors.invalid(kind, f"{kind} came after all announced arrays were complete")
