"""One solve in a worker thread, and the line between it and the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from numpy.typing import NDArray

from relaxon.core.solution import Progress, Solution
from relaxon.server.gate import errors
from relaxon.server.solving.observations import SolveTrace
from relaxon.server.solving.sessions import Session
from relaxon.server.solving.solve_messages import SolveOptions
from relaxon.solvers.interface.front import Front
from relaxon.wire.shared_memory import SharedFile

Asked = TypeVar("Asked")
PREPARE_ARGUMENTS = ("solver", "operator", "cells", "spacing", "boundary", "coefficient", "reaction", "volume")
"""What a solver's set-up may refuse by name; any other ValueError in it is the server's own fault."""


class SolveJob:
    """Runs `work` in `executor`; `next_progress` and `result` are awaited on the event loop that made it."""

    def __init__(
        self,
        session: Session,
        work: Callable[[SolveJob], Solution],
        executor: Executor,
        progress_seconds: float | None,
        trace: SolveTrace | None = None,
    ) -> None:
        """`work` gives `record` to the engine as its callback and calls `check` where it may be cut off; `trace` is
        told how it goes, where somebody may watch."""
        self._session = session
        self._work = work
        self._progress_seconds = progress_seconds
        self._trace = trace
        self._next_report = 0.0
        self._latest: Progress | None = None
        self._sent = -1
        self._stop = False
        self._abandoned = False
        self.place: int | None = None
        """Where in the caller's shared file the work has put `x`."""
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self.future: Future[Solution] = executor.submit(self._run)
        self._done = asyncio.wrap_future(self.future)
        self._done.add_done_callback(self._ended)
        if trace is not None:
            self.future.add_done_callback(trace.end)

    def cancel(self) -> None:
        """Stop at the next iteration; the result is what there is by then."""
        self._stop = True

    def abandon(self) -> None:
        """Stop as soon as possible; nobody waits for the result any more."""
        self._stop = self._abandoned = True
        self.future.cancel()

    def check(self) -> None:
        """In the worker thread: CancelledError where nobody waits any more."""
        if self._abandoned:
            raise CancelledError

    def hand_over(self, solution: Solution, room: Room | None, front: Front) -> Solution:
        """In the worker thread: put `x` where the caller has room for it; the solution is then one of that memory."""
        self.check()
        if room is None or solution.x.nbytes > room.bytes:  # of a complex matrix, where `b` is real
            return solution
        x = room.file.view(room.offset, solution.x.dtype, solution.x.shape)
        front.copy_answer(solution.x, x)
        self.place = room.offset
        return replace(solution, x=x)

    def record(self, progress: Progress) -> bool:
        """The engine's callback, in the worker thread: leaves the newest progress for the event loop."""
        if self._trace is not None:
            self._trace.record(progress)
        if self._progress_seconds is not None:
            self._latest = progress
            now = time.monotonic()
            if now >= self._next_report:
                self._next_report = now + self._progress_seconds
                self._loop.call_soon_threadsafe(self._news.set)
        return self._stop

    async def next_progress(self) -> Progress | None:
        """The newest progress not yet returned, once there is one; None when the solve has ended."""
        while True:
            await self._news.wait()
            self._news.clear()
            latest = self._latest
            if latest is not None and latest.iteration > self._sent:
                self._sent = latest.iteration
                if self._done.done():
                    self._news.set()
                return latest
            if self._done.done():
                return None

    async def result(self) -> Solution:
        """The solution, or the error that the solve ended with; may be awaited by several."""
        return await asyncio.shield(self._done)

    async def succeeded(self) -> bool:
        """Whether there is a solution, once it has ended."""
        await asyncio.wait((self._done,))
        return not self._done.cancelled() and self._done.exception() is None

    def _run(self) -> Solution:
        with self._session.running:
            self.check()
            if self._trace is not None:
                self._trace.begin()
            return self._work(self)

    def _ended(self, done: asyncio.Future[Solution]) -> None:
        self._news.set()
        # Nobody may be left to ask for either, which are not always the same.
        for future in (done, self.future):
            if not future.cancelled():
                errors.let_go(future.exception())


@dataclass(frozen=True, slots=True)
class Room:
    """Where in the caller's shared file a solution may be put."""

    file: SharedFile
    offset: int
    bytes: int


@dataclass(slots=True)
class SolveArguments:
    """A solve's arguments as they came; the arrays are held by it alone, and given up when they have been taken."""

    solver: Any
    options: SolveOptions
    b: NDArray[Any] | None
    x0: NDArray[Any] | None = None
    room: Room | None = None

    def take_arrays(self) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """`b` and `x0`, which are held by the taker alone from then on."""
        if self.b is None:
            raise RuntimeError("a solve's arrays are taken once")
        taken = self.b, self.x0
        self.b = self.x0 = None
        return taken


def solve_in(session: Session, given: SolveArguments, job: SolveJob) -> Solution:
    """A job's work: set up where that has not been done, and solve."""
    front, setup_seconds = prepared(session, given.solver, given.options.solver)
    job.check()
    b, x0 = given.take_arrays()
    options = given.options
    request = checked(front.request, b, options.rtol, options.atol, options.max_iterations, x0, options.inconsistent)
    del b  # the engine has its own copy now; the start is what a solve that ends with a larger residual gives back
    solution = replace(front.answer(request, job.record, x0), setup_seconds=setup_seconds)
    handed = job.hand_over(solution, given.room, front)
    front.reclaim(request, x=handed is not solution)
    return handed


def prepared(session: Session, solver: Any, name: str) -> tuple[Front, float]:
    """The session's set-up; INVALID_ARGUMENT and the like for what a set-up refuses."""
    try:
        return session.prepared(name, solver)
    except (ValueError, TypeError) as error:
        if not str(error).startswith(PREPARE_ARGUMENTS):
            raise
        raise errors.refused(error) from error
    except ImportError as error:
        raise errors.unavailable_solver(name, error) from error


def checked(request: Callable[..., Asked], *arguments: Any) -> Asked:
    """A request of the engine's; INVALID_ARGUMENT for what its checks refuse."""
    try:
        return request(*arguments)
    except (ValueError, TypeError) as error:
        raise errors.refused(error) from error
