"""CG preconditioned with a geometric multigrid V-cycle in float32, without learning.

Cells are coarsened by two, coarse couplings are sums over the faces between coarse cells (so that a wall that closes
part of a face closes part of the coupling), and the coarsest level is solved exactly. Where κ is 1 the cycle is the
fused one that `dcdm` runs with learned constants, here with those of Chebyshev's polynomial. Elsewhere its transfers
follow the couplings.

Source: for the method as a whole A. McAdams, E. Sifakis, J. Teran, "A Parallel Multigrid Poisson Solver for Fluids
Simulation on Large Grids", SCA 2010; for cell-centred transfers P. Wesseling, "An Introduction to Multigrid Methods"
(1992), chapter 5.
"""

# Imported on first use, for their weight: `solvers.krylov.conjugate_gradients`, `preconditioner`.

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.core.solution import Result
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.interface.engine import Monitor, Prepared, Solver
from relaxon.solvers.multigrid.cycle import SingleCycle
from relaxon.solvers.multigrid.deflation import variable_cycle
from relaxon.solvers.multigrid.variable_levels import Smoother

Array = NDArray[np.float64]

STAGNATION_STEPS = 200
"""Steps without a new least residual after which CG gives up: where κ jumps, the residual wanders for over fifty."""


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
        return _MultigridCG(operator, self.cycle(operator))

    def cycle(self, operator: PoissonOperator) -> SingleCycle:
        """Return the V-cycle, which is linear and symmetric."""
        # Here, as that module needs this package.
        from relaxon.solvers.multigrid.preconditioner import unlearned_cycle

        if self.smoother == "jacobi" and self.sweeps == 2:
            return unlearned_cycle(operator)
        return variable_cycle(operator, self.smoother, self.sweeps)


class _MultigridCG(Prepared):
    default_max_iterations = 500
    by_planes = False

    def __init__(self, operator: PoissonOperator, cycle: SingleCycle) -> None:
        self.operator = operator
        self.cycle = cycle
        self.info = cycle.info

    def twin(self) -> Prepared | None:
        cycle = self.cycle.twin()
        return None if cycle is None else _MultigridCG(self.operator, cycle)

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        from relaxon.solvers.krylov.conjugate_gradients import conjugate_gradients

        return conjugate_gradients(
            self.operator, b, x, monitor, max_iterations, self.cycle, flexible=True, stagnation_steps=STAGNATION_STEPS
        )
