"""The cycle of a distributed grid of any kind, with constants solved for apart where next to nothing holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from relaxon.solvers.distributed.kinds import null_space_of
from relaxon.solvers.distributed.nullspace import DistributedNullSpace
from relaxon.solvers.distributed.piece import PieceOperator
from relaxon.solvers.distributed.variable import DistributedVariableCycle
from relaxon.solvers.grid.couplings import by_layer, reaction_term, side_couplings
from relaxon.solvers.grid.poisson_grid import Robin
from relaxon.solvers.multigrid.cycle import SingleCycle
from relaxon.solvers.multigrid.loose import LOOSE, SMALL, LooseCycle

if TYPE_CHECKING:
    from relaxon.solvers.distributed.grid import DistributedPoissonGrid


def distributed_cycle(operator: PieceOperator, grid: DistributedPoissonGrid) -> SingleCycle:
    """As `loose.variable_cycle` on the whole grid, which `operator` is a part of; every process calls it."""
    communicator = grid.communicator
    shape = (1,) * (3 - grid.ndim) + grid.shape
    cycle = DistributedVariableCycle(
        operator,
        grid.boundary,
        (shape[0], shape[1], shape[2]),
        grid.around,
        communicator,
        grid.decomposition,
        grid.closes,
        grid.reacts,
    )
    if not grid.reacts and not any(isinstance(side, Robin) for pair in grid.boundary for side in pair):
        return cycle
    loose = null_space_of(operator, grid, holding_by_little=False)
    if loose.labels is None:
        return cycle
    count, labels = loose.dimension + 1, loose.labels.reshape(-1)
    term = reaction_term(operator.grid)
    excess = np.zeros(loose.labels.shape) if term is None else term
    for _, layer, values in by_layer(side_couplings(operator.grid)):
        excess[layer] += values
    mine = [np.bincount(labels, part.reshape(-1), count) for part in (excess, operator.diagonal)]
    held, strength = communicator.totals(np.concatenate(mine)).reshape(2, count)
    length = np.minimum(loose.sizes, max(grid.shape)).astype(np.float64)
    few = (held > 0) & (held * length**2 < np.where(length <= SMALL, 1.0, LOOSE) * strength)
    few[0] = False
    if not few.any():
        return cycle
    number = (np.cumsum(few) * few).astype(np.int32)
    sizes = np.concatenate([[0], loose.sizes[few]])
    space = DistributedNullSpace(number[loose.labels], sizes, communicator, loose.cells)
    return LooseCycle(cycle, space, np.concatenate([[np.inf], held[few]]))
