"""One `Solve` call of the asyncio client: the arrays go up, progress comes back, then the solution."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

from relaxon.client._async.caller import Caller, called
from relaxon.client._sync.solve_call import Answer, Attemptable
from relaxon.core import errors
from relaxon.core.solution import Progress
from relaxon.wire.arrays import Wire
from relaxon.wire.handover import Places


async def solve(
    caller: Caller,
    method: Callable[..., Any],
    request: Attemptable[Answer],
    callback: Callable[[Any], object] | None,
    places: Places | None,
    timeout: float | None,
    wire: Wire,
) -> Answer:
    """Make the call; what cancels the task, and an exception in the callback, ends the solve on the server.

    `places` of the shared file are this call's alone: the arrays pass through them where they can.
    """
    wish: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    # Copying the arrays into the shared file would hold up the event loop.
    messages, reader = await asyncio.to_thread(request.attempt, places)
    answer = None
    begin = partial(method, compression=wire.outgoing)
    try:
        async with called(caller.begun(begin, _requests(messages, request.cancel, wish), timeout)) as call:
            async for reply in call:
                found = reader.take(reply)
                if isinstance(found, Progress):
                    if callback is not None and await stopped(callback, found):
                        callback = None
                        wish.set_result(True)
                elif found is not None:
                    answer = found
    except errors.InvalidArgument as error:
        raise reader.refused(error) from None
    finally:
        if not wish.done():
            wish.set_result(False)
    if answer is None:
        raise reader.ended()
    return answer


async def _requests(messages: Iterator[Any], cancel: Any, wish: asyncio.Future[bool]) -> AsyncIterator[Any]:
    for message in messages:
        yield message
    if await wish:
        yield cancel


async def stopped(callback: Callable[[Any], object], progress: Progress) -> bool:
    """Whether the callback, which may be a coroutine function, wants the solve to stop."""
    answer = callback(progress)
    if inspect.isawaitable(answer):
        answer = await answer
    return answer is True
