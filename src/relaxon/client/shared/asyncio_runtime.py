"""What the asyncio client does in its own way: channels, single calls, streams, deadlines, locks and ownership.

`relaxon.client.shared.blocking_runtime` offers the same names to the blocking client, which is generated from the
asyncio one.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, Self, TypeVar

import grpc
import grpc.aio

from relaxon.client.shared.transport import Metadata, Security, channel_options
from relaxon.core import errors
from relaxon.wire.ownership import Owner

Reply = TypeVar("Reply")
Channel = grpc.aio.Channel
Lock = asyncio.Lock
sleep = asyncio.sleep

NOT_SENT = "Internal error from Core"
"""The details that gRPC gives an error when a message could not be sent."""
STATUS_PAUSE_SECONDS, STATUS_PAUSES = 0.01, 100
"""How long, and how often, to wait for the status that such an error replaced: a second in all, far more than gRPC
needs to report a status that has already arrived."""
OTHER_LOOP = (
    "an asyncio client belongs to the event loop that connected it, and this is another one (a second asyncio.run, or "
    "another thread's): connect in each event loop"
)


class Closing(Protocol):
    """Anything that an `async with` statement closes."""

    async def __aexit__(self, *error: Any) -> None: ...


Opened = TypeVar("Opened", bound=Closing)


class Opening(Generic[Opened]):
    """Opens something once: `await` it for the result, or use it in an `async with` statement, which also closes it.

    Nothing happens before that.
    """

    def __init__(self, open_it: Callable[[], Coroutine[Any, Any, Opened]]) -> None:
        self._open = open_it
        self._opened: Opened | None = None

    def __await__(self) -> Generator[Any, None, Opened]:
        return self._open().__await__()

    async def __aenter__(self) -> Opened:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(self, *error: Any) -> None:
        assert self._opened is not None
        await self._opened.__aexit__(*error)


class EventLoopOwner(Owner):
    """The event loop that connected a client, and whether the client has been closed there."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = _running_loop()

    def check(self) -> None:
        """Raise FailedPrecondition in any other process or event loop, and Cancelled after `close`."""
        super().check()
        if self._elsewhere:
            raise errors.FailedPrecondition(OTHER_LOOP)

    def close(self) -> None:
        """Refuse all further calls; raise FailedPrecondition in another event loop while the client's own is open."""
        if self._elsewhere and self._loop is not None and not self._loop.is_closed():
            raise errors.FailedPrecondition(OTHER_LOOP)
        super().close()

    @property
    def _elsewhere(self) -> bool:
        running = _running_loop()
        return self._loop is not None and running is not None and running is not self._loop


def new_owner() -> Owner:
    """Return the owner of a client that is being made: the running event loop."""
    return EventLoopOwner()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def open_channel(target: str, security: Security) -> Channel:
    """Open a channel to `target`, over TLS where `security` asks for it; OSError where a file cannot be read."""
    security.check(target)
    if security.encrypted:
        return grpc.aio.secure_channel(target, security.channel_credentials(), channel_options(target))
    return grpc.aio.insecure_channel(target, channel_options(target))


async def wait_until_ready(channel: Channel, seconds: float) -> None:
    """Return once the server answers; raise TimeoutError after so many seconds."""
    await asyncio.wait_for(channel.channel_ready(), seconds)


class ReplyStream:
    """The replies to a call in progress. Its errors are raised as the client's; leaving the block cancels the call.

    gRPC reports a call that was cut off by the same exception as a cancelled task. Where this task is not being
    cancelled, it is raised as `Cancelled`.
    """

    def __init__(self, call: Any, arguments: Mapping[str, str] | None = None) -> None:
        """`arguments` maps fields of the messages to the names of the caller's arguments."""
        self._call = call
        self._arguments = arguments
        self._process = os.getpid()
        self._status = _SentStatus(call)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        if os.getpid() == self._process:  # in a forked child, the call is the parent's
            self._call.cancel()  # does nothing where the call has ended

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self._wait_for(anext(aiter(self._call)))

    async def reply(self) -> Any:
        """Return the reply of a call that has only one."""
        return await self._wait_for(self._call)

    async def _wait_for(self, reply: Awaitable[Reply]) -> Reply:
        try:
            with errors.translate_errors(self._arguments):
                try:
                    return await reply
                except grpc.aio.AioRpcError as error:
                    raise await self._status.restore(error) from None
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise errors.Cancelled("the call was cut off: the client was closed") from error


