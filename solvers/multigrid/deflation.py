"""The V-cycle where next to nothing holds a component: a small reaction, or a side that gives little back.

The constant on such a component is almost a null vector, whose part of the solution float32 cannot hold beside the
rest. So it is taken out of what the cycle sees, and solved for in float64: `M = P M₀ P + Σ_c 1_c 1_cᵀ / (1_cᵀ A 1_c)`.
The projection `P` takes its mean from each such component. Source: R. A. Nicolaides, "Deflation of Conjugate Gradients
with Applications to Boundary Value Problems", SIAM J. Numer. Anal. 24 (1987), in its additive form.
"""

# Imported on first use, for their weight: the compiled kernels (numba).
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

WEAK = 0.1
"""A component is held weakly where what holds it is below this part of `diagonal / n²`, with n the cells of the longest
axis, or of the component where these are fewer. That is an order of magnitude below the least eigenvalue whose vector
is no constant."""
SMALL = 64
"""A component of at most so many cells is held weakly below all of `diagonal / n²`: it may lie in one coarse cell,
whose correction serves others."""


def variable_cycle(operator: PoissonOperator, smoother: Smoother = "jacobi", sweeps: int = 2) -> SingleCycle:
    """Return the V-cycle for any coefficients, with the constants of weakly held components solved for apart."""
    cycle, found = VariableCycle(operator, smoother, sweeps), find_weak_components(operator)
    return cycle if found is None else DeflatedCycle(cycle, *found)


def find_weak_components(operator: PoissonOperator) -> tuple[NullSpace, NDArray[np.float64]] | None:
    """Return the weakly held components, and `1ᵀ A 1` of each; None where there are none."""
    grid = operator.grid
    if grid.reaction is None and not any(isinstance(side, Robin) for pair in grid.boundary for side in pair):
        return None
    components = NullSpace.of(grid, holding_by_little=False)
    if components.labels is None:
        return None
    held, strength = sum_by_component(operator, components.labels, components.dimension + 1)
    found = select_weak(held, strength, components.sizes, max(grid.shape))
    if found is None:
        return None
    number, sizes, held = found
    return NullSpace(number[components.labels], sizes), held


def sum_by_component(operator: PoissonOperator, labels: NDArray[np.int32], count: int) -> list[NDArray[Any]]:
    """Return two sums over each component, `(count,)`: of what holds its cells, and of the operator's diagonal. That of
    number 0, which is no component, is arbitrary."""
    grid = operator.grid
    term = reaction_term(grid)
    excess = np.zeros(labels.shape) if term is None else term
    for _, layer, values in by_layer(side_couplings(grid)):
        excess[layer] += values
    parts = (excess, np.asarray(operator.diagonal, np.float64))
    if count == 2:  # one component, and what is none
        one = labels == 1
        return [np.array([0.0, part.sum(where=one)]) for part in parts]
    return [np.bincount(labels.reshape(-1), part.reshape(-1), count) for part in parts]


def select_weak(
    held: NDArray[np.float64], strength: NDArray[np.float64], sizes: NDArray[np.int64], longest: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float64]] | None:
    """Select the weakly held of components; number 0 stands for all other cells.

    `held` and `strength` are from `sum_by_component`, `sizes` are in cells, `longest` is the grid's longest axis.
    Returns the number that each component has among those selected (0 for the others), their sizes, and what holds
    them; None where none is held weakly.
    """
    length = np.minimum(sizes, longest).astype(np.float64)
    weak = (held > 0) & (held * length**2 < np.where(length <= SMALL, 1.0, WEAK) * strength)
    weak[0] = False
    if not weak.any():
        return None
    number = (np.cumsum(weak) * weak).astype(np.int32)
    return number, np.concatenate([[0], sizes[weak]]), np.concatenate([[np.inf], held[weak]])


class DeflatedCycle(SingleCycle):
    """A cycle beside which the constants of some components are solved for.

    Parameters
    ----------
    space : these components.
    held : `1ᵀ A 1` of each; infinite for number 0.
    """

    def __init__(self, cycle: SingleCycle, space: NullSpace, held: NDArray[np.float64]) -> None:
        self._cycle, self._space, self._held = cycle, space, held
        self.unit, self.info = cycle.unit, cycle.info | {"find_weak_components": float(space.dimension)}

    @property
    def cycle(self) -> SingleCycle:
        """The cycle beside which these constants are solved for."""
        return self._cycle

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
