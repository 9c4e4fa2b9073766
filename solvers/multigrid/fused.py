"""The fused V-cycle on a grid with κ = 1, in float32."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from copy import copy
from typing import Self

import numpy as np

from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.multigrid.building import FusedLevel, LevelBuilder, Shape, Stage
from relaxon.solvers.multigrid.constants import LearnedConstants
from relaxon.solvers.multigrid.single import Single

Wrap = tuple[bool, bool, bool]


class LevelCycle(ABC):
    """A V-cycle through levels that have been built, for arrays of `shape` and the operator divided by `unit`.

    Parameters
    ----------
    levels : the finest first; the last is solved exactly.
    wrap : along which axes the levels go around.
    visits : how often the second level is gone through.
    """

    shape: Shape
    unit: float
    info: dict[str, float]
    """Figures for people."""

    def __init__(self, levels: list[FusedLevel], wrap: Wrap, visits: int) -> None:
        self.levels = levels
        self.wrap = wrap
        self.visits = visits

    def twin(self) -> Self:
        """Return the same cycle with work space of its own."""
        made = copy(self)
        made.levels = [level.twin() for level in self.levels]
        return made

    @abstractmethod
    def apply(self, r: Single, x: Single, z: Single) -> None:
        """`z ← M r`; `x` is overwritten on the way and must be neither `r` nor `z`. All of `shape`, float32."""

    def run(self, depth: int) -> None:
        """`z ← M r` of a level, in its own arrays."""
        level = self.levels[depth]
        if level.inverse is not None:
            assert level.r is not None
            assert level.z is not None
            if depth == 0:
                level.z[...] = 0
            level.z.reshape(-1)[level.index] = level.inverse @ level.r.reshape(-1)[level.index]
            return
        self._descend(depth)
        self.run(depth + 1)
        if depth == 0 and self.levels[1].inverse is None:
            self._visit_again()
        self._ascend(depth)

    def _descend(self, depth: int) -> None:
        from relaxon.solvers.multigrid import passes

        level, below = self.levels[depth], self.levels[depth + 1]
        passes.descend(level, below.gain, below.r)

    def _ascend(self, depth: int) -> None:
        from relaxon.solvers.multigrid import passes

        level, below = self.levels[depth], self.levels[depth + 1]
        passes.ascend(level, below.gain, below.z)

    def _visit_again(self) -> None:
        """`z ← z + M (r − A z)` on the second level."""
        level = self.levels[1]
        for _ in range(self.visits - 1):
            assert level.r is not None
            assert level.z is not None
            r, z = level.r, level.z
            level.r, level.z = level.again or (np.zeros_like(r), np.zeros_like(z))
            self._residual(level, r, z, level.r)
            self.run(1)
            level.z += z
            level.again = (level.r, z)
            level.r = r

    def _residual(self, level: FusedLevel, r: Single, z: Single, out: Single) -> None:
        from relaxon.solvers.multigrid import passes

        passes.residual(level, r, z, out)


class FusedCycle(LevelCycle):
    """The V-cycle `z ← M r` on a grid with κ = 1: linear, symmetric, positive definite on the operator's range.

    It works on arrays of `shape`, which for a grid of two dimensions is `(nx, 1, ny)`, for the operator divided by
    `unit`, the largest `1/h²`.

    Parameters
    ----------
    operator : of a grid without `coefficient`.
    constants : of the dimension of the grid, with which every level is smoothed whose axes are coarsened together;
        levels that are coarsened along fewer axes (the spacing differs) use those of fewer dimensions.
    """

    def __init__(self, operator: PoissonOperator, constants: dict[int, LearnedConstants]) -> None:
        grid, planes = operator.grid, operator.planes
        self.shape = planes.shape
        self.unit = planes.unit
        builder = LevelBuilder(planes, constants)
        levels, _ = builder.built(Stage.first(grid.cells, planes), grid.unknowns)
        super().__init__(levels, builder.wrap, visits_of(constants, grid.ndim))
        self.info = {
            "levels": float(len(self.levels)),
            "grid_complexity": sum(math.prod(level.shape) for level in self.levels) / math.prod(self.shape),
        }

    def apply(self, r: Single, x: Single, z: Single) -> None:
        finest = self.levels[0]
        finest.r, finest.x, finest.z = r, x, z
        self.run(0)


def visits_of(constants: dict[int, LearnedConstants], ndim: int) -> int:
    """How often these constants have the second level gone through."""
    return constants[ndim].visits if ndim in constants else 1
