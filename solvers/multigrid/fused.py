"""The fused V-cycle on a grid with κ = 1, in float32."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Self

from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.multigrid.constants import LearnedConstants
from relaxon.solvers.multigrid.cycle import Single
from relaxon.solvers.multigrid.level_builder import FusedStage, LevelBuilder
from relaxon.solvers.multigrid.levels import FusedLevel, Shape

if TYPE_CHECKING:
    from relaxon.solvers.multigrid.program import CycleProgram


class LevelCycle(ABC):
    """A V-cycle on arrays of `shape`, in float32, for the operator divided by `unit`."""

    shape: Shape
    unit: float
    info: dict[str, float]
    """Figures for display."""

    def twin(self) -> Self | None:
        """Return the same cycle with work space of its own; None where there is no such cycle."""
        return None

    def program(self, r: Single, x: Single, z: Single) -> CycleProgram | None:
        """Return the steps of `apply` to these arrays, as a team of threads takes them; None where there are none."""
        return None

    @abstractmethod
    def apply(self, r: Single, x: Single, z: Single) -> None:
        """`z ← M r`; `x` is overwritten on the way and must be neither `r` nor `z`. All of `shape`, float32."""


class FusedCycle(LevelCycle):
    """The V-cycle `z ← M r` on a grid with κ = 1: linear, symmetric, positive definite on the operator's range.

    It works on arrays of `shape`, which for a grid of two dimensions is `(nx, 1, ny)`, for the operator divided by
    `unit`, the largest `1/h²`.

    Parameters
    ----------
    operator : of a grid without `coefficient`.
    constants : by the number of axes that a level is coarsened along: those of the grid's dimension for most levels,
        those of fewer dimensions for levels that are coarsened along fewer axes, as the spacing differs.
    """

    def __init__(self, operator: PoissonOperator, constants: dict[int, LearnedConstants]) -> None:
        grid, planes = operator.grid, operator.planes
        self.shape = planes.shape
        self.unit = planes.unit
        builder = LevelBuilder(planes, constants)
        self.wrap = builder.wrap
        self.levels, _ = builder.build(FusedStage.first(grid.cells, planes), grid.unknowns)
        self.visits = set_visits(self.levels, constants, grid.ndim)
        self.info = {
            "levels": float(len(self.levels)),
            "grid_complexity": sum(math.prod(level.shape) for level in self.levels) / math.prod(self.shape),
        }

        self._program: CycleProgram | None = None

    def twin(self) -> Self:
        twin = copy(self)
        twin.levels, twin._program = [level.twin() for level in self.levels], None
        return twin

    def program(self, r: Single, x: Single, z: Single) -> CycleProgram:
        from relaxon.solvers.multigrid.program import CycleProgram

        members = self.levels[0].chunks
        if self._program is None or self._program.members != members:
            self._program = CycleProgram(self.levels, members)
        self._program.set_arrays(r, x, z)
        return self._program

    def apply(self, r: Single, x: Single, z: Single) -> None:
        program = self.program(r, x, z)
        program.run(program.steps)


def set_visits(levels: Sequence[FusedLevel], constants: dict[int, LearnedConstants], ndim: int) -> int:
    """Have a cycle visit its second level as often as these constants say, and return how often that is.

    The last level, which is solved exactly, is visited once.
    """
    visits = constants[ndim].visits if ndim in constants else 1
    if len(levels) > 2:
        levels[1].visits = visits
    return visits
