"""A symmetric V-cycle through block levels."""

from __future__ import annotations

import numpy as np

from relaxon.solvers.sparse.nodal import block_kernels
from relaxon.solvers.sparse.nodal.blocks import Blocks, Floats, multiply, over
from relaxon.solvers.sparse.nodal.hierarchy import BlockHierarchy, BlockLevel


class _Memory:
    """A level with its work vectors."""

    def __init__(self, level: BlockLevel) -> None:
        self.level = level
        self.right, self.x, self.old, self.r = (np.zeros(level.unknowns, np.float32) for _ in range(4))
        a = level.matrix
        self.upper = Blocks(level.middle + np.uint32(1), a.last, a.columns, a.values)


class BlockCycle:
    """A V-cycle that approximates `A⁻¹` in float32, in the order of the first level."""

    def __init__(self, hierarchy: BlockHierarchy) -> None:
        self.memory = [_Memory(level) for level in hierarchy.levels]
        self.solution = hierarchy.solution

    @property
    def right(self) -> Floats:
        return self.memory[0].right

    def apply(self) -> Floats:
        self._cycle(0)
        return self.memory[0].x

    def _cycle(self, index: int) -> None:
        """Write `x ← M right` on a level."""
        own = self.memory[index]
        level = own.level
        if index + 1 == len(self.memory) and len(self.solution):
            np.matmul(self.solution, own.right, out=own.x)
            return
        a, size = level.matrix, (0,) * level.size
        over(
            level.bounds, block_kernels.sweep_forward, size, a.first, level.middle, a.columns, a.values, level.inverse,
            level.excess, own.right, own.x, own.r,
        )  # fmt: skip
        if level.prolongator is not None and level.restriction is not None and level.coarse_bounds is not None:
            below = self.memory[index + 1]
            multiply(level.bounds, self._upper(own), own.x, own.r, True, -1.0)
            multiply(level.coarse_bounds, level.restriction, own.r, below.right)
            self._cycle(index + 1)
            multiply(level.bounds, level.prolongator, below.x, own.x, True)
        own.old[...] = own.x
        over(
            level.bounds, block_kernels.sweep_backward, size, a.first, level.middle, level.inner, a.last, a.columns,
            a.values, level.inverse, level.excess, own.right, own.x, own.old, own.r,
        )  # fmt: skip

    def _upper(self, own: _Memory) -> Blocks:
        return own.upper
