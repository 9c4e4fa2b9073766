"""The outer iteration around the V-cycle through block levels."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.amg import direction_kernels as kernels
from relaxon.solvers.sparse.amg.cycle import Cycle
from relaxon.solvers.sparse.amg.engine import MultigridDirections, permute
from relaxon.solvers.sparse.amg.hierarchy import Hierarchy
from relaxon.solvers.sparse.engine import MatrixEngine, Precondition
from relaxon.solvers.sparse.nodal.blocks import Floats
from relaxon.solvers.sparse.nodal.cycle import BlockCycle
from relaxon.solvers.sparse.nodal.hierarchy import BlockHierarchy
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem


class NodeDirections(MultigridDirections):
    """Conjugate directions in float64, as in `MultigridDirections`, around smoothed aggregation of nodes."""

    @classmethod
    def of(cls, system: MatrixSystem) -> NodeDirections:
        """Set up the levels of a system whose near-null vectors are known."""
        return cls(system, cast(Hierarchy, BlockHierarchy.of(system)))

    def update(self, system: MatrixSystem) -> MatrixEngine | None:
        return None

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        return tuple((level.unknowns, level.entries) for level in cast(BlockHierarchy, self.hierarchy).levels)

    @property
    def row_order(self) -> NDArray[Any] | None:
        return None  # the order here is one of nodes, not of unknowns

    def preconditioner(self) -> Precondition:
        """Return the V-cycle, which is linear and symmetric, with its own work vectors."""
        hierarchy = cast(BlockHierarchy, self.hierarchy)
        cycle, place, scale = BlockCycle(hierarchy), hierarchy.place, hierarchy.scale

        def precondition(r: Array, z: Array) -> None:
            cycle.right[place] = r
            z[...] = np.take(cycle.apply(), place)
            z *= scale

        return precondition

    def _cycle_through(self, hierarchy: Hierarchy) -> Cycle:
        self._place = cast(BlockHierarchy, hierarchy).place
        return cast(Cycle, BlockCycle(cast(BlockHierarchy, hierarchy)))

    @property
    def is_plain(self) -> bool:
        return False  # the cycle has no kernel for all levels

    def _precondition(self, short: Floats) -> Floats:
        permute(kernels.scatter, short, self._place, self.cycle.right)
        permute(kernels.gather, self.cycle.apply(), self._place, z := np.empty_like(short))
        return z
