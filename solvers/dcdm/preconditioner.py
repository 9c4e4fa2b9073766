"""The V-cycle with learned constants or a network, as `dcdm` uses it, for a preconditioner of a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.solvers.dcdm.coupling_choice import make_coupling_cycle
from relaxon.solvers.dcdm.cycle import constants_for
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.multigrid.cycle import SingleCycle
from relaxon.solvers.multigrid.fused import FusedCycle
from relaxon.solvers.multigrid.preconditioner import FusedPreconditioner, as_linear_operator, unlearned_cycle

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator


def make_preconditioner(operator: PoissonOperator, learned: bool) -> LinearOperator:
    """Return a V-cycle of a grid's operator on packed vectors, for `PoissonGrid.preconditioner`."""
    return as_linear_operator(operator, learned_cycle(operator) if learned else unlearned_cycle(operator))


def learned_cycle(operator: PoissonOperator) -> SingleCycle:
    """Return the V-cycle that `dcdm` uses: with learned constants for κ = 1, otherwise as a network chooses."""
    if operator.grid.constant:
        return FusedPreconditioner(FusedCycle(operator, constants_for(operator.grid.ndim)))
    return make_coupling_cycle(operator)
