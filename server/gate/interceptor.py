"""The interceptor that every call of every service passes: identity, permission, and the decoding of its messages.

The observers (log, metrics, traces) surround it. A handler of any kind is wrapped as one that streams both ways, so
that everything is read and written here: a message that cannot be parsed, or never arrives, ends in a proper status,
and an unknown caller is refused before anything of its stream is read.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc

from relaxon.server.gate import errors, request_ids
from relaxon.server.gate.access import Gate
from relaxon.server.gate.drain import Drain
from relaxon.server.gate.identity import ANYONE, Caller, acting
from relaxon.wire import chunks

Context = grpc.aio.ServicerContext[Any, Any]
UNKNOWN_METHOD = "unknown"


@dataclass(slots=True)
class Call:
    """A call as the observers see it."""

    method: str
    """The full name of the method; `UNKNOWN_METHOD` for all that are not served, which bounds the number of names."""
    request_id: str
    peer: str
    metadata: Sequence[tuple[str, str | bytes]]
    started: float = field(default_factory=time.monotonic)
    caller: Caller = ANYONE
    received: int = 0
    """Bytes of request messages."""
    sent: int = 0
    """Bytes of response messages."""
    code: grpc.StatusCode = grpc.StatusCode.OK
    """How the call ended; valid once it has."""
    replied: list[Callable[[Any], None]] = field(default_factory=list)
    """Called with each reply before it is sent."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


Observer = Callable[[Call], AbstractContextManager[None]]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Checks, decodes and observes each call.

    `observers` are entered in their order around each call, and left once its status code is known.
    """

    def __init__(self, gate: Gate, drain: Drain, idle_seconds: float, observers: Sequence[Observer] = ()) -> None:
        self._gate = gate
        self._drain = drain
        self._idle_seconds = idle_seconds
        self._observers = tuple(observers)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return a handler that streams both ways, whether or not the method exists."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        metadata = tuple(handler_call_details.invocation_metadata or ())
        call = Call(
            UNKNOWN_METHOD if handler is None else method, request_ids.choose(metadata), peer="", metadata=metadata
        )

        # Without a handler nothing is read or answered.
        read = bytes if handler is None else chunks.make_decoder(handler.request_deserializer)
        write = bytes if handler is None else chunks.make_encoder(handler.response_serializer)

        def decode(raw: bytes) -> Any:
            call.received += len(raw)
            try:
                return read(raw)
            except Exception as error:
                raise errors.invalid("", f"the request cannot be decoded as the expected message: {error}") from None

        def encode(message: Any) -> bytes:
            for callback in call.replied:
                callback(message)
            raw = write(message)
            call.sent += len(raw)
            return raw

        async def handle(requests: Any, context: Context) -> None:
            call.peer = context.peer()
            context.set_trailing_metadata(((request_ids.KEY, call.request_id),))
            with request_ids.handling(call.request_id), ExitStack() as stack:
                for observer in self._observers:
                    stack.enter_context(observer(call))
                try:
                    await errors.report_errors(context, self._admit(call, method, handler, requests, context))
                    call.code = _code(context.code())
                except asyncio.CancelledError:
                    expired = context.time_remaining() == 0
                    call.code = grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED
                    raise
                except grpc.aio.AbortError:
                    call.code = _code(context.code())
                    raise
                except grpc.aio.BaseError:
                    # The caller was gone when the answer was to be sent.
                    call.code = grpc.StatusCode.CANCELLED
                    raise
                except BaseException:
                    call.code = grpc.StatusCode.UNKNOWN
                    raise

        return grpc.stream_stream_rpc_method_handler(handle, decode, encode)

    async def _admit(self, call: Call, method: str, handler: Any, requests: Any, context: Context) -> None:
        with self._drain.call(method):
            call.caller = self._gate.caller(context, method)
            if handler is None:
                raise errors.unimplemented()
            self._gate.admit(call.caller, method)
            with acting(call.caller):
                # Reported here, where the log of an unexpected error can name the caller.
                await errors.report_errors(context, self._answer(handler, requests, context))

    async def _answer(self, handler: Any, requests: Any, context: Context) -> None:
        request = requests if handler.request_streaming else await self._only_request(context)
        behaviour = _behaviour(handler)
        if inspect.isasyncgenfunction(behaviour):
            async for reply in behaviour(request, context):
                await context.write(reply)
            return
        try:
            reply = await behaviour(request, context)
        except NotImplementedError:
            # Generated code raises this for a method that is not implemented.
            if _code(context.code()) is not grpc.StatusCode.UNIMPLEMENTED:
                raise
            raise errors.unimplemented() from None
        if not handler.response_streaming and _code(context.code()) is grpc.StatusCode.OK:
            await context.write(reply)

    async def _only_request(self, context: Context) -> Any:
        """Return the only request message of a call."""
        try:
            async with asyncio.timeout(self._idle_seconds):
                request = await context.read()
        except TimeoutError:
            message = f"the request: nothing was received for {self._idle_seconds:g} seconds"
            raise errors.ServiceError(grpc.StatusCode.DEADLINE_EXCEEDED, message) from None
        if request is grpc.aio.EOF:
            raise errors.invalid("", "one request message must come, got none")
        return request


def _behaviour(handler: Any) -> Any:
    if handler.request_streaming:
        return handler.stream_stream if handler.response_streaming else handler.stream_unary
    return handler.unary_stream if handler.response_streaming else handler.unary_unary


def _code(code: Any) -> grpc.StatusCode:
    """Return the value of `context.code()`, which is None or a number if it has not been set."""
    if isinstance(code, grpc.StatusCode):
        return code
    return next((one for one in grpc.StatusCode if one.value[0] == (code or 0)), grpc.StatusCode.UNKNOWN)
