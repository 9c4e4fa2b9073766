"""A V-cycle as a list of steps that a team of threads takes in one call.

Imported on first use, for its weight: the compiled kernels (numba).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from relaxon.solvers.kernels.address_kernels import address
from relaxon.solvers.kernels.memory import allocate_zeros
from relaxon.solvers.kernels.team_kernels import run_team
from relaxon.solvers.multigrid import table_kernels as tables
from relaxon.solvers.multigrid.cycle import Single
from relaxon.solvers.multigrid.levels import FusedLevel
from relaxon.solvers.multigrid.passes import ADD, DOWN, RESIDUAL, SOLVE, UP, Places, StepTable, take_steps


class CycleProgram(StepTable):
    """The steps of `run_cycle` on these levels, and the rows that they refer to.

    Row `i` is level `i`; a level that is visited again has one more row, with a right-hand side and a correction of its
    own.
    """

    def __init__(self, levels: Sequence[FusedLevel], members: int) -> None:
        self._kept: list[Single] = []
        visited = [depth for depth, level in enumerate(levels) if level.visits > 1]
        again = {depth: len(levels) + i for i, depth in enumerate(visited)}
        super().__init__([*levels, *(levels[depth] for depth in visited)], members)
        for depth, number in again.items():
            r, z = (allocate_zeros(array.shape, np.float32) for array in (levels[depth].r, levels[depth].z))
            self._kept += [r, z]
            row = self.rows[number]
            row[[tables.FORMER_R, tables.FORMER_Z]] = self.rows[depth, [tables.R, tables.Z]]
            row[[tables.R, tables.Z]] = address(r), address(z)
        for number, depth in [*enumerate(range(len(levels))), *((number, depth) for depth, number in again.items())]:
            if depth + 1 < len(levels):
                below = levels[depth + 1]
                arrays = [address(array) for array in (below.gain, below.r, below.z)]
                self.rows[number, [tables.GAIN, tables.COARSE_R, tables.COARSE_Z]] = arrays
        self.steps = np.array(_list_steps(levels, again, 0, 0))

    def run(self, steps: Places) -> None:
        run_team(take_steps, steps, *self.arguments, members=self.members)

    def set_arrays(self, r: Single, x: Single, z: Single) -> None:
        """Have the finest level work on these, which are C-contiguous."""
        self._finest = (r, x, z)
        self.rows[0, [tables.R, tables.X, tables.Z]] = [address(array) for array in self._finest]


def _list_steps(levels: Sequence[FusedLevel], again: dict[int, int], depth: int, number: int) -> list[tuple[int, int]]:
    """Return the kinds of steps from a level on, and the row of each; `number` is the level's own."""
    if depth + 1 == len(levels):
        return [(SOLVE, number)]
    below = depth + 1
    steps = [(DOWN, number), *_list_steps(levels, again, below, below)]
    for _ in range(levels[below].visits - 1):
        other = again[below]
        steps += [(RESIDUAL, other), *_list_steps(levels, again, below, other), (ADD, other)]
    return [*steps, (UP, number)]
