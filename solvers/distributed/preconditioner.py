"""The distributed V-cycle as a preconditioner of other people's Krylov methods."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.solvers import validation
from relaxon.solvers.grid import CellType

if TYPE_CHECKING:
    from relaxon.solvers.distributed.grid import DistributedPoissonGrid


class DistributedPreconditioner:
    """`z ← M r` on each process's part, symmetric and positive definite to float32 rounding.

    Made by `DistributedPoissonGrid.preconditioner`. Every process calls it at the same time; the result does not depend
    on how the grid is cut, but for rounding.
    """

    def __init__(self, grid: DistributedPoissonGrid, *, learned: bool = True) -> None:
        self.grid = grid
        self._cycle = grid.cycle(learned=learned)
        self._own = grid.plan.box(grid.communicator.rank, 0).own
        self._r, self._x, self._z = (np.zeros(self._cycle.shape, np.float32) for _ in range(3))
        self._fluid = (grid.cells == CellType.FLUID).reshape(self._r[self._own].shape)
        self._masked = not bool(self._fluid.all())
        self.info = self._cycle.info

    def __call__(self, r: ArrayLike, out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """`r`: this process's part, real, not modified; values outside the fluid count as 0. The result is float64, 0
        outside the fluid, in `out` where that is given.
        """
        array = validation.real_array("r", r)
        if array.shape != self.grid.cells.shape:
            raise ValueError(f"r must have the shape {self.grid.cells.shape} of this process's part, got {array.shape}")
        if out is None:
            out = np.empty(array.shape)
        elif out.shape != array.shape or out.dtype != np.float64:
            raise ValueError(f"out must be float64 of shape {array.shape}, got {out.dtype} of {out.shape}")
        part: NDArray[Any] = array.reshape(self._fluid.shape)
        if self._masked:
            part = np.where(self._fluid, part, 0)
        norm = math.sqrt(self.grid.communicator.totals(np.array([float(np.vdot(part, part))]))[0])
        if norm == 0.0 or not math.isfinite(norm):
            out[...] = 0.0 if norm == 0.0 else norm
            return out
        np.multiply(part, 1.0 / norm, out=self._r[self._own], casting="same_kind")
        self._cycle.apply(self._r, self._x, self._z)
        np.multiply(self._z[self._own].reshape(out.shape), norm / self._cycle.unit, out=out)
        if self._masked:
            out[~self._fluid.reshape(out.shape)] = 0
        return out
