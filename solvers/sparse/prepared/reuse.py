"""A set-up that was made for an earlier matrix's values: whether it still converges as it did is watched."""

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
"""Iterations are many where they are more than so many times the usual ones and so many more."""
FEWEST = 3
"""Iterations from which on a run says how fast a set-up converges."""


@dataclass(slots=True)
class Course:
    """How fast a set-up converges on the matrix that it was made for: `rate` decades an iteration, 0 where no run has
    told yet."""

    rate: float = 0.0

    def record(self, residuals: Sequence[float]) -> None:
        """Note a run from its residual norms, the initial one included."""
        count = len(residuals) - 1
        if count >= FEWEST and 0 < residuals[-1] < residuals[0]:
            self.rate = math.log10(residuals[0] / residuals[-1]) / count

    def usual(self, first: float, tolerance: float) -> float:
        """Return how many iterations from a residual to the tolerance are usual; infinity where that is not known."""
        if not (self.rate > 0 and 0 < tolerance < first < math.inf):
            return math.inf
        return math.log10(first / tolerance) / self.rate


class Reused(DelegatingEngine):
    """An updated engine, whose run is compared with the course of the set-up that it goes on with.

    Where `anew` sets the method up for these values, it does so in a run that takes many more iterations than usual,
    and the run goes on with that; where it is None, `reason` says so after such a run.
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
            f"{self.engine.reason}; set up anew: that of an earlier matrix's values was not done after {done} "
            f"iterations, where {usual:.0f} were usual"
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
        """Say where a run has taken many more iterations than usual, in what the caller reads of it."""
        said = ""
        if self.reuses and taken > SLOWER * usual + MARGIN:
            said = (
                f"the set-up is of an earlier matrix's values and took {taken} iterations, where {usual:.0f} were "
                "usual: `prepare` anew may be faster"
            )
        self.reason = "; ".join(part for part in (self._given, said) if part)
