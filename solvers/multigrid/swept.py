"""Levels that are smoothed by sweeps one after the other: what the cycles for varying couplings have in common."""

# Imported on first use, for their weight: the compiled kernels (numba).
from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from relaxon.solvers.multigrid.cycle import Array, CycleLevel, Single, SingleCycle, run_cycle

if TYPE_CHECKING:
    from relaxon.solvers.multigrid.sweeps import FaceOperator

BEYOND_RANGE = np.errstate(over="ignore", invalid="ignore")
"""Decorates steps whose values may leave float32's range: the end of the solve says so, not a warning."""


def chebyshev_dampings(ndim: int, sweeps: int) -> tuple[float, ...]:
    """Return the dampings of so many Jacobi sweeps that together damp the high frequencies best.

    They are `1/root` of the Chebyshev polynomial on the eigenvalues of `D⁻¹A` from `1/ndim` to 2, the largest root
    last.
    """
    low, high = 1.0 / ndim, 2.0
    angles = np.pi * (2 * np.arange(sweeps) + 1) / (2 * sweeps)
    roots = (high + low) / 2 + (high - low) / 2 * np.cos(angles)
    return tuple(float(1 / root) for root in sorted(roots))


@dataclass(slots=True)
class SweptLevel(CycleLevel):
    """One level: each step of the cycle is a pass of its own. `x` is the correction."""

    diagonal: Single
    inverse_diagonal: Single
    x: Single
    r: Single
    work: Single
    dampings: Sequence[np.float32]
    """Of the sweeps before the coarse correction; those after it run in the reverse order."""
    visits: int = field(default=1, kw_only=True)
    spare: Single | None = field(default=None, kw_only=True)
    """Further work space, where there has been a use for it."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.diagonal.shape

    def twin(self) -> Self:
        """Return the same level with work space of its own."""
        x, r, work = (np.zeros_like(array) for array in (self.x, self.r, self.work))
        return replace(self, x=x, r=r, work=work, spare=None)

    def smooth_residual_restrict(self, below: Any) -> None:
        self.smooth_to_residual()
        self.restrict(below)

    def prolong_correct_smooth(self, below: Any) -> None:
        self.correct(below)
        self.smooth()

    def smooth_to_residual(self) -> None:
        """Smooth with `x = 0` before, and take the residual."""
        self.smooth_from_zero()
        self.take_residual()

    def smooth_from_zero(self) -> None:
        """Smooth with `x = 0` before."""
        self._first_sweep(self.dampings[0])
        for omega in self.dampings[1:]:
            self._sweep(omega)
            self.x, self.work = self.work, self.x

    def smooth(self) -> None:
        """Smooth by the adjoint of `smooth_from_zero`."""
        for omega in self.dampings[::-1]:
            self._sweep(omega)
            self.x, self.work = self.work, self.x

    @abstractmethod
    def _first_sweep(self, omega: np.float32) -> None:
        """`x ← ωD⁻¹ r`."""

    @abstractmethod
    def _sweep(self, omega: np.float32) -> None:
        """`work ← x + ωD⁻¹ (r − A x)`."""

    @abstractmethod
    def take_residual(self) -> None:
        """`work ← r − A x`, as it is restricted."""

    @abstractmethod
    def restrict(self, below: Any) -> None:
        """`below.r ← Pᵀ work`."""

    @abstractmethod
    def correct(self, below: Any) -> None:
        """`x ← x + P below.x`."""


class FaceSweeps(SweptLevel):
    """A level whose operator is given by faces, with damped Jacobi sweeps; written first among several bases.

    Two of them are done in one pass over memory, except around periodic axes.
    """

    __slots__ = ()
    operator: FaceOperator

    @property
    @abstractmethod
    def residual_weight(self) -> Single:
        """What the residual is multiplied by before it is restricted."""

    def smooth_to_residual(self) -> None:
        first, *left = self.dampings
        if self.operator.wrap.any() or not left:
            SweptLevel.smooth_to_residual(self)
            return
        before: np.float32 | None = first  # the sweep from zero is part of the first pair
        while len(left) > 1:
            self._pair(before, left.pop(0), left.pop(0), self.x, self.work)
            self.x, self.work, before = self.work, self.x, None
        if not left:
            self.take_residual()
        elif before is not None:
            self._pair(before, left[0], None, self.x, self.work)
        else:
            self.spare = np.empty_like(self.x) if self.spare is None else self.spare
            self._pair(None, left[0], None, self.spare, self.work)
            self.x, self.spare = self.spare, self.x

    def smooth(self) -> None:
        left = list(self.dampings[::-1])
        while len(left) > 1 and not self.operator.wrap.any():
            self._pair(None, left.pop(0), left.pop(0), self.x, self.work)
            self.x, self.work = self.work, self.x
        for omega in left:
            self._sweep(omega)
            self.x, self.work = self.work, self.x

    def _pair(
        self, before: np.float32 | None, one: np.float32, two: np.float32 | None, kept: Single, result: Single
    ) -> None:
        """Do what `paired_sweeps.pair` does, from `x` or from zero."""
        from relaxon.solvers.multigrid import paired_sweeps

        weights = self.inverse_diagonal, self.residual_weight
        paired_sweeps.pair(self.x, before, one, two, self.r, *weights, self.operator, kept, result)

    def take_residual(self) -> None:
        from relaxon.solvers.multigrid import sweeps

        sweeps.weighted_residual(self.x, self.r, self.residual_weight, self.operator, self.work)

    def _first_sweep(self, omega: np.float32) -> None:
        from relaxon.solvers.multigrid import sweeps

        sweeps.first_sweep(self.r, omega, self.inverse_diagonal, self.x)

    def _sweep(self, omega: np.float32) -> None:
        from relaxon.solvers.multigrid import sweeps

        sweeps.jacobi_sweep(self.x, self.r, omega, self.inverse_diagonal, self.operator, self.work)


class SweptCycle(SingleCycle):
    """A cycle over levels that are swept, the finest first."""

    levels: Sequence[SweptLevel]

    def twin(self) -> Self:
        twin = copy(self)
        twin.levels = [level.twin() for level in self.levels]
        return twin

    def unscaled(self, r: Array, scale: float = 1.0) -> Single:
        from relaxon.solvers.grid.stencil_kernels import scaled

        scaled(r, scale, self.levels[0].r)
        run_cycle(self.levels)
        return self.levels[0].x
