"""The cycle of a distributed grid of any kind, with the constants of weakly held components solved for apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from relaxon.solvers.distributed.nullspace import DistributedNullSpace
from relaxon.solvers.distributed.piece import PieceOperator
from relaxon.solvers.distributed.system import null_space_of
from relaxon.solvers.distributed.variable import DistributedVariableCycle
from relaxon.solvers.grid.poisson_grid import Robin
from relaxon.solvers.multigrid.cycle import SingleCycle
from relaxon.solvers.multigrid.deflation import DeflatedCycle, select_weak, sum_by_component

if TYPE_CHECKING:
    from relaxon.solvers.distributed.grid import DistributedPoissonGrid


def distributed_cycle(operator: PieceOperator, grid: DistributedPoissonGrid) -> SingleCycle:
    """Return `deflation.variable_cycle` of the whole grid, of which `operator` is a part; every process calls it."""
    cycle = DistributedVariableCycle(operator, grid)
    if not grid.reacts and not any(isinstance(side, Robin) for pair in grid.boundary for side in pair):
        return cycle
    components = null_space_of(operator, grid, holding_by_little=False)
    if components.labels is None:
        return cycle
    count = components.dimension + 1
    mine = sum_by_component(operator, components.labels, count)
    held, strength = grid.communicator.totals(np.concatenate(mine)).reshape(2, count)
    found = select_weak(held, strength, components.sizes, max(grid.shape))
    if found is None:
        return cycle
    number, sizes, weakly_held = found
    space = DistributedNullSpace(number[components.labels], sizes, grid.communicator, components.cells)
    return DeflatedCycle(cycle, space, weakly_held)
