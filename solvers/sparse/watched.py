"""A method that is watched: where it has not converged after some iterations, another goes on from where it stands."""

from __future__ import annotations

from collections.abc import Callable

from relaxon.solvers.engine import Monitor
from relaxon.solvers.solution import Result
from relaxon.solvers.sparse.engine import MatrixEngine
from relaxon.solvers.sparse.system import Array, MatrixSystem

Instead = Callable[[MatrixSystem], tuple[MatrixEngine, str]]
"""Sets the other method up, and says which it is and why."""
ENDED = (Result.CONVERGED, Result.CANCELLED, Result.DIVERGED, Result.NON_FINITE)


class Watched(MatrixEngine):
    """`first` for `patience` iterations, then what `instead` sets up; that one alone for later right-hand sides."""

    def __init__(self, system: MatrixSystem, first: MatrixEngine, patience: int, instead: Instead) -> None:
        self.system, self.first, self.patience, self.instead = system, first, patience, instead
        self.second: MatrixEngine | None = None
        self.info = first.info
        self.default_max_iterations = max(first.default_max_iterations, 20_000)

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        begun = monitor.iterations
        if self.second is None:
            result = self.first.run(b, x, monitor, min(self.patience, max_iterations))
            self.failure = self.first.failure
            left = max_iterations - (monitor.iterations - begun)
            if result in ENDED or left <= 0 or self.failure:
                return result
            try:
                self.second, why = self.instead(self.system)
            except ValueError as error:  # a factor that finds the matrix indefinite
                self.failure = str(error)
                return result
            self.reason = f"{self.reason}; not done after {monitor.iterations - begun} iterations, {why}"
            self.info = self.first.info | self.second.info
            monitor.history.pop()  # the other method records the residual where it begins
        else:
            left = max_iterations
        result = self.second.run(b, x, monitor, left)
        self.failure = self.second.failure
        return result
