"""A method that is watched: where it would not converge in some iterations, another goes on from where it stands."""

from __future__ import annotations

import math
from collections.abc import Callable

from relaxon.solvers.engine import Monitor
from relaxon.solvers.solution import Result
from relaxon.solvers.sparse.engine import MatrixEngine, Precondition
from relaxon.solvers.sparse.system import Array, MatrixSystem

Instead = Callable[[MatrixSystem], tuple[MatrixEngine, str]]
"""Sets the other method up, and says which it is and why."""
LOOK = 20
"""Iterations after which the rate of convergence is looked at, again and again."""
ENDED = (Result.CONVERGED, Result.CANCELLED, Result.DIVERGED, Result.NON_FINITE)


class Watched(MatrixEngine):
    """`first` while it is expected to need at most `patience` iterations, then what `instead` sets up; that one alone
    for later right-hand sides.

    The expectation is the mean rate of the residual so far, taken after every `LOOK` iterations; the first ones go
    quicker than the rest more often than not.
    """

    def __init__(self, system: MatrixSystem, first: MatrixEngine, patience: int, instead: Instead) -> None:
        self.system, self.first, self.patience, self.instead = system, first, patience, instead
        self.second: MatrixEngine | None = None
        self.info = first.info
        self.default_max_iterations = max(first.default_max_iterations, 20_000)

    def preconditioner(self) -> Precondition | None:
        """Return that of the second method, where it has been needed, else that of the first."""
        return (self.first if self.second is None else self.second).preconditioner()

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        begun = monitor.iterations
        if self.second is None:
            left = max_iterations
            while True:
                result = self.first.run(b, x, monitor, min(LOOK, self.patience, left))
                self.failure = self.first.failure
                done = monitor.iterations - begun
                left = max_iterations - done
                if result in ENDED or left <= 0 or self.failure:
                    return result
                if result is not Result.MAX_ITERATIONS or _expected(monitor, begun) > self.patience:
                    break
                monitor.history.pop()  # the next run records the residual where it begins
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


def _expected(monitor: Monitor, begun: int) -> float:
    """How many iterations the run that began at history's entry `begun` takes in all, at its mean rate."""
    first, last = monitor.history[begun], monitor.history[-1]
    if not 0 < last < first:
        return math.inf
    return (monitor.iterations - begun) * math.log(monitor.tolerance / first) / math.log(last / first)
