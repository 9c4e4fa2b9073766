"""CG preconditioned with a geometric multigrid V-cycle, symmetric and in float32.

Cell-centred coarsening by two with linear interpolation, coarse couplings summed over the faces between coarse cells
(so that a wall that closes part of a face closes part of the coupling), exact coarsest level. Source: for the method
as a whole A. McAdams, E. Sifakis, J. Teran, "A Parallel Multigrid Poisson Solver for Fluids Simulation on Large
Grids", SCA 2010; for cell-centred transfers P. Wesseling, "An Introduction to Multigrid Methods" (1992), chapter 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers import validation
from relaxon.solvers.engine import Monitor, Prepared, Solver
from relaxon.solvers.multigrid.hierarchy import Level, Single, coarsest_inverse, levels, scale_of
from relaxon.solvers.operator import PoissonOperator
from relaxon.solvers.solution import Result

Array = NDArray[np.float64]
Smoother = Literal["jacobi", "red-black"]
DAMPING = 6 / 7
"""ω of damped Jacobi: the best for the 7-point stencil's high frequencies (a smoothing factor of 5/7)."""

STAGNATION_STEPS = 200
"""Steps without a new least residual after which CG gives up: where κ jumps, its residual wanders for over fifty."""


@dataclass(frozen=True, slots=True)
class MultigridCG(Solver):
    """CG with a V-cycle: iteration counts that do not grow with the grid.

    Parameters
    ----------
    smoother : "jacobi" (damped) or "red-black" (Gauss–Seidel in two colours; its adjoint order after the coarse
        correction).
    sweeps : before and after the coarse correction, ≥ 1.
    """

    smoother: Smoother = "jacobi"
    sweeps: int = 2
    name: ClassVar[str] = "mg-cg"
    summary: ClassVar[str] = "geometric multigrid as preconditioner of CG"

    def __post_init__(self) -> None:
        if self.smoother not in ("jacobi", "red-black"):
            raise ValueError(f"smoother must be 'jacobi' or 'red-black', got {self.smoother!r}")
        validation.positive_int("sweeps", self.sweeps)

    def prepare(self, operator: PoissonOperator) -> Prepared:
        return _MultigridCG(operator, VCycle(operator, self.smoother, self.sweeps))


@dataclass(frozen=True, slots=True)
class CycleConstants:
    """The damping of each sweep and the over-correction, for the finest level and for all the others.

    `before` and `after` hold an ω for each sweep before and after the coarse correction. The cycle is symmetric where
    `after` is `before` reversed.
    """

    before: tuple[tuple[float, ...], tuple[float, ...]]
    after: tuple[tuple[float, ...], tuple[float, ...]]
    over: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def symmetric(cls, sweeps: int, damping: float = DAMPING) -> CycleConstants:
        """The same damping everywhere and no over-correction."""
        same = ((damping,) * sweeps, (damping,) * sweeps)
        return cls(same, same)


class _MultigridCG(Prepared):
    default_max_iterations = 500

    def __init__(self, operator: PoissonOperator, cycle: VCycle) -> None:
        self.operator = operator
        self.cycle = cycle
        self.info = cycle.info

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        from relaxon.solvers.krylov import conjugate_gradients

        return conjugate_gradients(
            self.operator, b, x, monitor, max_iterations, self.cycle, flexible=True, stagnation_steps=STAGNATION_STEPS
        )


