"""A V-cycle as a list of steps that a team of threads takes in one call.

Imported on first use, for its weight: the compiled kernels (numba).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from relaxon.solvers.kernels.team_kernels import run_team
from relaxon.solvers.kernels.threads import Kernel
from relaxon.solvers.multigrid import table_kernels as tables
from relaxon.solvers.multigrid.cycle import Single
from relaxon.solvers.multigrid.levels import FusedLevel
from relaxon.solvers.multigrid.passes import ADD, DOWN, RESIDUAL, SOLVE, UP, Places, StepTable, take_steps

PAUSES = (64, 4096)
"""After how many calls a team is tried again, at first and at most."""
LATE = 5e-4
"""Seconds by which a call may last longer than twice its processor time."""


class TeamRunner:
    """Runs team kernels, and with one thread alone for a while after a call whose threads waited for a processor.

    Where more threads want to run than there are processors, each meeting of a team may take the system's time slice.
    Results do not depend on the number of threads.
    """

    def __init__(self) -> None:
        self._pause, self._alone = PAUSES[0], 0

    def run(self, kernel: Kernel, *args: Any, members: int) -> None:
        """Call `run_team`, with `members` threads at most."""
        if members == 1 or self._alone > 0:
            self._alone -= members > 1
            run_team(kernel, *args, members=1)
            return
        start, used = time.perf_counter(), time.thread_time()
        run_team(kernel, *args, members=members)
        if time.perf_counter() - start > 2 * (time.thread_time() - used) + LATE:
            self._alone, self._pause = self._pause, min(2 * self._pause, PAUSES[1])
        else:
            self._pause = PAUSES[0]


RUNNER = TeamRunner()
"""Of this process, as its solves share the processors."""


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
            r, z = np.zeros_like(levels[depth].r), np.zeros_like(levels[depth].z)
            self._kept += [r, z]
            row = self.rows[number]
            row[[tables.FORMER_R, tables.FORMER_Z]] = self.rows[depth, [tables.R, tables.Z]]
            row[[tables.R, tables.Z]] = tables.address_of(r), tables.address_of(z)
        for number, depth in [*enumerate(range(len(levels))), *((number, depth) for depth, number in again.items())]:
            if depth + 1 < len(levels):
                below = levels[depth + 1]
                arrays = [tables.address_of(array) for array in (below.gain, below.r, below.z)]
                self.rows[number, [tables.GAIN, tables.COARSE_R, tables.COARSE_Z]] = arrays
        self.steps = np.array(_list_steps(levels, again, 0, 0))

    def run(self, steps: Places) -> None:
        RUNNER.run(take_steps, steps, *self.arguments, members=self.members)

    def set_arrays(self, r: Single, x: Single, z: Single) -> None:
        """Have the finest level work on these, which are C-contiguous."""
        self._finest = (r, x, z)
        self.rows[0, [tables.R, tables.X, tables.Z]] = [tables.address_of(array) for array in self._finest]


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
