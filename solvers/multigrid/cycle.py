"""The multigrid cycle: the recursion through the levels, and what a cycle in float32 is to float64 arrays."""

# Imported on first use, for their weight: the compiled kernels (numba).
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Single = NDArray[np.float32]


class CycleLevel(ABC):
    """What the cycle asks of a level; a method does several steps where it does them in one pass over memory."""

    visits: int
    """How often one cycle visits the level."""

    @abstractmethod
    def smooth_residual_restrict(self, below: Any) -> None:
        """Steps 1 to 3, from the level's right-hand side to that of the level below."""

    @abstractmethod
    def prolong_correct_smooth(self, below: Any) -> None:
        """Steps 5 and 6, from the correction of the level below to the level's own."""

    def solve(self) -> None:
        """Solve on the last level, exactly or by sweeps."""
        raise NotImplementedError

    def begin_visit(self) -> None:
        """Set the correction aside and take its residual as right-hand side, to visit the level once more."""
        raise NotImplementedError

    def end_visit(self) -> None:
        """Add the correction that was set aside."""
        raise NotImplementedError


def run_cycle(levels: Sequence[CycleLevel], depth: int = 0) -> None:
    """Approximate the solution of a level's `A z = r` in the level's own arrays: `z ← M r`.

    The second smoothing is the adjoint of the first, so that `M` is symmetric.

    Parameters
    ----------
    levels : the finest first; the last one is solved.
    depth : the level to begin at.
    """
    level = levels[depth]
    if depth + 1 == len(levels):
        level.solve()
        return
    below = levels[depth + 1]
    # (1) Smooth from zero, (2) take the residual, (3) restrict it.
    level.smooth_residual_restrict(below)
    # (4) Recurse, on further visits with the residual that the visits before have left.
    run_cycle(levels, depth + 1)
    for _ in range(below.visits - 1):
        below.begin_visit()
        run_cycle(levels, depth + 1)
        below.end_visit()
    # (5) Prolong and correct, (6) smooth.
    level.prolong_correct_smooth(below)


class SingleCycle(ABC):
    """A cycle in float32 as a preconditioner of float64 arrays: `z ← M r`.

    `r` is scaled to norm 1 on the way, so that it lies in float32's range, and is not written to.
    """

    unit: float
    """What the cycle's operator is divided by."""
    info: dict[str, float]
    """Figures for display."""

    def twin(self) -> SingleCycle | None:
        """Return the same cycle with work space of its own; None where there is no such cycle."""
        return None

    @abstractmethod
    def unscaled(self, r: Array, scale: float = 1.0) -> Single:
        """Return `unit · M (scale · r)`, of `shape3` as `r`; the next call overwrites it."""

    def direction(self, r: Array) -> NDArray[Any]:
        """Return a multiple of `M r`, in float32 where that can hold it; the next call may overwrite it."""
        return self.unscaled(r)

    def __call__(self, r: Array, z: Array) -> None:
        """`z ← M r`; both `shape3` float64."""
        from relaxon.solvers.grid.stencil_kernels import dot, scaled

        norm = math.sqrt(dot(r, r))
        if norm == 0.0 or not math.isfinite(norm):
            z[...] = r
            return
        scaled(self.unscaled(r, 1.0 / norm), norm / self.unit, z)
