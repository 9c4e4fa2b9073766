"""A fallback for grids that the cycle's coarse levels cannot represent: another method takes over.

Coarse cells join what a thin wall separates, and where κ jumps by many decades within a coarse cell, no value of it is
right. In mazes and with such coefficients the iteration with a V-cycle is slow. So its pace is watched. Where the rest
would take too many iterations at the pace of the last ones, another method continues from the current iterate: a sparse
factorisation where the system is small, else algebraic multigrid, whose levels follow the couplings. Where memory is
short, or that stagnates too, it is a factorisation of somewhat larger systems, or conjugate gradients with an
incomplete Cholesky factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from relaxon.core.available_memory import find_machine_memory
from relaxon.core.solution import Result
from relaxon.solvers.external.adapters import SciPyDirect
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.interface import registry
from relaxon.solvers.interface.engine import Monitor, Prepared
from relaxon.solvers.krylov.conjugate_gradients import IncompleteCholeskyCG

WATCHED = 20
"""The number of iterations after which the pace is measured."""
PATIENCE = 40
"""The other method takes over where more iterations than this are left at the pace of the last ones: algebraic
multigrid, its set-up included, takes as long as 30 to 60 iterations."""
FACTORED = {2: 100_000, 3: 10_000}
"""The unknowns up to which a factorisation takes a second at most, by the number of axes with more than two cells."""
LAST_FACTORED = {2: 200_000, 3: 20_000}
"""The unknowns up to which it is the last resort, where algebraic multigrid stagnates."""
MULTIGRID_BYTES, FACTOR_BYTES = 365, 60
"""Bytes per cell that algebraic multigrid, and the incomplete factor, take at most beside the first method."""
MEMORY_PART = 0.25
"""The part of the machine's memory up to which algebraic multigrid may take over."""
LONG = 8.0
"""A box some of whose cells are so many times as long as wide is solved directly, where that can be done: at 1.05 to 1
from cell to cell the cycle takes 7 iterations on 32³ cells (5 to 1), 16 on 64³ (22 to 1) and 46 on 128³ (490 to 1)."""
MULTIGRID_STEPS = 200
"""Iterations after which algebraic multigrid has stagnated for all practical purposes."""
UNFINISHED = (Result.MAX_ITERATIONS, Result.STAGNATED, Result.DIVERGED, Result.NON_FINITE)
"""Results after which the next method continues."""


class Method(NamedTuple):
    """A method that may take over, and the most iterations it is given if others follow it."""

    name: str
    prepare: Callable[[], Prepared]
    steps: int = 10_000


def fits_multigrid(cells: int) -> bool:
    """Return whether algebraic multigrid may take over on a grid of so many cells, by this machine's memory alone."""
    memory = find_machine_memory()
    return memory is None or MULTIGRID_BYTES * cells <= MEMORY_PART * memory


def may_factor(grid: PoissonGrid) -> bool:
    """Return whether a factorisation is among the methods that may take over."""
    return grid.unknowns <= LAST_FACTORED[_dimensions(grid)]


def _dimensions(grid: PoissonGrid) -> int:
    return 2 if min(grid.shape3) <= 2 else 3  # a slab is as cheap to factor as a plane


def rescue_bytes(cells: int) -> int:
    """Return the bytes that an iterative method which takes over needs at most, beside the first one."""
    return (MULTIGRID_BYTES if fits_multigrid(cells) else FACTOR_BYTES) * cells


def solve_long_cells(operator: PoissonOperator) -> Prepared | None:
    """Set up fast diagonalisation for a box with long cells, whose strong couplings change direction from place to
    place, so that no coarse grid of a cycle suits all of them; None for other grids."""
    grid = operator.grid
    widths = [np.asarray(h) for h, n in zip(grid.spacing, grid.shape, strict=True) if n > 1]
    if grid.unknowns < grid.cells.size or not any(one.min() < one.max() for one in widths) or not _are_long(widths):
        return None
    try:
        found = registry.find_solver("fast-diagonalisation").prepare(operator)  # by name, as it stands above this one
    except ValueError:  # the coefficients are no products
        return None
    found.reason = f"fast diagonalisation took over: cells of a box more than {LONG:.0f} times as long as wide"
    return found


def _are_long(widths: list[NDArray[np.float64]]) -> bool:
    return any(one.max() >= LONG * two.min() for one in widths for two in widths if one is not two)


