"""A fallback for geometries that the cycle's coarse levels cannot represent: a factorisation takes over.

Coarse cells join what a thin wall separates, and where κ jumps by many decades within a coarse cell, no value of it is
right. In mazes and with such coefficients the iteration with a V-cycle is slow. So its pace is watched. Where the rest
would take too many iterations at the pace of the last ones, another method continues from the current iterate: a sparse
factorisation where the system is small, else algebraic multigrid on the grid's matrix, whose coarse levels follow the
couplings alone; or, where memory is short, conjugate gradients with an incomplete Cholesky factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from relaxon.core.available_memory import find_available_memory
from relaxon.core.solution import Result
from relaxon.solvers.external.adapters import SciPyDirect
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.interface.engine import Monitor, Prepared
from relaxon.solvers.interface.registry import find_solver
from relaxon.solvers.krylov.conjugate_gradients import IncompleteCholeskyCG

WATCHED = 30
"""The number of iterations after which the pace is measured."""
PATIENCE = 90
"""The other method takes over where more iterations than this are left at the pace of the last ones."""
FACTORED = {2: 100_000, 3: 10_000}
"""The unknowns up to which a factorisation takes a second at most, by the number of dimensions."""


MULTIGRID_BYTES, MEMORY_PART = 400, 0.5
"""Bytes that algebraic multigrid takes for an unknown, at most, and the fraction of the available memory that it may
take; the incomplete factor takes 50."""


def second_method(operator: PoissonOperator) -> tuple[str, Prepared]:
    """Return the name of the solver that takes over on this system, and the solver set up for it."""
    if operator.grid.unknowns <= FACTORED[operator.grid.ndim]:
        # Of a matrix that is singular to rounding there is no factor.
        with suppress(RuntimeError):
            return SciPyDirect.name, SciPyDirect().prepare(operator)
    available = find_available_memory()
    if available is None or MULTIGRID_BYTES * operator.grid.unknowns <= MEMORY_PART * available:
        return "amg", find_solver("amg").prepare(operator)
    return IncompleteCholeskyCG.name, IncompleteCholeskyCG().prepare(operator)


class Rescued(Prepared):
    """Runs `first`, and hands over, once, to what `second` makes where `first` is too slow.

    `Monitor.fallbacks` counts the iterations of the second.
    """

    def __init__(self, first: Prepared, second: Callable[[], tuple[str, Prepared]]) -> None:
        self.first = first
        self.info = first.info
        self.default_max_iterations = 10_000
        self._make_second = second
        self._second: tuple[str, Prepared] | None = None
        self._hopeless = False

    def twin(self) -> Prepared | None:
        first = self.first.twin()
        return None if first is None else Rescued(first, self._make_second)

    def run(self, b: NDArray[np.float64], x: NDArray[np.float64], monitor: Monitor, max_iterations: int) -> Result:
        left, hopeless = max_iterations, self._hopeless
        if not monitor.fallbacks:  # not a continuation of a run that was handed over
            self.failure = ""
        while not hopeless:
            start = len(monitor.history)
            result = self.first.run(b, x, monitor, min(WATCHED, left))
            done = len(monitor.history) - 1 - start
            left -= done
            finished = result not in (Result.MAX_ITERATIONS, Result.STAGNATED)
            if finished or left <= 0:
                return result
            if result is Result.STAGNATED or self._too_slow(monitor.history[start:], monitor.tolerance):
                hopeless = True
                # A grid that was too much for it once will be again.
                self._hopeless = self.remembers
            # The next run records the same residual again, and this one's last step is not its own to undo.
            monitor.history.pop()
            monitor.stepped(None)
        if self._second is None:
            self._second = self._make_second()
        name, second = self._second
        done = len(monitor.history)  # without its last entry, which the next run records again
        result = second.run(b, x, monitor, left)
        monitor.fallbacks += monitor.iterations - done
        if not self.failure:
            self.failure = f"{name} took over" + (f" after {done} iterations with the cycle" if done else "")
        if second.failure:
            self.failure += f"; {second.failure}"
        return result

    @staticmethod
    def _too_slow(history: list[float], tolerance: float) -> bool:
        reduced = math.log(history[0] / history[-1]) if history[-1] > 0 else math.inf
        to_go = math.log(history[-1] / tolerance) if tolerance > 0 else math.inf
        return reduced <= 0 or to_go / reduced * (len(history) - 1) > PATIENCE
