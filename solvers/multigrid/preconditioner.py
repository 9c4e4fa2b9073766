"""A grid's V-cycle as a preconditioner: for our solvers, and as a SciPy operator for those of others.

Imported on first use, for their weight: SciPy, and the kernels, which load Numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.masked import plain_array
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.kernels.memory import allocate
from relaxon.solvers.multigrid.cycle import Array, Single, SingleCycle

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

    from relaxon.solvers.multigrid.fused import FusedCycle


class FusedPreconditioner(SingleCycle):
    """The fused cycle, with its own work space."""

    def __init__(self, cycle: FusedCycle) -> None:
        self._cycle = cycle
        self._r, self._x, self._z = (allocate(cycle.shape, np.float32) for _ in range(3))
        self.unit, self.info = cycle.unit, cycle.info

    def twin(self) -> FusedPreconditioner:
        return FusedPreconditioner(self._cycle.twin())

    def unscaled(self, r: Array, scale: float = 1.0) -> Single:
        from relaxon.solvers.grid.stencil_kernels import scaled

        scaled(r.reshape(self._cycle.shape), scale, self._r)
        self._cycle.apply(self._r, self._x, self._z)
        return self._z.reshape(r.shape)


def unlearned_cycle(operator: PoissonOperator) -> SingleCycle:
    """Return the V-cycle without learning: fused with Chebyshev's constants for κ = 1, otherwise by Jacobi sweeps."""
    from relaxon.solvers.multigrid.deflation import variable_cycle
    from relaxon.solvers.multigrid.fused import FusedCycle

    if operator.grid.constant:
        return FusedPreconditioner(FusedCycle(operator, {}))
    return variable_cycle(operator)


def as_linear_operator(operator: PoissonOperator, cycle: SingleCycle) -> LinearOperator:
    """Return a cycle on packed vectors: `(unknowns, unknowns)` float64, symmetric and positive definite up to float32
    rounding.

    A cell with walls on all sides has a row of zeros in `A`; the preconditioner is the identity there.
    """
    from scipy.sparse.linalg import LinearOperator

    grid = operator.grid
    alone = grid.pack((operator.diagonal_values() == 0).reshape(grid.shape))
    isolated = np.flatnonzero(alone)

    def matvec(v: NDArray[Any]) -> NDArray[Any]:
        v = plain_array("r", v)
        r = grid.unpack(np.asarray(v, np.float64).reshape(-1)).reshape(grid.shape3)
        z = np.empty_like(r)
        cycle(r, z)
        packed = grid.pack(z.reshape(grid.shape))
        packed[isolated] = np.asarray(v, np.float64).reshape(-1)[isolated]
        return packed

    return LinearOperator(operator.shape, matvec=matvec, rmatvec=matvec, dtype=np.float64)
