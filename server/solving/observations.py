"""What solves have done lately, for those who watch the server: bounded, written by worker threads, read any time."""

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
"""Solves that are remembered; the one that ended first goes first."""
CURVE_POINTS = 256
"""Of one curve, at most: more than a picture of it has columns to spare."""


class SolveState(Enum):
    """Where a solve is."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


class Curve:
    """A curve of any length in bounded room: where it is full, every other point goes, and half as many come."""

    def __init__(self, room: int = CURVE_POINTS) -> None:
        self._room = room
        self._stride = 1
        self._points: list[tuple[int, float]] = []
        self._newest: tuple[int, float] | None = None

    def add(self, x: int, y: float) -> None:
        """The next point; `x` is a whole number that rises."""
        self._newest = point = (x, y)
        if x % self._stride:
            return
        self._points.append(point)
        if len(self._points) >= self._room:
            self._stride *= 2
            # A list of its own: whoever reads the old one goes on undisturbed.
            self._points = [kept for kept in self._points if kept[0] % self._stride == 0]

    def points(self) -> list[tuple[int, float]]:
        """What is kept, the newest point always."""
        kept, newest = list(self._points), self._newest
        if newest is not None and (not kept or kept[-1] != newest):
            kept.append(newest)
        return kept


class SolveTrace:
    """One solve, as it goes."""

    def __init__(self, number: int, solver: str, shape: Sequence[int], unknowns: int) -> None:
        self.number = number
        self.solver = solver
        self.shape = tuple(shape)
        self.unknowns = unknowns
        self.submitted = time.time()
        self.started: float | None = None
        self.ended: float | None = None
        self.tolerance: float | None = None
        """The residual norm at which it is done, once that is known."""
        self.outcome = ""
        """The name of its `Result`; "failed" where it has none, "abandoned" where its caller was gone before that."""
        self.setup_seconds: float | None = None
        self.iterations = 0
        self.backward_error: float | None = None
        """Of the solution, once there is one."""
        self.residuals = Curve()

    @property
    def state(self) -> SolveState:
        if self.ended is not None:
            return SolveState.ENDED
        return SolveState.WAITING if self.started is None else SolveState.RUNNING

    def begin(self) -> None:
        """It has a worker thread."""
        self.started = time.time()

    def record(self, progress: Progress) -> None:
        """It has done an iteration. Called for each of them: this costs a fraction of a microsecond."""
        self.tolerance = progress.tolerance
        self.iterations = progress.iteration
        self.residuals.add(progress.iteration, progress.residual)

    def end(self, future: Future[Any]) -> None:
        """It is over, in whichever way. A solve ends in a `Solution`, an inverse problem in a `Reconstruction`."""
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
    """The solves of late. A server that nobody may watch has none of this, and pays nothing for it."""

    def __init__(self, kept: int = KEPT_SOLVES) -> None:
        self._kept = kept
        self._numbers = itertools.count(1)
        self._solves: OrderedDict[int, SolveTrace] = OrderedDict()
        self._lock = threading.Lock()

    def solve(self, solver: str, shape: Sequence[int], unknowns: int) -> SolveTrace:
        """A trace for a solve that has just been submitted."""
        trace = SolveTrace(next(self._numbers), solver, shape, unknowns)
        with self._lock:
            self._solves[trace.number] = trace
            ended = [number for number, one in self._solves.items() if one.state is SolveState.ENDED]
            for number in ended[: max(0, len(self._solves) - self._kept)]:
                del self._solves[number]
        return trace

    def solves(self) -> list[SolveTrace]:
        """Those that are remembered, the newest first."""
        with self._lock:
            return list(reversed(self._solves.values()))

    def find(self, number: int) -> SolveTrace | None:
        """The solve of that number, where it is remembered."""
        with self._lock:
            return self._solves.get(number)
