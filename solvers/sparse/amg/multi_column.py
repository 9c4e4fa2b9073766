"""Several right-hand sides at once: eight columns share the memory traffic of a cycle and of a product with the matrix.

The cycle is the linear one of `Cycle`, with steps of fixed lengths on coarse levels, as steps that depend on sums would
differ between columns. The outer iteration is that of `MultigridDirections`, for each column by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.address_kernels import address
from relaxon.solvers.kernels.lane_kernels import WIDTH
from relaxon.solvers.kernels.team_kernels import run_team
from relaxon.solvers.sparse.amg import cycle_kernels
from relaxon.solvers.sparse.amg import multi_column_kernels as kernels
from relaxon.solvers.sparse.amg.cycle import LENGTHS, SHARED, Cycle
from relaxon.solvers.sparse.engine import LOOK, expected_left
from relaxon.solvers.sparse.system.matrix_system import Array
from relaxon.solvers.sparse.system.row_runs import count_threads

if TYPE_CHECKING:
    from relaxon.solvers.sparse.amg.engine import MultigridDirections

Floats = NDArray[np.float32]
MOST_ITERATIONS = 60
"""Iterations of the columns together: one that is expected to take more continues alone, where it can be monitored."""


class CycleTogether:
    """A linear cycle that approximates `A⁻¹` on eight columns at once: the levels of a `Cycle`, with other vectors."""

    def __init__(self, cycle: Cycle) -> None:
        table, factors, solution = cycle._arguments[:3]
        self._cycle, table = cycle, table.copy()
        self._vectors: list[list[Floats]] = []
        for row, level, steps in zip(table, cycle.levels, cycle.steps, strict=False):
            sizes = [level.rows] * 3 + [level.rows if steps > 1 else 0] * 3
            self._vectors.append([np.zeros((size, WIDTH), np.float32) for size in sizes])
            row[cycle_kernels.RIGHT :] = [address(vector) for vector in self._vectors[-1]]
        self.right, self.result = self._vectors[0][:2]
        self.arguments = (table, np.array([*factors[:2], *LENGTHS]), solution)


class Together:
    """Conjugate directions of eight columns around one `CycleTogether`."""

    width = WIDTH

    def __init__(self, engine: MultigridDirections) -> None:
        self.engine, self.cycle = engine, CycleTogether(engine.cycle)
        order, n, blocks = engine.row_order, engine.system.unknowns, len(engine._bounds) - 1
        self.r, self.x = np.zeros((n, WIDTH)), np.zeros((n, WIDTH))
        self.short, self.z = self.cycle.right, self.cycle.result
        if order is not None:
            self.short, self.z = np.zeros((n, WIDTH), np.float32), np.zeros((n, WIDTH), np.float32)
        self.state, self.history = np.zeros((kernels.TURN + 1, WIDTH)), np.zeros((LOOK, WIDTH))
        self.members = count_threads(n, SHARED)
        self._arguments = (
            *self.cycle.arguments, *engine._rows, engine._bounds, np.empty(0, np.uint32) if order is None else order,
            self.short, self.z, np.zeros((2, n, WIDTH), np.float32), np.zeros((2, n, WIDTH)), self.x, self.r,
            np.zeros((kernels.SUMMED * blocks, WIDTH)), self.state, np.zeros((self.members, kernels.NOTES, WIDTH)),
            self.history,
        )  # fmt: skip

    def solve(self, sides: Sequence[tuple[Array, Array]], tolerances: Sequence[float]) -> list[list[float]]:
        """Improve each `x` of at most eight pairs of `b` and `x` until its residual meets its tolerance or the
        iteration is too slow; return the residual histories."""
        system, count, state = self.engine.system, len(sides), self.state
        self.x[...], self.r[...], state[...] = 0.0, 0.0, 0.0
        r = np.empty(system.unknowns)
        for column, (b, x) in enumerate(sides):
            state[kernels.NORM, column] = system.residual(b, x, r)
            self.r[:, column], self.x[:, column] = r, x
        norms, aims, going = (state[row] for row in (kernels.NORM, kernels.AIM, kernels.GOING))
        aims[:] = [*tolerances, *[math.inf] * (WIDTH - count)]
        going[:] = (norms > aims) & np.isfinite(norms)
        np.multiply(
            self.r, np.divide(1.0, norms, out=np.zeros(WIDTH), where=going > 0), out=self.short, casting="same_kind"
        )
        histories = [[float(norm)] for norm in norms[:count]]
        done = 0
        while done < MOST_ITERATIONS and going.any():
            self.history[...] = np.nan
            run_team(kernels.take_steps, LOOK, *self._arguments, members=self.members)
            done += LOOK
            for column, history in enumerate(histories):
                taken = self.history[:, column]
                history += taken[~np.isnan(taken)].tolist()
                if going[column] and is_slow(history, aims[column]):
                    going[column] = 0.0
        for column, (_, x) in enumerate(sides):
            x[...] = self.x[:, column]
        return histories


def is_slow(history: Sequence[float], tolerance: float) -> bool:
    """Return whether a run is expected to take more iterations than are done together, at its mean rate so far."""
    return len(history) - 1 + expected_left(history, tolerance) > MOST_ITERATIONS
