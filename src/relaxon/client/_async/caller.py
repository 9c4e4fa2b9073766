"""How the asyncio client makes its calls: with deadlines, retries and this package's errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from relaxon.client.shared.asyncio_runtime import ReplyStream, call_once, new_owner, sleep
from relaxon.client.shared.retries import NO_RETRIES, Attempts, Timeouts
from relaxon.client.shared.transport import Metadata
from relaxon.core import errors, validation

Reply = TypeVar("Reply")
Gathered_co = TypeVar("Gathered_co", covariant=True)
Gathered = TypeVar("Gathered")


class Collector(Protocol[Gathered_co]):
    """Assembles an answer of several messages."""

    def take(self, reply: Any) -> None: ...

    def finished(self) -> Gathered_co: ...


class RetryingCaller:
    """Makes calls, and repeats those that failed where that is safe; used by several tasks of one event loop."""

    def __init__(self, timeouts: Timeouts, metadata: Metadata = ()) -> None:
        """`metadata` is sent with every call."""
        self.owner = new_owner()
        """Decides whether calls may be made at all."""
        self.timeout = timeouts.timeout
        self._timeouts = timeouts
        self._metadata = metadata

    def transfer_seconds(self, timeout: float | None) -> float:
        """Return the seconds for a call that moves arrays: `timeout`, or the client's where it is None.

        Raises InvalidArgument for a bad `timeout`, and as `Owner.check` before that.
        """
        self.owner.check()
        with errors.refusals():
            return self._timeouts.transfer if timeout is None else validation.positive_float("timeout", timeout)

    def attempts(self, seconds: float | None, repeated: bool = True, patient: bool = False) -> Attempts:
        """Return the attempts at one call; raises as `Owner.check`.

        `seconds` is None for a call that moves no arrays. `patient` waits for a server that is away, as for calls on
        jobs.
        """
        self.owner.check()
        return Attempts(
            self._timeouts.retries if repeated else NO_RETRIES,
            self.timeout if seconds is None else seconds,
            patience=self.timeout if patient else None,
        )

    def begin(self, method: Callable[..., Any], request: Any, seconds: float | None) -> Any:
        """Begin a call whose replies are read one by one, and return gRPC's own object for it."""
        return method(request, timeout=seconds, metadata=self._metadata)

    def stream(
        self,
        method: Callable[..., Any],
        request: Any,
        seconds: float | None,
        arguments: Mapping[str, str] | None = None,
    ) -> ReplyStream:
        """Begin a call whose replies are read one by one, in an `async with` statement."""
        return ReplyStream(self.begin(method, request, seconds), arguments)

    async def repeat(
        self, attempts: Attempts, attempt: Callable[[float | None], Awaitable[Reply]], *, idempotent: bool = True
    ) -> Reply:
        """Return what an attempt gives, with as many of them as it takes and may; each gets the seconds left."""
        while True:
            try:
                return await attempt(attempts.left())
            except errors.RelaxonError as error:
                wait = attempts.wait_after(error, idempotent)
                if wait is None:
                    raise
            await sleep(wait)

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
        """Make a call that has one reply.

        `request` is a message, or a function that gives the messages anew for each attempt. `arguments` maps fields of
        the messages to the names of the caller's arguments. With `repeated` False the call is made once; `patient`
        waits for a server that is away.
        """

        async def attempt(left: float | None) -> Reply:
            sent = request() if callable(request) else request
            reply: Reply = await call_once(method, sent, left, self._metadata, arguments)
            return reply

        return await self.repeat(self.attempts(seconds, repeated, patient), attempt, idempotent=idempotent)

    async def delete(self, method: Callable[..., Awaitable[object]], request: Any, *, repeated: bool = True) -> None:
        """Make a call that deletes something; where an attempt's answer was lost, it may have done so."""
        attempts = self.attempts(None, repeated)

        async def attempt(left: float | None) -> None:
            try:
                await call_once(method, request, left, self._metadata)
            except errors.NotFound:
                if not attempts.failed:
                    raise

        await self.repeat(attempts, attempt)

    async def gather(
        self,
        method: Callable[..., Any],
        requests: Callable[[], Any],
        new_collector: Callable[[], Collector[Gathered]],
        *,
        seconds: float,
        arguments: Mapping[str, str] | None = None,
    ) -> Gathered:
        """Make a call that is safe to repeat and is answered by several messages, and return the answer."""

        async def attempt(left: float | None) -> Gathered:
            collector = new_collector()
            async with self.stream(method, requests(), left, arguments) as call:
                async for reply in call:
                    collector.take(reply)
            return collector.finished()

        return await self.repeat(self.attempts(seconds), attempt)

    async def follow(self, method: Callable[..., Any], request: Callable[[int], Any]) -> AsyncIterator[Any]:
        """Yield a job's replies for as long as they come; `request` gets the number of those that have come."""
        self.owner.check()
        attempts = Attempts(self._timeouts.retries, None, patience=self.timeout)
        came = 0
        while True:
            try:
                async with self.stream(method, request(came), None) as call:
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
            await sleep(wait)