def list_methods(operator: PoissonOperator) -> tuple[Method, ...]:
    """Return the methods that take over on this system, one after another."""
    grid = operator.grid
    methods = [Method("ic-cg", lambda: IncompleteCholeskyCG().prepare(operator))]
    if fits_multigrid(grid.cells.size):
        # By name, as these solvers stand above this one.
        methods.insert(0, Method("amg", lambda: registry.find_solver("amg").prepare(operator), MULTIGRID_STEPS))
    if may_factor(grid):
        at = 0 if grid.unknowns <= FACTORED[_dimensions(grid)] else len(methods) - 1
        methods.insert(at, Method("a factorisation", lambda: SciPyDirect().prepare(operator), 5))
    return tuple(methods)


class Rescued(Prepared):
    """Runs `first`, and hands over, once, to another method where `first` is too slow on `operator`.

    `Monitor.fallbacks` counts the iterations of the others. An iterate is only replaced by one with a smaller residual.
    """

    def __init__(self, first: Prepared, operator: PoissonOperator) -> None:
        self.first, self.operator = first, operator
        self.info = first.info
        self.default_max_iterations = 10_000
        self._methods = list_methods(operator)
        self._made: dict[int, Prepared] = {}
        self._begin: int | None = None
        """The method that runs begin with; None for `first`."""

    def twin(self) -> Prepared | None:
        first = self.first.twin()
        return None if first is None else Rescued(first, self.operator)

    def run(self, b: NDArray[np.float64], x: NDArray[np.float64], monitor: Monitor, max_iterations: int) -> Result:
        self.failure = ""
        left, begin = max_iterations, self._begin
        if begin is None:
            start = len(monitor.history)
            # The run is watched, not cut into pieces: each beginning would forget the directions so far.
            monitor.watch = partial(self._is_slow, monitor, start)
            try:
                result = self.first.run(b, x, monitor, left)
            finally:
                monitor.watch = None
            left -= len(monitor.history) - 1 - start
            if result not in (Result.MAX_ITERATIONS, Result.STAGNATED) or left <= 0:
                self.failure = self.first.failure
                return result
            begin = 0
            monitor.undo_worse_step()  # and no later one is undone by what this method holds
            monitor.history.pop()  # the next run records the same residual again
        return self._hand_over(begin, b, x, monitor, left)

    def _hand_over(
        self, begin: int, b: NDArray[np.float64], x: NDArray[np.float64], monitor: Monitor, left: int
    ) -> Result:
        """Continue from `x` with the methods from number `begin` on, until one of them finishes."""
        result = Result.STAGNATED
        for number in range(begin, len(self._methods)):
            method, last = self._methods[number], number == len(self._methods) - 1
            engine = self._set_up(number, last)
            if engine is None:
                continue
            before, start = x.copy(), len(monitor.history)
            result = engine.run(b, x, monitor, left if last else min(left, method.steps))
            taken = len(monitor.history) - 1 - start
            left -= taken
            monitor.fallbacks += taken
            self.failure = "; ".join(part for part in (f"{method.name} took over", engine.failure) if part)
            if result is not Result.CONVERGED and not self._residual(b, x) <= self._residual(b, before):
                np.copyto(x, before)
                monitor.stepped(None)
            if self.remembers:
                self._begin = number  # a grid that was too much for the others once will be again
            if result not in UNFINISHED or left <= 0 or last:
                break
            monitor.undo_worse_step()
            monitor.history.pop()
        return result

    def _set_up(self, number: int, last: bool) -> Prepared | None:
        """Return a method set up, once; None if it cannot be and others follow."""
        if number not in self._made:
            # Of a matrix that is singular to rounding there is no factor.
            with suppress(*(() if last else (RuntimeError, ValueError, MemoryError))):
                self._made[number] = self._methods[number].prepare()
        return self._made.get(number)

    def _residual(self, b: NDArray[np.float64], x: NDArray[np.float64]) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.linalg.norm((b - self.operator.apply(x, np.empty_like(x))).reshape(-1)))

    def _is_slow(self, monitor: Monitor, start: int) -> bool:
        """Return whether the last `WATCHED` iterations of a run that began with entry `start` were too slow."""
        done = len(monitor.history) - 1 - start
        return done > 0 and done % WATCHED == 0 and self._too_slow(monitor.history[-1 - WATCHED :], monitor.tolerance)

    @staticmethod
    def _too_slow(history: list[float], tolerance: float) -> bool:
        reduced = math.log(history[0] / history[-1]) if history[-1] > 0 else math.inf
        to_go = math.log(history[-1] / tolerance) if tolerance > 0 else math.inf
        return reduced <= 0 or to_go / reduced * (len(history) - 1) > PATIENCE
