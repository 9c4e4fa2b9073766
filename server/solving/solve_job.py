"""One solve in a worker thread, and its link to the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from relaxon.core.solution import Progress, Solution
from relaxon.server.gate import errors
from relaxon.server.solving.observations import SolveTrace
from relaxon.server.solving.session import Session
from relaxon.solvers.interface.prepared_system import PreparedSystem
from relaxon.wire.conversions.solve import SolveTerms
from relaxon.wire.shared_memory import SharedFile

PREPARE_ARGUMENTS = ("solver", "operator", "cells", "spacing", "boundary", "coefficient", "reaction", "volume")
"""The arguments that a solver's set-up may refuse; any other ValueError in it is a fault of the server's."""


class SolveJob:
    """Runs `work` in `executor`; `next_progress` and `result` are awaited on the event loop that made the job."""

    def __init__(
        self,
        running: AbstractContextManager[Any],
        work: Callable[[SolveJob], Solution],
        executor: Executor,
        progress_seconds: float | None,
        trace: SolveTrace | None = None,
    ) -> None:
        """`work` runs with `running` entered.

        It passes `record` to the engine as its callback, and calls `check` where it may be interrupted.
        """
        self._running = running
        self._work = work
        self._progress_seconds = progress_seconds
        self._trace = trace
        self._next_report = 0.0
        self._latest: Progress | None = None
        self._sent = -1
        self._stop = False
        self._abandoned = False
        self.place: int | None = None
        """The offset in the caller's shared file at which the work has put `x`."""
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
        """Raise CancelledError if nobody waits for the result any more. In the worker thread."""
        if self._abandoned:
            raise CancelledError

    def hand_over(self, solution: Solution, room: Room | None, prepared: PreparedSystem) -> Solution:
        """Copy `x` to the caller's memory, if there is room, and return the solution with that `x`. In the worker
        thread."""
        self.check()
        if room is None or solution.x.nbytes > room.bytes:  # as for a complex matrix whose `b` is real
            return solution
        x = room.file.view(room.offset, solution.x.dtype, solution.x.shape)
        prepared.copy_answer(solution.x, x)
        self.place = room.offset
        return replace(solution, x=x)

    def record(self, progress: Progress) -> bool:
        """Leave the newest progress for the event loop; the engine's callback, in the worker thread."""
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
        """Wait for progress that has not been returned yet; None once the solve has ended."""
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
        """Wait for the solution, or raise the error that the solve ended with; several may wait."""
        return await asyncio.shield(self._done)

    async def succeeded(self) -> bool:
        """Wait for the end, and return whether there is a solution."""
        await asyncio.wait((self._done,))
        return not self._done.cancelled() and self._done.exception() is None

    def _run(self) -> Solution:
        with self._running:
            self.check()
            if self._trace is not None:
                self._trace.begin()
            return self._work(self)

    def _ended(self, done: asyncio.Future[Solution]) -> None:
        self._news.set()
        # It may be that nobody asks for either error, and the two are not always the same.
        for future in (done, self.future):
            if not future.cancelled():
                errors.let_go(future.exception())


@dataclass(frozen=True, slots=True)
class Room:
    """Where a solution may be put in the caller's shared file."""

    file: SharedFile
    offset: int
    bytes: int


@dataclass(slots=True)
class SolveArguments:
    """The arguments of a solve. It alone references the arrays, and gives them up when they are taken."""

    solver: Any
    terms: SolveTerms
    b: NDArray[Any] | None
    x0: NDArray[Any] | None = None
    room: Room | None = None

    def take_arrays(self) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return `b` and `x0`, which are the caller's alone from then on."""
        if self.b is None:
            raise RuntimeError("a solve's arrays are taken once")
        taken = self.b, self.x0
        self.b = self.x0 = None
        return taken


def solve_in(session: Session, given: SolveArguments, job: SolveJob) -> Solution:
    """Set the solver up, unless it is, and solve: the work of a job."""
    prepared, setup_seconds = prepare_in(session, given.solver, given.terms.solver)
    job.check()
    b, x0 = given.take_arrays()
    with errors.refusing():
        request = prepared.request(b, given.terms.options, x0)
    del b  # the engine has its own copy; the initial guess is what a solve with a larger residual falls back to
    solution = replace(prepared.answer(request, job.record, x0), setup_seconds=setup_seconds)
    answer = job.hand_over(solution, given.room, prepared)
    prepared.reclaim(request, x=answer is not solution)
    return answer


def prepare_in(session: Session, solver: Any, name: str) -> tuple[PreparedSystem, float]:
    """Return the session's set-up and the seconds just spent on it; ServiceError for what the set-up refuses."""
    try:
        return session.prepare(name, solver)
    except (ValueError, TypeError) as error:
        if not str(error).startswith(PREPARE_ARGUMENTS):
            raise
        raise errors.build_refusal(error) from error
    except ImportError as error:
        raise errors.unavailable_solver(name, error) from error
