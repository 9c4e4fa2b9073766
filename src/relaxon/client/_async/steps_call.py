"""One `SolveSteps` or `SolveMatrixSteps` call of the asyncio client: steps are pulled from the caller's iterable as the
server gets on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from relaxon.client._async.caller import Caller, called
from relaxon.client._async.solve_call import stopped
from relaxon.core import errors
from relaxon.core.solution import Callback, Progress, Solution
from relaxon.wire.conversions.solution import SolutionReader
from relaxon.wire.conversions.solve import numbered
from relaxon.wire.conversions.steps import AHEAD, StepMessages
from relaxon.wire.handover import Handover, Places

Outbox = asyncio.Queue[Any]


async def solutions(
    caller: Caller,
    method: Callable[..., Any],
    handover: Handover,
    messages_for: Callable[[Places | None], tuple[list[Any], StepMessages]],
    steps: Iterable[Any] | AsyncIterable[Any],
    callback: Callback | None,
    read_ahead: bool,
    seconds: float,
    arguments: Mapping[str, str] | None = None,
) -> AsyncGenerator[Solution, None]:
    """The solutions, in the steps' order; `messages_for` a shared file's places gives the first messages and the
    maker of the others. The call ends with the iteration, however that ends. `arguments` are what the messages' fields
    are called here."""
    outbox: Outbox = asyncio.Queue()
    pulled = _each(steps)
    waiting: deque[SolutionReader] = deque()
    done, most = 0, AHEAD if read_ahead else 1
    more: bool | errors.InvalidArgument = True
    """Or what is wrong with the step after those that are waited for."""
    # Whatever ends it early, the server may still be writing the answer of a step.
    with handover.lent(harmless=()) as places:
        first, messages = await asyncio.to_thread(messages_for, places)
        for message in first:
            outbox.put_nowait(message)
        try:
            async with called(caller.begun(method, _taken(outbox), None), arguments) as call:
                while True:
                    while more is True and len(waiting) < most:
                        try:
                            step = await anext(pulled)
                        except StopAsyncIteration:
                            more = False
                            break
                        try:
                            waiting.append(await _sent(outbox, messages, step))
                        except errors.InvalidArgument as error:
                            more = numbered(error, done + len(waiting))
                    if not waiting:
                        break
                    solution = await _answer(call, waiting[0], callback, outbox, messages, done, seconds)
                    waiting.popleft()
                    done += 1
                    yield solution
                    caller.owner.check()
                # The sending side ends, after which the server ends the call. Not before: a cancel may have to go up.
                outbox.put_nowait(None)
                async for reply in call:
                    raise errors.InternalError(f"the server sent {reply.WhichOneof('message')} out of turn")
        except errors.InvalidArgument as error:
            raise numbered(waiting[0].refused(error) if waiting else error, done) from None
        finally:
            outbox.put_nowait(None)
    if isinstance(more, errors.InvalidArgument):
        raise more


async def _each(steps: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(steps, AsyncIterable):
        async for step in steps:
            yield step
    else:
        for step in steps:
            yield step


async def _taken(outbox: Outbox) -> AsyncIterator[Any]:
    while (message := await outbox.get()) is not None:
        yield message


async def _sent(outbox: Outbox, messages: StepMessages, step: Any) -> SolutionReader:
    """Send a step; what reads its replies."""
    with errors.refusals():
        found, reader = await asyncio.to_thread(messages.step, step)
    for message in found:
        outbox.put_nowait(message)
    return reader


async def _answer(
    call: Any,
    reader: SolutionReader,
    callback: Callback | None,
    outbox: Outbox,
    messages: StepMessages,
    number: int,
    seconds: float,
) -> Solution:
    """The solution of the step that waits for longest."""
    try:
        async with asyncio.timeout(seconds):
            async for reply in call:
                found = reader.take(reply)
                if isinstance(found, Solution):
                    return found
                if isinstance(found, Progress) and callback is not None and await stopped(callback, found):
                    callback = None
                    outbox.put_nowait(messages.cancel(number))
    except TimeoutError:
        raise errors.DeadlineExceeded(f"step {number} took longer than {seconds:g} s") from None
    raise reader.ended()
