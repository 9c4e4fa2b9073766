"""A symmetric cycle through a hierarchy, done by one compiled kernel that several threads enter together."""

from __future__ import annotations

import math
from copy import copy
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.address_kernels import tabulate
from relaxon.solvers.kernels.team_kernels import run_team
from relaxon.solvers.sparse.amg import cycle_kernels as kernels
from relaxon.solvers.sparse.amg.constants import DEFAULTS, Constants
from relaxon.solvers.sparse.amg.direction_kernels import CYCLE, take_steps
from relaxon.solvers.sparse.amg.hierarchy import Floats, Hierarchy, Level
from relaxon.solvers.sparse.amg.lower import Lower
from relaxon.solvers.sparse.system.row_runs import count_threads

STEEP = 0.3
"""Least eigenvalue of a preconditioned coarse level for which the fixed lengths are optimal. Measured over the gallery
at 20,000 and 200,000 unknowns, CG takes as many iterations as with the K-cycle, except on chains; below 0.25 stretched
cells make the map indefinite, as rounding of float32 leaves eigenvalues above 1."""


def chebyshev_lengths(least: float) -> tuple[float, float]:
    """Return the reciprocal roots of the Chebyshev polynomial of degree two on `[least, 1]`.

    With them, `x = one·M b + two·M (b − one·A M b)` is again a symmetric definite map of `b` where `M` is one and the
    spectrum of `MA` lies in (0, 1], as the residual polynomial is below 1 there.
    Source: O. Axelsson, P. S. Vassilevski, "Algebraic multilevel preconditioning methods I", Numer. Math. 56 (1989).
    """
    middle, half = (1 + least) / 2, (1 - least) / 2 * math.sqrt(0.5)
    return 1 / (middle - half), 1 / (middle + half)


LENGTHS = chebyshev_lengths(STEEP)
SHARED = 8_000
"""Rows from which the threads share an iteration: it then takes several times as long as to wake one."""
WORTH = 0.6
"""Most entries that both steps below a smoothed interpolation may read, over those of the first level: a second step
saves fewer iterations there than below aggregates."""
NOTHING: tuple[NDArray[Any], ...] = (
    *(np.zeros(1, dtype) for dtype in (np.uint32, np.uint32, float, np.uint32)),
    *(np.zeros(0, dtype) for dtype in (np.uint32, np.float32, np.float32)),
    np.zeros((2, 1), np.float32), np.zeros((2, 1)), *(np.zeros(1) for _ in range(2)), np.zeros((1, 6)), np.zeros(9),
    np.zeros((1, 2)),
)  # fmt: skip
"""The arguments of `take_steps` beside those of a cycle, where there is no outer iteration."""
NO_CYCLE: tuple[NDArray[Any], ...] = (
    np.zeros((1, kernels.R + 1), np.int64), np.zeros(4), np.zeros((0, 0)), np.zeros(1, np.int64), np.zeros((1, 6)),
)  # fmt: skip
"""The arguments of a cycle, where directions are given."""


