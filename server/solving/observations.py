"""The recent solves, for whoever watches the server: bounded in size, written by worker threads, read at any time."""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from enum import Enum
from typing import Any

from relaxon.core.solution import Progress, Solution

KEPT_SOLVES = 256
"""Solves that are remembered; the one that ended first is dropped first."""
CURVE_POINTS = 256
"""Points of a curve at most: more than a picture of it can show."""


class SolveState(Enum):
    """The state of a solve."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


class Curve:
    """A curve of any length in bounded memory: when full, every other point is dropped, and every other one skipped."""

    def __init__(self, room: int = CURVE_POINTS) -> None:
        self._room = room
        self._stride = 1
        self._points: list[tuple[int, float]] = []
        self._newest: tuple[int, float] | None = None

    def add(self, x: int, y: float) -> None:
        """Add the next point; `x` is an integer that increases."""
        self._newest = point = (x, y)
        if x % self._stride:
            return
        self._points.append(point)
        if len(self._points) >= self._room:
            self._stride *= 2
            # A new list: whoever reads the old one is not disturbed.
            self._points = [kept for kept in self._points if kept[0] % self._stride == 0]

    def points(self) -> list[tuple[int, float]]:
        """Return the points that are kept, always including the newest."""
        kept, newest = list(self._points), self._newest
        if newest is not None and (not kept or kept[-1] != newest):
            kept.append(newest)
        return kept


class SolveTrace:
    """The course of one solve."""

    def __init__(self, number: int, solver: str, shape: Sequence[int], unknowns: int) -> None:
        self.number = number
        self.solver = solver
        self.shape = tuple(shape)
        self.unknowns = unknowns
        self.submitted = time.time()
        self.started: float | None = None
        self.ended: float | None = None
        self.tolerance: float | None = None
        """The residual norm at which the solve is done, once that is known."""
        self.outcome = ""
        """The name of its `Result`; "failed" if there is none, "abandoned" if its caller was gone before."""
        self.setup_seconds: float | None = None
        self.iterations = 0
        self.backward_error: float | None = None
        """The backward error of the solution, once there is one."""
        self.residuals = Curve()

    @property
    def state(self) -> SolveState:
        if self.ended is not None:
            return SolveState.ENDED
        return SolveState.WAITING if self.started is None else SolveState.RUNNING

    def begin(self) -> None:
        """Note that a worker thread has begun the solve."""
        self.started = time.time()

    def record(self, progress: Progress) -> None:
        """Note an iteration. Called after each of them, so it takes a fraction of a microsecond."""
        self.tolerance = progress.tolerance
        self.iterations = progress.iteration
        self.residuals.add(progress.iteration, progress.residual)

    def end(self, future: Future[Any]) -> None:
        """Note the end, however it came. A solve ends in a `Solution`, an inverse problem in a `Reconstruction`."""
        try:
            solution = future.result()
        except CancelledError:
            self.outcome = "abandoned"
        except Exception:
            self.outcome = "failed"
        else:
            self.outcome = solution.result.value
            self.iterations = solution.iterations
            self.tolerance = solution.tolerance
            if isinstance(solution, Solution):
                self.setup_seconds = solution.setup_seconds
                self.backward_error = solution.backward_error
                self.residuals.add(solution.iterations, solution.true_residual)
            else:
                self.residuals.add(solution.iterations, solution.residual)
        self.ended = time.time()


class Observations:
    """The recent solves. A server that nobody can watch has no such object, and pays nothing for it."""

    def __init__(self, kept: int = KEPT_SOLVES) -> None:
        self._kept = kept
        self._numbers = itertools.count(1)
        self._solves: OrderedDict[int, SolveTrace] = OrderedDict()
        self._lock = threading.Lock()

    def solve(self, solver: str, shape: Sequence[int], unknowns: int) -> SolveTrace:
        """Return a trace for a solve that has just been submitted."""
        trace = SolveTrace(next(self._numbers), solver, shape, unknowns)
        with self._lock:
            self._solves[trace.number] = trace
            ended = [number for number, one in self._solves.items() if one.state is SolveState.ENDED]
            for number in ended[: max(0, len(self._solves) - self._kept)]:
                del self._solves[number]
        return trace

    def solves(self) -> list[SolveTrace]:
        """Return the solves that are remembered, newest first."""
        with self._lock:
            return list(reversed(self._solves.values()))

    def find(self, number: int) -> SolveTrace | None:
        """Return the solve of a number; None if it is not remembered."""
        with self._lock:
            return self._solves.get(number)