async def call_once(
    method: Callable[..., Any],
    request: Any,
    seconds: float | None,
    metadata: Metadata,
    arguments: Mapping[str, str] | None = None,
) -> Any:
    """Make a call that has one reply, and return the reply."""
    async with ReplyStream(method(request, timeout=seconds, metadata=metadata), arguments) as call:
        return await call.reply()


class _SentStatus:
    """The status that the server sent with a call's end.

    Where a server refuses a call while the client is still sending, gRPC's asyncio stack replaces the status that
    arrived by an error about the message that it could not send (https://github.com/grpc/grpc/issues/36066). The status
    is therefore kept when it arrives.
    """

    def __init__(self, call: Any) -> None:
        self._error: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._keep)

    async def restore(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """Return the error that carries the server's status, for one that only says that a message was not sent."""
        if error.details() != NOT_SENT:
            return error
        for _ in range(STATUS_PAUSES):
            if self._error is not None:
                return self._error
            await sleep(STATUS_PAUSE_SECONDS)
        return error

    def _keep(self, call: Any) -> None:
        details = _result_now(call.details())
        if details != NOT_SENT and self._error is None:
            code, first, last = map(_result_now, (call.code(), call.initial_metadata(), call.trailing_metadata()))
            self._error = grpc.aio.AioRpcError(code, first, last, details)


def _result_now(ready: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine that has nothing to wait for, as those of a call that has ended."""
    try:
        ready.send(None)
    except StopIteration as done:
        return done.value
    ready.close()
    return None


async def read_first(call: Any, seconds: float) -> Any:
    """Return the first reply of a raw call, None where it ended without one; TimeoutError after so many seconds."""
    async with asyncio.timeout(seconds):
        reply = await call.read()
    return None if reply is grpc.aio.EOF else reply


def is_open(call: Any) -> bool:
    """Return whether a raw call goes on."""
    return not call.done()


def status_code(call: Any) -> grpc.StatusCode | None:
    """Return how a raw call that has ended did so."""
    code: grpc.StatusCode | None = _result_now(call.code())
    return code


class Outbox:
    """The messages of one call: those known at its start, then those put in while it goes on."""

    def __init__(self, first: Iterable[Any]) -> None:
        self._first = first
        self._later: asyncio.Queue[Any] = asyncio.Queue()

    def put(self, message: Any) -> None:
        """Send a message once all before it have been sent."""
        self._later.put_nowait(message)

    def end(self) -> None:
        """End the sending side after the messages put in so far."""
        self._later.put_nowait(None)

    async def messages(self) -> AsyncIterator[Any]:
        """Yield the messages, for gRPC to send."""
        for message in self._first:
            yield message
        while (message := await self._later.get()) is not None:
            yield message


class StepDeadline:
    """The seconds that the server has for each step of one call."""

    def __init__(self, call: ReplyStream, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    @asynccontextmanager
    async def step(self, late: str) -> AsyncIterator[None]:
        """Raise DeadlineExceeded, with the message `late`, where the block does not end in time."""
        limit = asyncio.timeout(self._seconds)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise errors.DeadlineExceeded(late) from None


async def wants_to_stop(callback: Callable[[Any], object], progress: Any) -> bool:
    """Show progress to a callback, which may be a coroutine function; return whether it asks the solve to stop."""
    answer = callback(progress)
    if inspect.isawaitable(answer):
        answer = await answer
    return answer is True


async def iterate(steps: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    """Yield the items of an iterable of either kind."""
    if isinstance(steps, AsyncIterable):
        async for step in steps:
            yield step
    else:
        for step in steps:
            yield step
