"""The loop in which an asyncio client makes its calls: timeouts, repeats, errors."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc
import grpc.aio

from relaxon.client._async.ownership import Owner
from relaxon.client._sync.caller import Collector, Timeouts
from relaxon.client.shared.retries import Retries
from relaxon.core import errors

Reply = TypeVar("Reply")
Gathered = TypeVar("Gathered")
UNSENT = "Internal error from Core"
"""What the details of a call's error are where a message could not be sent."""
STATUS_PAUSE_SECONDS, STATUS_PAUSES = 0.01, 100


class Caller(Timeouts):
    """Makes calls and awaits them; used by several tasks of one event loop."""

    def __init__(
        self, timeout: float, transfer_timeout: float, retries: Retries, metadata: tuple[tuple[str, str], ...]
    ) -> None:
        """`metadata` goes with every call."""
        super().__init__(timeout, transfer_timeout, retries, Owner())
        self._metadata = metadata

    def begun(self, method: Callable[..., Any], request: Any, seconds: float | None) -> Any:
        """A call that is under way."""
        return method(request, timeout=seconds, metadata=self._metadata)

    async def make(
        self,
        method: Callable[..., Awaitable[Reply]],
        request: Any,
        *,
        idempotent: bool,
        seconds: float | None = None,
        arguments: Mapping[str, str] | None = None,
        repeated: bool = True,
        patient: bool = False,
    ) -> Reply:
        """A call with one reply.

        `request` is a message, or gives the messages anew for each attempt. `arguments` are what the messages' fields
        are called here. `repeated` False makes the call once; `patient` waits for a server that is away.
        """
        attempts = self.attempts(seconds, repeated, patient)
        while True:
            try:
                sent = request() if callable(request) else request
                async with called(self.begun(method, sent, attempts.left()), arguments) as call:
                    reply: Reply = await call
                    return reply
            except errors.RelaxonError as error:
                wait = attempts.wait_after(error, idempotent)
                if wait is None:
                    raise
            await asyncio.sleep(wait)

    async def delete(self, method: Callable[..., Awaitable[object]], request: Any, *, repeated: bool = True) -> None:
        """A call that deletes. What is not there after an attempt whose answer was lost was deleted by it."""
        attempts = self.attempts(None, repeated)
        while True:
            try:
                async with called(self.begun(method, request, attempts.left())) as call:
                    await call
                return
            except errors.RelaxonError as error:
                if attempts.failed and isinstance(error, errors.NotFound):
                    return
                wait = attempts.wait_after(error, idempotent=True)
                if wait is None:
                    raise
            await asyncio.sleep(wait)

    async def gather(
        self,
        method: Callable[..., Any],
        requests: Callable[[], Any],
        collector: Callable[[], Collector[Gathered]],
        *,
        seconds: float,
        arguments: Mapping[str, str] | None = None,
    ) -> Gathered:
        """A call that does no harm when made twice, with an answer of several messages."""
        attempts = self.attempts(seconds)
        while True:
            gathered = collector()
            try:
                async with called(self.begun(method, requests(), attempts.left()), arguments) as call:
                    async for reply in call:
                        gathered.take(reply)
                return gathered.finished()
            except errors.RelaxonError as error:
                wait = attempts.wait_after(error, idempotent=True)
                if wait is None:
                    raise
            await asyncio.sleep(wait)

    async def follow(self, method: Callable[..., Any], request: Callable[[int], Any]) -> AsyncIterator[Any]:
        """Replies for as long as they come; `request` is told how many it can leave out."""
        attempts = self.following()
        came = 0
        while True:
            try:
                async with called(self.begun(method, request(came), None)) as call:
                    async for reply in call:
                        came += 1
                        attempts.succeeded()
                        yield reply
                        self.owner.check()
                return
            except errors.RelaxonError as error:
                wait = attempts.wait_after(error, idempotent=True)
                if wait is None:
                    raise
            await asyncio.sleep(wait)


@asynccontextmanager
async def called(call: Any, arguments: Mapping[str, str] | None = None) -> AsyncIterator[Any]:
    """The block in which a call's replies are awaited: its gRPC errors are raised as the client's, and a call that is
    left early is cut off.

    gRPC tells of a call that was cut off as it tells of a task that is cancelled: what is no cancelling of this task
    is raised as `Cancelled`.
    """
    process, told = os.getpid(), _Told(call)
    try:
        with errors.translated(arguments):
            try:
                yield call
            except grpc.aio.AioRpcError as error:
                raise await told.instead_of(error) from None
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise errors.Cancelled("the call was cut off: the client was closed") from error
    finally:
        if os.getpid() == process:  # in a forked child it is the parent's
            call.cancel()  # does nothing where the call has ended


class _Told:
    """The status that the server sent.

    Where a server refuses while the client still sends, gRPC's asyncio stack puts the message that it could not send
    in the place of the status that had come (https://github.com/grpc/grpc/issues/36066). So it is kept as it comes.
    """

    def __init__(self, call: Any) -> None:
        self._error: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._keep)

    async def instead_of(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """The error of that status, in the place of one that only says that something could not be sent."""
        if error.details() != UNSENT:
            return error
        for _ in range(STATUS_PAUSES):
            if self._error is not None:
                return self._error
            await asyncio.sleep(STATUS_PAUSE_SECONDS)
        return error

    def _keep(self, call: Any) -> None:
        details = at_once(call.details())
        if details != UNSENT and self._error is None:
            code, first, last = map(at_once, (call.code(), call.initial_metadata(), call.trailing_metadata()))
            self._error = grpc.aio.AioRpcError(code, first, last, details)


def at_once(ready: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives that has nothing to wait for: that of a call that has its status."""
    try:
        ready.send(None)
    except StopIteration as done:
        return done.value
    ready.close()
    return None
