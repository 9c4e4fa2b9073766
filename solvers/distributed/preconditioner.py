"""The distributed V-cycle as a preconditioner for Krylov methods of other libraries."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import validation
from relaxon.solvers.distributed.system import WorkingPiece
from relaxon.solvers.distributed.variable import distributed_cycle
from relaxon.solvers.grid.poisson_grid import CellType

if TYPE_CHECKING:
    from relaxon.solvers.distributed.grid import DistributedPoissonGrid


class DistributedPreconditioner:
    """`z ← M r` on each process's part, symmetric and positive definite to float32 rounding.

    Made by `DistributedPoissonGrid.preconditioner`. Every process calls it at the same time. Up to rounding, the result
    does not depend on how the grid is cut.
    """

    def __init__(self, grid: DistributedPoissonGrid, *, learned: bool = True) -> None:
        self.grid = grid
        self._cycle: Callable[[NDArray[Any], float, NDArray[np.float64]], None]
        self._cycle, planes, self.info = _any_cycle(grid) if not grid.constant else _plain_cycle(grid, learned)
        self._fluid = (grid.cells == CellType.FLUID).reshape(planes)
        self._masked = not bool(self._fluid.all())

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
        norm = math.sqrt(self.grid.communicator.totals(np.array([float(np.square(part).sum())]))[0])
        if norm == 0.0 or not math.isfinite(norm):
            out[...] = 0.0 if norm == 0.0 else norm
            return out
        self._cycle(part, norm, out.reshape(part.shape))
        if self._masked:
            out[~self._fluid.reshape(out.shape)] = 0
        return out


def _plain_cycle(grid: DistributedPoissonGrid, learned: bool) -> Any:
    """Return for κ = 1 what applies the cycle to a residual of a norm, the shape of the owned cells, and figures."""
    cycle = grid.cycle(learned=learned)
    own = grid.plan.box(grid.communicator.rank, 0).own
    r, x, z = (np.zeros(cycle.shape, np.float32) for _ in range(3))

    def apply(part: NDArray[Any], norm: float, out: NDArray[np.float64]) -> None:
        np.multiply(part, 1.0 / norm, out=r[own], casting="same_kind")
        cycle.apply(r, x, z)
        np.multiply(z[own], norm / cycle.unit, out=out)

    return apply, r[own].shape, cycle.info


def _any_cycle(grid: DistributedPoissonGrid) -> Any:
    """Return the same as `_plain_cycle`, for coefficients of any kind."""
    working = WorkingPiece.of(grid)
    cycle, part = distributed_cycle(working.operator, grid), grid.part
    factor = 2.0**-working.exponent

    def apply(owned: NDArray[Any], norm: float, out: NDArray[np.float64]) -> None:
        r, z = np.zeros(part.shape3), np.zeros(part.shape3)
        part.own(r)[...] = owned
        cycle(r, z)
        np.multiply(part.own(z), factor, out=out)

    return apply, part.own(np.empty(part.shape3)).shape, cycle.info
