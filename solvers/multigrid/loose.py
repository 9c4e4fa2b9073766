"""The V-cycle where a component is held by next to nothing: a small reaction, or a side that gives back little.

Such a component's constant is almost a null vector, whose part of the solution float32 cannot hold beside the rest. So
it is taken out of what the cycle sees, and solved for in float64: `M = P M₀ P + Σ_c 1_c 1_cᵀ / (1_cᵀ A 1_c)`, with P
the projection that leaves each such component without its mean. Source: R. A. Nicolaides, "Deflation of Conjugate
Gradients with Applications to Boundary Value Problems", SIAM J. Numer. Anal. 24 (1987), in its additive form.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.couplings import by_layer, reaction_term, side_couplings
from relaxon.solvers.grid.nullspace import NullSpace
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.grid.sides import Robin
from relaxon.solvers.multigrid.cycle import Array, Single, SingleCycle
from relaxon.solvers.multigrid.variable import VariableCycle
from relaxon.solvers.multigrid.variable_levels import Smoother

LOOSE = 0.1
"""A component counts as held by next to nothing where what holds it is below this part of `diagonal / n²`, n the cells
of the longest axis, or of the component where these are fewer: an order below the least eigenvalue that a constant is
not part of."""
SMALL = 64
"""Of a component of so few cells all of that: it may lie in one coarse cell, whose correction serves others."""


def variable_cycle(operator: PoissonOperator, smoother: Smoother = "jacobi", sweeps: int = 2) -> SingleCycle:
    """Return the V-cycle for any coefficients, with constants solved for apart where next to nothing holds them."""
    cycle, found = VariableCycle(operator, smoother, sweeps), loose_components(operator)
    return cycle if found is None else LooseCycle(cycle, *found)


def loose_components(operator: PoissonOperator) -> tuple[NullSpace, NDArray[np.float64]] | None:
    """Find the components that next to nothing holds, and `1ᵀ A 1` of each; None where there are none."""
    grid = operator.grid
    if grid.reaction is None and not any(isinstance(side, Robin) for pair in grid.boundary for side in pair):
        return None
    loose = NullSpace.of(grid, holding_by_little=False)
    if loose.labels is None:
        return None
    count = loose.dimension + 1
    labels = loose.labels.reshape(-1)
    term = reaction_term(grid)
    excess = np.zeros(grid.shape3) if term is None else term
    for _, layer, values in by_layer(side_couplings(grid)):
        excess[layer] += values
    held = np.bincount(labels, excess.reshape(-1), count)
    strength = np.bincount(labels, np.asarray(operator.diagonal, np.float64).reshape(-1), count)
    length = np.minimum(loose.sizes, max(grid.shape)).astype(np.float64)
    few = (held > 0) & (held * length**2 < np.where(length <= SMALL, 1.0, LOOSE) * strength)
    few[0] = False
    if not few.any():
        return None
    number = np.cumsum(few) * few
    space = NullSpace(number.astype(np.int32)[loose.labels], np.concatenate([[0], loose.sizes[few]]))
    return space, np.concatenate([[np.inf], held[few]])


class LooseCycle(SingleCycle):
    """A cycle with the constants of some components solved for apart.

    Parameters
    ----------
    space : these components.
    held : `1ᵀ A 1` of each, that of number 0 infinite.
    """

    def __init__(self, cycle: SingleCycle, space: NullSpace, held: NDArray[np.float64]) -> None:
        self._cycle, self._space, self._held = cycle, space, held
        self.unit, self.info = cycle.unit, cycle.info | {"loose_components": float(space.dimension)}

    def unscaled(self, r: Array, scale: float = 1.0) -> Single:
        z = np.empty_like(r)
        self(scale * r, z)
        return (self.unit * z).astype(np.float32)

    def direction(self, r: Array) -> NDArray[Any]:
        z = np.empty_like(r)
        self(r, z)
        return z

    def __call__(self, r: Array, z: Array) -> None:
        from relaxon.solvers.grid import stencil_kernels

        sums = self._space.sums(r)
        self._cycle(self._space.project(r.copy()), z)
        self._space.project(z)
        stencil_kernels.subtract_component_means(z, self._space.labels, -sums / self._held)
