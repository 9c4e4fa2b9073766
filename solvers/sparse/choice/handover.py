"""A sequence of methods: each one continues where the one before was too slow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from relaxon.core.solution import Result
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.sparse.engine import DelegatingEngine, MatrixEngine
from relaxon.solvers.sparse.system.matrix_system import Array

LOOK = 30
"""Iterations after which the rate of convergence is checked: those between two restarts of GMRES."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """A method of the sequence: its name, the reason for it, the expected iterations it may take, and its set-up."""

    name: str
    why: str
    patience: float
    make: Callable[[], MatrixEngine]


class HandOver(DelegatingEngine):
    """The first of several methods, and the next ones where it would take too long; later right-hand sides begin with
    the one that ran last.

    `head` describes the matrix. A method is abandoned when it would take more iterations than its patience, at its mean
    rate so far, or when it stagnates. One whose set-up raises ValueError is skipped; where no later one can be set up,
    the present one continues.
    """

    default_max_iterations = 20_000

    def __init__(self, head: str, stages: list[Fallback]) -> None:
        self._stages = stages
        self._refused = ""
        self._engine, self._place = self._begin(0)
        first = stages[self._place]
        self.reason = f"auto chose {first.name}: {head}, {first.why}{self._refused}"

    @property
    def running(self) -> MatrixEngine:
        return self._engine

    def _begin(self, place: int) -> tuple[MatrixEngine, int]:
        """Set up the first possible method from a place on; ValueError, that of the last one, where none is
        possible."""
        while True:
            try:
                engine = self._stages[place].make()
            except ValueError as error:
                if place + 1 == len(self._stages):
                    raise
                self._refused = f" (and not {self._stages[place].name}: {error})"
                place += 1
            else:
                self.info = getattr(self, "info", {}) | engine.info
                return engine, place

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        left = max_iterations
        begun, stuck = monitor.iterations, False
        while True:
            stage = self._stages[self._place]
            last = stuck or self._place + 1 == len(self._stages)
            before = monitor.iterations
            result = self._engine.run(b, x, monitor, left if last else min(LOOK, left))
            self.failure = self._engine.failure
            left -= monitor.iterations - before
            stopped = result in (Result.CONVERGED, Result.CANCELLED)
            if last or stopped or left <= 0:
                return result
            if result is Result.MAX_ITERATIONS and _expect_iterations(monitor, begun) <= stage.patience:
                monitor.history.pop()  # the next run records the residual where it begins
                continue
            if not np.isfinite(x).all():
                x.fill(0.0)
            try:
                self._engine, self._place = self._begin(self._place + 1)
            except ValueError as error:
                if result is not Result.MAX_ITERATIONS:
                    self.failure = self.failure or str(error)
                    return result
                stuck = True
            else:
                stage = self._stages[self._place]
                done = monitor.iterations - begun
                self.reason += f"; not done after {done} iterations, {stage.name} went on: {stage.why}"
                begun = monitor.iterations
            monitor.history.pop()


def _expect_iterations(monitor: Monitor, begun: int) -> float:
    """Return the total iterations, at its mean rate, of the run that began at entry `begun` of the history."""
    first, last = monitor.history[begun], monitor.history[-1]
    if not 0 < last < first:
        return math.inf
    return (monitor.iterations - begun) * math.log(monitor.tolerance / first) / math.log(last / first)