class VCycle:
    """The preconditioner `z ← M r`: linear; with symmetric constants symmetric and positive definite on the operator's
    range, to float32 rounding.
    """

    def __init__(
        self,
        operator: PoissonOperator,
        smoother: Smoother = "jacobi",
        sweeps: int = 2,
        constants: CycleConstants | None = None,
    ) -> None:
        constants = constants or CycleConstants.symmetric(sweeps)
        self.levels = levels(operator)
        self._unit = scale_of(operator)
        self._over = constants.over
        self._smoothers = [
            _smoother(level, smoother, constants, min(depth, 1)) for depth, level in enumerate(self.levels)
        ]
        self._index, self._inverse = coarsest_inverse(self.levels[-1])
        sizes = [level.unknowns for level in self.levels]
        self.info = {"levels": float(len(sizes)), "grid_complexity": sum(sizes) / max(sizes[0], 1)}

    def __call__(self, r: Array, z: Array) -> None:
        """`r`, `z`: `shape3` float64; `r` is left as it is."""
        from relaxon.solvers.stencil_kernels import dot, scaled

        norm = math.sqrt(dot(r, r))
        if norm == 0.0 or not math.isfinite(norm):
            z[...] = r
            return
        scaled(self.unscaled(r, 1.0 / norm), norm / self._unit, z)

    def unscaled(self, r: Array, scale: float = 1.0) -> Single:
        """`unit · M (scale · r)` in float32, with the operator's unit left in; overwritten by the next call."""
        from relaxon.solvers.stencil_kernels import scaled

        finest = self.levels[0]
        scaled(r, scale, finest.r)
        self._descend(0)
        return finest.x

    def _descend(self, depth: int) -> None:
        """`level.x ← M_level level.r`."""
        from relaxon.solvers.multigrid import kernels

        level = self.levels[depth]
        if level.transfers is None or level.share is None:
            level.x.reshape(-1)[self._index] = self._inverse @ level.r.reshape(-1)[self._index]
            return
        below, smoother = self.levels[depth + 1], self._smoothers[depth]
        smoother.before()
        kernels.shared_residual(level.x, level.r, level.share, level.diagonal, *level.couplings, level.wrap, level.work)
        gather = [array for t in level.transfers for array in (t.index, t.weight)]
        kernels.restrict(level.work, *gather, below.states == 1, below.r)
        self._descend(depth + 1)
        spread = [array for t in level.transfers for array in t.arguments]
        kernels.prolong_add(below.x, np.float32(self._over[min(depth, 1)]), level.share, *spread, level.x)
        smoother.after()


class _Jacobi:
    """Damped Jacobi, each sweep with its own damping."""

    def __init__(self, level: Level, before: tuple[float, ...], after: tuple[float, ...]) -> None:
        self.level = level
        self.inverse: Single = level.inverse_diagonal()
        self._before, self._after = before, after

    def before(self) -> None:
        from relaxon.solvers.multigrid import kernels

        kernels.first_sweep(self.level.r, np.float32(self._before[0]), self.inverse, self.level.x)
        self._sweep(self._before[1:])

    def after(self) -> None:
        self._sweep(self._after)

    def _sweep(self, dampings: tuple[float, ...]) -> None:
        from relaxon.solvers.multigrid import kernels

        level = self.level
        for omega in dampings:
            operator = (level.diagonal, *level.couplings, level.wrap)
            kernels.jacobi_sweep(level.x, level.r, np.float32(omega), self.inverse, *operator, level.work)
            level.x, level.work = level.work, level.x


class _RedBlack:
    """Gauss–Seidel on one colour, then on the other; in the opposite order after the correction."""

    def __init__(self, level: Level, sweeps: int) -> None:
        self.level = level
        self.sweeps = sweeps
        self.inverse: Single = level.inverse_diagonal()

    def before(self) -> None:
        self.level.x[...] = 0
        for _ in range(self.sweeps):
            self._sweep((0, 1))

    def after(self) -> None:
        for _ in range(self.sweeps):
            self._sweep((1, 0))

    def _sweep(self, colours: tuple[int, int]) -> None:
        from relaxon.solvers.multigrid import kernels

        level = self.level
        for colour in colours:
            kernels.colour_sweep(level.x, level.r, self.inverse, colour, level.diagonal, *level.couplings, level.wrap)


def _smoother(level: Level, name: Smoother, constants: CycleConstants, which: int) -> _Jacobi | _RedBlack:
    """Around an odd periodic axis two cells of one colour are neighbours: damped Jacobi takes over there."""
    odd = any(w and n % 2 == 1 and n > 1 for w, n in zip(level.wrap, level.boundary.shape, strict=True))
    if name == "jacobi" or odd:
        return _Jacobi(level, constants.before[which], constants.after[which])
    return _RedBlack(level, len(constants.before[which]))
