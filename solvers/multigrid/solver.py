"""CG preconditioned with a geometric multigrid V-cycle, symmetric and in float32.

Cell-centred coarsening by two with linear interpolation, coarse couplings summed over the faces between coarse cells
(so that a wall that closes part of a face closes part of the coupling), exact coarsest level. Source: for the method
as a whole A. McAdams, E. Sifakis, J. Teran, "A Parallel Multigrid Poisson Solver for Fluids Simulation on Large
Grids", SCA 2010; for cell-centred transfers P. Wesseling, "An Introduction to Multigrid Methods" (1992), chapter 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

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


class _MultigridCG(Prepared):
    default_max_iterations = 500

    def __init__(self, operator: PoissonOperator, cycle: VCycle) -> None:
        self.operator = operator
        self.cycle = cycle
        sizes = [level.unknowns for level in cycle.levels]
        self.info = {"levels": float(len(sizes)), "grid_complexity": sum(sizes) / max(sizes[0], 1)}

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        from relaxon.solvers.krylov import conjugate_gradients

        return conjugate_gradients(
            self.operator, b, x, monitor, max_iterations, self.cycle, flexible=True, stagnation_steps=50
        )


class VCycle:
    """The preconditioner `z ← M r`: symmetric and positive definite on the operator's range, to float32 rounding."""

    def __init__(self, operator: PoissonOperator, smoother: Smoother = "jacobi", sweeps: int = 2) -> None:
        self.levels = levels(operator)
        self.sweeps = sweeps
        self._unit = scale_of(operator)
        self._smoothers = [_smoother(level, smoother) for level in self.levels]
        self._index, self._inverse = coarsest_inverse(self.levels[-1])

    def __call__(self, r: Array, z: Array) -> None:
        """`r`, `z`: `shape3` float64; `r` is left as it is."""
        from relaxon.solvers.multigrid import kernels
        from relaxon.solvers.stencil_kernels import dot

        norm = math.sqrt(dot(r, r))
        if norm == 0.0 or not math.isfinite(norm):
            z[...] = r
            return
        finest = self.levels[0]
        kernels.scaled_to_single(r, 1.0 / norm, finest.r)
        self._descend(0)
        kernels.scaled_to_double(finest.x, norm / self._unit, z)

    def _descend(self, depth: int) -> None:
        """`level.x ← M_level level.r`."""
        from relaxon.solvers.multigrid import kernels

        level = self.levels[depth]
        if level.transfers is None or level.share is None:
            level.x.reshape(-1)[self._index] = self._inverse @ level.r.reshape(-1)[self._index]
            return
        below, smoother = self.levels[depth + 1], self._smoothers[depth]
        smoother.before(self.sweeps)
        kernels.shared_residual(level.x, level.r, level.share, level.diagonal, *level.couplings, level.wrap, level.work)
        gather = [array for t in level.transfers for array in (t.index, t.weight)]
        kernels.restrict(level.work, *gather, below.states == 1, below.r)
        self._descend(depth + 1)
        spread = [array for t in level.transfers for array in t.arguments]
        kernels.prolong_add(below.x, level.share, *spread, level.x)
        smoother.after(self.sweeps)


class _Jacobi:
    """Damped Jacobi; the sweeps after the correction are the adjoint of those before, being the same."""

    def __init__(self, level: Level) -> None:
        self.level = level
        self.damped: Single = level.inverse_diagonal(DAMPING)

    def before(self, sweeps: int) -> None:
        from relaxon.solvers.multigrid import kernels

        kernels.first_sweep(self.level.r, self.damped, self.level.x)
        self.after(sweeps - 1)

    def after(self, sweeps: int) -> None:
        from relaxon.solvers.multigrid import kernels

        level = self.level
        for _ in range(sweeps):
            kernels.jacobi_sweep(
                level.x, level.r, self.damped, level.diagonal, *level.couplings, level.wrap, level.work
            )
            level.x, level.work = level.work, level.x


class _RedBlack:
    """Gauss–Seidel on one colour, then on the other; in the opposite order after the correction."""

    def __init__(self, level: Level) -> None:
        self.level = level
        self.inverse: Single = level.inverse_diagonal(1.0)

    def before(self, sweeps: int) -> None:
        self.level.x[...] = 0
        for _ in range(sweeps):
            self._sweep((0, 1))

    def after(self, sweeps: int) -> None:
        for _ in range(sweeps):
            self._sweep((1, 0))

    def _sweep(self, colours: tuple[int, int]) -> None:
        from relaxon.solvers.multigrid import kernels

        level = self.level
        for colour in colours:
            kernels.colour_sweep(level.x, level.r, self.inverse, colour, level.diagonal, *level.couplings, level.wrap)


def _smoother(level: Level, name: Smoother) -> Any:
    """Around an odd periodic axis two cells of one colour are neighbours: damped Jacobi takes over there."""
    odd = any(w and n % 2 == 1 and n > 1 for w, n in zip(level.wrap, level.boundary.shape, strict=True))
    return _Jacobi(level) if name == "jacobi" or odd else _RedBlack(level)
