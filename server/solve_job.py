"""One solve in a worker thread, and the line between it and the event loop."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from relaxon.server import errors
from relaxon.server.grids import KeptGrid
from relaxon.server.observations import SolveTrace
from relaxon.solvers.engine import Solver
from relaxon.solvers.solution import Progress, Solution

PREPARE_ARGUMENTS = ("solver", "operator", "cells", "spacing", "boundary", "coefficient")
"""What a solver's set-up may refuse by name; any other ValueError in it is the server's own fault."""


@dataclass(slots=True)
class SolveArguments:
    """A solve's arguments as they came."""

    solver: Solver
    solver_name: str
    rtol: float
    atol: float
    max_iterations: int | None
    inconsistent: str
    b: NDArray[Any] | None
    x0: NDArray[Any] | None

    def take_arrays(self) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """`b` and `x0`, which are held by the taker alone from then on."""
        if self.b is None:
            raise RuntimeError("a solve's arrays are taken once")
        taken = self.b, self.x0
        self.b = self.x0 = None
        return taken


class SolveJob:
    """Runs a solve in `executor`; `next_progress` and `result` are awaited on the event loop that made it."""

    def __init__(
        self,
        kept: KeptGrid,
        arguments: SolveArguments,
        executor: Executor,
        progress_seconds: float | None,
        trace: SolveTrace | None = None,
    ) -> None:
        """`trace` is told how it goes, where somebody may watch."""
        self._kept = kept
        self._arguments = arguments
        self._progress_seconds = progress_seconds
        self._trace = trace
        self._next_report = 0.0
        self._latest: Progress | None = None
        self._sent = -1
        self._stop = False
        self._abandoned = False
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self.future: Future[Solution] = executor.submit(self._run)
        self._done = asyncio.wrap_future(self.future)
        self._done.add_done_callback(self._end)
        if trace is not None:
            self.future.add_done_callback(trace.end)

    def cancel(self) -> None:
        """Stop at the next iteration; the result is what there is by then."""
        self._stop = True

    def abandon(self) -> None:
        """Stop as soon as possible; nobody waits for the result any more."""
        self._stop = self._abandoned = True
        self.future.cancel()

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

    def _end(self, done: asyncio.Future[Solution]) -> None:
        if not done.cancelled():
            done.exception()  # looked at, so that a refusal whose caller has gone is not logged as one that was lost
        self._news.set()

    async def result(self) -> Solution:
        """The solution, or the error that the solve ended with."""
        return await self._done

    def _run(self) -> Solution:
        with self._kept.running:
            if self._abandoned:
                raise CancelledError
            if self._trace is not None:
                self._trace.begin()
            return self._solve()

    def _solve(self) -> Solution:
        given = self._arguments
        try:
            prepared, setup_seconds = self._kept.prepared(given.solver_name, given.solver)
        except (ValueError, TypeError) as error:
            if not str(error).startswith(PREPARE_ARGUMENTS):
                raise
            raise errors.refused(error) from error
        except ImportError as error:
            raise errors.unavailable_solver(given.solver_name, error) from error
        b, x0 = given.take_arrays()
        try:
            request = prepared.request(b, given.rtol, given.atol, given.max_iterations, x0, given.inconsistent)
        except (ValueError, TypeError) as error:
            raise errors.refused(error) from error
        del b, x0  # the engine has its own copies now
        return replace(prepared.answer(request, self._record), setup_seconds=setup_seconds)

    def _record(self, progress: Progress) -> bool:
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
