"""A grid's V-cycle as a preconditioner: for the solvers here, and as a SciPy operator for other people's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.operator import PoissonOperator

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

    from relaxon.solvers.multigrid.fused import FusedCycle

Array = NDArray[np.float64]


class Cycle(Protocol):
    """`cycle(r, z)` writes `z ← M r`, `shape3` float64; `info` holds figures for people."""

    info: dict[str, float]

    def __call__(self, r: Array, z: Array) -> None: ...


class FusedPreconditioner:
    """The fused cycle on float64 arrays; `r` is scaled to norm 1, so that float32 holds it."""

    def __init__(self, cycle: FusedCycle) -> None:
        self._cycle = cycle
        self._r, self._x, self._z = (np.empty(cycle.shape, np.float32) for _ in range(3))
        self.info = cycle.info

    def __call__(self, r: Array, z: Array) -> None:
        """`z ← M r`; `r` is left as it is."""
        from relaxon.solvers.stencil_kernels import dot, scaled

        norm = math.sqrt(dot(r, r))
        if norm == 0.0 or not math.isfinite(norm):
            z[...] = r
            return
        scaled(r.reshape(self._cycle.shape), 1.0 / norm, self._r)
        self._cycle.apply(self._r, self._x, self._z)
        scaled(self._z, norm / self._cycle.unit, z.reshape(self._cycle.shape))


def unlearned_cycle(operator: PoissonOperator) -> Cycle:
    """The V-cycle without learning: fused with Chebyshev's constants for κ = 1, else by Jacobi sweeps."""
    from relaxon.solvers.multigrid.fused import FusedCycle
    from relaxon.solvers.multigrid.variable import VariableCycle

    if operator.grid.coefficient is None:
        return FusedPreconditioner(FusedCycle(operator, {}))
    return VariableCycle(operator)


def learned_cycle(operator: PoissonOperator) -> Cycle:
    """The V-cycle that `dcdm` uses: with the shipped learned constants for κ = 1."""
    from relaxon.solvers.dcdm.cycle import constants_for
    from relaxon.solvers.multigrid.fused import FusedCycle

    if operator.grid.coefficient is None:
        return FusedPreconditioner(FusedCycle(operator, constants_for(operator.grid)))
    return unlearned_cycle(operator)


def as_linear_operator(operator: PoissonOperator, cycle: Cycle) -> LinearOperator:
    """A cycle on packed vectors: `(unknowns, unknowns)` float64, symmetric and positive definite to float32 rounding.

    A cell that is walled in on all sides has a row of zeros in `A`; the preconditioner is the identity there.
    """
    from scipy.sparse.linalg import LinearOperator

    grid = operator.grid
    alone = grid.pack((operator.diagonal_values() == 0).reshape(grid.shape))
    isolated = np.flatnonzero(alone)

    def matvec(v: NDArray[Any]) -> NDArray[Any]:
        r = grid.unpack(np.asarray(v, np.float64).reshape(-1)).reshape(grid.shape3)
        z = np.empty_like(r)
        cycle(r, z)
        packed = grid.pack(z.reshape(grid.shape))
        packed[isolated] = np.asarray(v, np.float64).reshape(-1)[isolated]
        return packed

    return LinearOperator(operator.shape, matvec=matvec, rmatvec=matvec, dtype=np.float64)
