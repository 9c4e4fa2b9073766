"""The V-cycle with learned constants or a network, as `dcdm` uses it, for a preconditioner of a grid."""

from __future__ import annotations

from relaxon.solvers.dcdm.coupling_choice import make_coupling_cycle
from relaxon.solvers.dcdm.cycle import constants_for
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.multigrid.cycle import SingleCycle
from relaxon.solvers.multigrid.fused import FusedCycle
from relaxon.solvers.multigrid.preconditioner import FusedPreconditioner


def learned_cycle(operator: PoissonOperator) -> SingleCycle:
    """Return the V-cycle that `dcdm` uses: with learned constants for κ = 1, otherwise as a network chooses."""
    if operator.grid.constant:
        return FusedPreconditioner(FusedCycle(operator, constants_for(operator.grid.ndim)))
    return make_coupling_cycle(operator)
