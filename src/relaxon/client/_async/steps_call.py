"""One `SolveSteps` or `SolveMatrixSteps` call of the asyncio client, which pulls the caller's steps one by one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from typing import Any

from relaxon.client._async.caller import RetryingCaller
from relaxon.client.shared.asyncio_runtime import Outbox, ReplyStream, StepDeadline, iterate, wants_to_stop
from relaxon.core import errors
from relaxon.core.solution import Callback, Progress, Solution
from relaxon.wire.conversions.solution import SolutionReader
from relaxon.wire.conversions.solve import number_refusal
from relaxon.wire.conversions.steps import AHEAD, StepMessages
from relaxon.wire.handover import Handover, Slots

MessagesFor = Callable[[Slots | None], tuple[list[Any], StepMessages]]
"""Gives, for a shared file's places, the first messages of a call and the maker of the others."""


class StepSequence:
    """A sequence of steps, whose solutions are iterated over once; the caller's code runs in the caller's thread."""

    def __init__(
        self,
        caller: RetryingCaller,
        method: Callable[..., Any],
        steps: Iterable[Any] | AsyncIterable[Any],
        callback: Callback | None,
        read_ahead: bool,
        seconds: float,
        arguments: Mapping[str, str] | None = None,
    ) -> None:
        """`seconds` is each step's; `arguments` maps fields of the messages to the names of the caller's arguments."""
        self._caller = caller
        self._method = method
        self._steps = iterate(steps)
        self._callback = callback
        self._most = AHEAD if read_ahead else 1
        self._seconds = seconds
        self._arguments = arguments
        self._waiting: deque[SolutionReader] = deque()
        """The readers of the steps that have been sent and not answered."""
        self._done = 0
        self._refused: errors.InvalidArgument | None = None
        """The mistake in the step after those, raised once they have been answered."""

    async def solutions(self, handover: Handover, messages_for: MessagesFor) -> AsyncGenerator[Solution, None]:
        """Yield the solutions in the order of the steps. The call ends with the iteration, however that ends."""
        # Whatever ends the call early, the server may still be writing the answer of a step.
        with handover.lent(harmless=()) as places:
            first, messages = await asyncio.to_thread(messages_for, places)
            outbox = Outbox(first)
            try:
                async with self._caller.stream(self._method, outbox.messages(), None, self._arguments) as call:
                    with StepDeadline(call, self._seconds) as deadline:
                        more = True
                        while True:
                            while more and len(self._waiting) < self._most:
                                more = await self._send_next(outbox, messages)
                            if not self._waiting:
                                break
                            yield await self._next_solution(call, deadline, outbox, messages)
                            self._caller.owner.check()
                    # The sending side ends, and the server then ends the call. Not before: a cancel may have to go up.
                    outbox.end()
                    async for reply in call:
                        raise errors.InternalError(f"the server sent {reply.WhichOneof('message')} out of turn")
            finally:
                outbox.end()
        if self._refused is not None:
            raise self._refused

    async def _send_next(self, outbox: Outbox, messages: StepMessages) -> bool:
        """Take the caller's next step and send it; return False where there is none that can be sent."""
        try:
            step = await anext(self._steps)
        except StopAsyncIteration:
            return False
        try:
            with errors.refusals():
                sent, reader = await asyncio.to_thread(messages.step, step)
        except errors.InvalidArgument as error:
            self._refused = number_refusal(error, self._done + len(self._waiting))
            return False
        for message in sent:
            outbox.put(message)
        self._waiting.append(reader)
        return True

    async def _next_solution(
        self, call: ReplyStream, deadline: StepDeadline, outbox: Outbox, messages: StepMessages
    ) -> Solution:
        """Return the solution of the step that was sent first."""
        reader = self._waiting[0]
        try:
            async with deadline.step(f"step {self._done} took longer than {self._seconds:g} s"):
                solution = await self._read(call, reader, outbox, messages)
        except errors.InvalidArgument as error:
            raise number_refusal(reader.translate_refusal(error), self._done) from None
        self._waiting.popleft()
        self._done += 1
        return solution

    async def _read(
        self, call: ReplyStream, reader: SolutionReader, outbox: Outbox, messages: StepMessages
    ) -> Solution:
        callback = self._callback
        async for reply in call:
            found = reader.take(reply)
            if isinstance(found, Solution):
                return found
            if isinstance(found, Progress) and callback is not None and await wants_to_stop(callback, found):
                callback = None
                outbox.put(messages.cancel(self._done))
        raise reader.explain_end()
