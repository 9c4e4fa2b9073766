"""Reuse of a set-up for new values, monitored for whether it still converges as fast as it did."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from relaxon.core.solution import Result
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.sparse.engine import DelegatingEngine, MatrixEngine
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

SLOWER, MARGIN = 2.0, 10
"""A run has too many iterations beyond `SLOWER` times the usual number plus `MARGIN`."""
FEWEST = 3
"""Iterations from which a run tells how fast a set-up converges."""


@dataclass(slots=True)
class Course:
    """How fast a set-up converges on the matrix it was made for: `rate` decades an iteration, 0 before any run."""

    rate: float = 0.0

    def record(self, residuals: Sequence[float]) -> None:
        """Record a run by its residual norms, the initial one included."""
        count = len(residuals) - 1
        if count >= FEWEST and 0 < residuals[-1] < residuals[0]:
            self.rate = math.log10(residuals[0] / residuals[-1]) / count

    def usual(self, first: float, tolerance: float) -> float:
        """Return the usual number of iterations from a residual to the tolerance; infinity where it is unknown."""
        if not (self.rate > 0 and 0 < tolerance < first < math.inf):
            return math.inf
        return math.log10(first / tolerance) / self.rate


class Reused(DelegatingEngine):
    """An updated engine whose runs are compared with the course of the set-up that it reuses.

    Where a run takes many more iterations than usual, `anew` sets the method up for these values, and the run continues
    with that; where `anew` is None, `reason` reports it after the run.
    """

    reuses = True

    def __init__(
        self, system: MatrixSystem, engine: MatrixEngine, course: Course, anew: Callable[[], MatrixEngine] | None
    ) -> None:
        self.system, self.engine, self.course = system, engine, course
        self._anew = anew
        self._given = engine.reason
        self.info = engine.info
        self.reason = engine.reason
        self.default_max_iterations = engine.default_max_iterations
        self.by_planes = engine.by_planes

    def update(self, system: MatrixSystem) -> MatrixEngine | None:
        return self.engine.update(system)

    @property
    def running(self) -> MatrixEngine:
        return self.engine

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        begun = monitor.iterations
        first = self.system.residual(b, x, np.empty_like(b)) if x.any() else math.sqrt(float(np.square(b).sum()))
        usual = self.course.usual(first, monitor.tolerance)
        limit = SLOWER * usual + MARGIN
        if self._anew is None or not limit < max_iterations:
            result = self._run(b, x, monitor, max_iterations)
            self._judge(monitor.iterations - begun, usual)
            return result
        result = self._run(b, x, monitor, int(limit))
        done = monitor.iterations - begun
        if result is not Result.MAX_ITERATIONS or done >= max_iterations:
            return result
        self.engine, self._anew, self.course = self._anew(), None, Course()
        self.reuses = False
        self.info = self.engine.info
        self.reason = (
            f"{self.engine.reason}; set up anew: the set-up for an earlier matrix's values was not done after {done} "
            f"iterations, where {usual:.0f} are usual"
        ).removeprefix("; ")
        monitor.history.pop()  # the next run records the residual where it begins
        return self._run(b, x, monitor, max_iterations - done)

    def _run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        result = self.engine.run(b, x, monitor, max_iterations)
        self.failure = self.engine.failure
        if self.engine.reason != self._given:
            self.reason = self._given = self.engine.reason
        return result

    def _judge(self, taken: int, usual: float) -> None:
        """Report in `reason` a run that has taken many more iterations than usual."""
        said = ""
        if self.reuses and taken > SLOWER * usual + MARGIN:
            said = (
                f"the set-up was made for an earlier matrix's values and took {taken} iterations, where {usual:.0f} "
                "are usual: calling `prepare` again may be faster"
            )
        self.reason = "; ".join(part for part in (self._given, said) if part)