class Cycle:
    """A cycle that approximates `A⁻¹` in float32, in the order of the first level's rows.

    With `lengths`, the steps on coarse levels have these fixed lengths instead of those of conjugate gradients, and the
    map is linear.
    """

    def __init__(self, hierarchy: Hierarchy, lengths: tuple[float, float] = (0.0, 0.0)) -> None:
        constants = hierarchy.constants
        self.levels, self.solution = hierarchy.levels, hierarchy.solution
        self.steps = count_steps(self.levels, constants)
        self.lower = [level.lower for level in self.levels]
        self._arrays = [_arrays_of(level, lower) for level, lower in zip(self.levels, self.lower, strict=True)]
        self.correction = np.float32(constants.correction)
        self._prepare(np.array([constants.correction, constants.enough, *lengths]))

    def _prepare(self, factors: NDArray[np.float64]) -> None:
        """Allocate work vectors, those of a second step only where a level takes one, and tabulate all arrays."""
        rows: list[list[Any]] = []
        blocks = [len(own.bounds) - 1 for own in self.lower]
        solved = len(self.solution) == self.levels[-1].rows
        self._vectors: list[list[Floats]] = []
        for level, arrays, count, steps in zip(self.levels, self._arrays, blocks, self.steps, strict=True):
            sizes = [level.rows] * 3 + [level.rows if steps > 1 else 0] * 3
            self._vectors.append([np.zeros(size, np.float32) for size in sizes])
            rows.append([count, steps, *arrays, *self._vectors[-1]])
        if solved:
            rows[-1][kernels.BLOCKS] = rows[-1][kernels.STEPS] = 1
        else:  # an empty level below the last one, which is only smoothed
            rows.append([1, 1] + [0] * (len(rows[0]) - 2))
        solution = self.solution if solved else np.zeros((0, 0))
        self._visits = np.zeros(len(rows), np.int64)
        self._arguments = (tabulate(rows), factors, solution, self._visits, np.zeros((max(blocks), 6)))

    def with_lengths(self, lengths: tuple[float, float]) -> Cycle:
        """Return the same cycle with steps of these lengths, and with its own work vectors."""
        other = copy(self)
        other._prepare(np.array([*self._arguments[1][:2], *lengths]))
        return other

    @property
    def right(self) -> Floats:
        """The argument of `apply`, at the first level's rows."""
        return self._vectors[0][0]

    @property
    def result(self) -> Floats:
        """The result of `apply`, at the first level's rows."""
        return self._vectors[0][1]

    def apply(self) -> Floats:
        """Return an approximation of `A⁻¹ right`, in memory that the next call overwrites."""
        self.run(CYCLE, 1, *NOTHING)
        return self.result

    def run(self, task: int, steps: int, *arguments: NDArray[Any]) -> None:
        """Do a task of `take_steps` with these arguments, in all threads where there are enough rows."""
        run_steps(task, steps, self.levels[0].rows, self._arguments, arguments)

    @property
    def visits(self) -> list[int]:
        """The number of visits of each level, by all calls so far."""
        return [int(count) for count in self._visits[: len(self.steps)]]


def run_steps(
    task: int, steps: int, rows: int, cycle: tuple[NDArray[Any], ...], arguments: tuple[NDArray[Any], ...]
) -> None:
    """Call `take_steps` in as many threads as so many rows are divided among."""
    members = count_threads(rows, SHARED)
    notes = np.zeros((members, len(cycle[0]) + 1, 6))
    run_team(take_steps, task, steps, *cycle[:-1], notes, cycle[-1], *arguments, members=members)


def _arrays_of(level: Level, lower: Lower) -> list[int | NDArray[Any]]:
    """Return the numbers and arrays of a level in the order of the table of `cycle_kernels`, without work vectors."""
    own, between = [lower.starts[:-1], lower.ends, lower.near, lower.columns, lower.values], lower.across
    over = [between.bounds, between.rows, between.starts[:-1], between.starts[1:], between.columns, between.values]
    transfers: list[int | NDArray[Any]] = [0] * 8
    if level.smoothed is not None:
        p, r = level.smoothed.interpolation, level.smoothed.restriction
        transfers = [p.begin, p.end, p.columns, p.values, r.begin, r.end, r.columns, r.values]
    smoothed = level.smoothed is not None
    return [
        int(smoothed), int(smoothed or len(lower.joined) > 0), lower.bounds, *own, level.sums, lower.inverse,
        lower.excess, level.group, lower.offsets, lower.joined_bounds, lower.joined, *over, *transfers,
    ]  # fmt: skip


def count_steps(levels: tuple[Level, ...], constants: Constants = DEFAULTS) -> list[int]:
    """Return the number of steps of a visit on each level, so that the work of a cycle is bounded."""
    taken, visits = [1], 1.0
    entries = [max(1, level.entries) for level in levels]
    spent = 1.0
    for (above, own), level in zip(pairwise(entries), levels, strict=False):
        work = 2 * visits * own / entries[0]
        within = spent + work <= constants.budget and (level.smoothed is None or work <= WORTH)
        twice = own <= constants.twice * above and within
        taken.append(2 if twice else 1)
        visits *= taken[-1]
        spent += visits * own / entries[0]
    return taken
