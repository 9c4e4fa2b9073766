"""The loop in which an asyncio client makes its calls: timeouts, repeats, errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from relaxon.client import errors
from relaxon.client.caller import Collector, Timeouts
from relaxon.client.retries import Attempts

Reply = TypeVar("Reply")
Gathered = TypeVar("Gathered")


class Caller(Timeouts):
    """Makes calls and awaits them; used by several tasks of one event loop."""

    async def make(
        self,
        method: Callable[..., Awaitable[Reply]],
        request: Any,
        *,
        idempotent: bool,
        seconds: float | None = None,
        arguments: Mapping[str, str] | None = None,
        repeated: bool = True,
    ) -> Reply:
        """A call with one reply.

        `request` is a message, or gives the messages anew for each attempt. `arguments` are what the messages' fields
        are called here. `repeated` False makes the call once.
        """
        attempts = self.attempts(seconds, repeated)
        while True:
            try:
                with translated(arguments):
                    return await method(request() if callable(request) else request, timeout=attempts.left())
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
                with translated():
                    await method(request, timeout=attempts.left())
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
        requests: Callable[[], Iterable[Any]],
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
                with translated(arguments):
                    async for reply in stream(method(requests(), timeout=attempts.left())):
                        gathered.take(reply)
                return gathered.finished()
            except errors.RelaxonError as error:
                wait = attempts.wait_after(error, idempotent=True)
                if wait is None:
                    raise
            await asyncio.sleep(wait)

    async def follow(self, method: Callable[..., Any], request: Callable[[int], Any]) -> AsyncIterator[Any]:
        """Replies for as long as they come; `request` is told how many it can leave out."""
        attempts = Attempts(self.retries, None)
        came = 0
        while True:
            try:
                with translated():
                    async for reply in stream(method(request(came))):
                        came += 1
                        attempts.succeeded()
                        yield reply
                return
            except errors.RelaxonError as error:
                wait = attempts.wait_after(error, idempotent=True)
                if wait is None:
                    raise
            await asyncio.sleep(wait)


async def stream(call: Any) -> AsyncIterator[Any]:
    """A stream of replies, which is cut off where its reader leaves."""
    try:
        async for reply in call:
            yield reply
    finally:
        call.cancel()


@contextmanager
def translated(arguments: Mapping[str, str] | None = None) -> Iterator[None]:
    """As `errors.translated`. gRPC tells of a call that was cut off as it tells of a task that is cancelled: what is
    no cancelling of this task is raised as `Cancelled`."""
    try:
        with errors.translated(arguments):
            yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise errors.Cancelled("the call was cut off: the client was closed") from error
