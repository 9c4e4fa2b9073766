"""One `Solve` call of the asyncio client: the arrays go up, progress comes back, then the solution."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator

from relaxon.aio.caller import Caller, called
from relaxon.client.solve_request import CANCEL, SolveRequest
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import poisson_pb2_grpc
from relaxon.proto.shared import SharedFile
from relaxon.solvers.solution import Callback, Progress, Solution


async def solve(
    caller: Caller,
    stub: poisson_pb2_grpc.PoissonServiceAsyncStub,
    request: SolveRequest,
    callback: Callback | None,
    shared: SharedFile | None,
    timeout: float | None,
) -> Solution:
    """Make the call; what cancels the task, and an exception in the callback, ends the solve on the server.

    `shared` is this call's alone, and the server has it open: the arrays pass through it where they can.
    """
    wish: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    # Copying the arrays into the shared file would hold up the event loop.
    messages = await asyncio.to_thread(request.handed, shared)
    answer = request.answer(shared)
    try:
        async with called(caller.begun(stub.Solve, _requests(messages, wish), timeout)) as call:
            async for reply in call:
                progress = answer.take(reply)
                if progress is not None and callback is not None and await _told(callback, progress):
                    callback = None
                    wish.set_result(True)
    finally:
        if not wish.done():
            wish.set_result(False)
    return answer.finished()


async def _requests(messages: Iterator[pb.SolveRequest], wish: asyncio.Future[bool]) -> AsyncIterator[pb.SolveRequest]:
    for message in messages:
        yield message
    if await wish:
        yield CANCEL


async def _told(callback: Callback, progress: Progress) -> bool:
    """Whether the callback, which may be a coroutine function, wants the solve to stop."""
    answer = callback(progress)
    if inspect.isawaitable(answer):
        answer = await answer
    return answer is True
