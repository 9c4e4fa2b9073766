"""Conjugate gradients preconditioned with a modified incomplete Cholesky factor without fill, MIC(0).

Source: I. Gustafsson, "A Class of First Order Factorization Methods", BIT 18 (1978); the parameters are those of
R. Bridson, "Fluid Simulation for Computer Graphics", 2nd ed. (2015), section 5.
"""

# Imported on first use, for its weight: `incomplete_cholesky_kernels`.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from relaxon.core import validation
from relaxon.core.solution import Result
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.interface.engine import Monitor, Prepared, Solver
from relaxon.solvers.kernels.threads import Kernel, divide
from relaxon.solvers.krylov.conjugate_gradients import Array, conjugate_gradients

SWEPT_SERIALLY = 20_000
"""On grids with fewer cells one thread sweeps all slabs."""
MIN_SLAB_PLANES = 8
"""Planes of a slab, at least: thinner slabs lose more by the couplings they drop than their threads gain."""
MOST_SLABS = 2
"""The default number of slabs, at most. At 128³ two cost 18 % more iterations than one, for which two threads more than
make up. Four cost 37 %, for which only machines with more threads do, and the iterates must not depend on these."""


@dataclass(frozen=True, slots=True)
class IncompleteCholeskyCG(Solver):
    """CG with MIC(0): iterations grow like the square root of CG's.

    Parameters
    ----------
    modified : part of the dropped fill that is added to the diagonal, 0 (plain IC(0)) to 1.
    safety : a pivot below this part of the diagonal is replaced by the diagonal, 0 to 1.
    slabs : blocks of planes with a factor each, swept side by side by as many threads; more of them cost iterations.
        None for two, one on small grids, whatever the number of threads: the iterates depend on it.
    """

    modified: float = 0.97
    safety: float = 0.25
    slabs: int | None = None
    name: ClassVar[str] = "ic-cg"
    summary: ClassVar[str] = "CG with a modified incomplete Cholesky preconditioner"

    def __post_init__(self) -> None:
        for name in ("modified", "safety"):
            if not 0 <= validation.finite_float(name, getattr(self, name)) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)!r}")
        if self.slabs is not None:
            validation.positive_int("slabs", self.slabs)

    def prepare(self, operator: PoissonOperator) -> Prepared:
        return _IncompleteCholesky(operator, self)


class _IncompleteCholesky(Prepared):
    default_max_iterations = 5000
    by_planes = False

    def __init__(self, operator: PoissonOperator, options: IncompleteCholeskyCG) -> None:
        from relaxon.solvers.krylov import incomplete_cholesky_kernels as kernels

        self.operator = operator
        # The first axis of a 2-D grid has one plane: there the sweeps run along the second axis as slabs instead.
        self._turn = (1, 0, 2) if operator.grid.shape3[0] == 1 else (0, 1, 2)
        planes = operator.grid.shape3[self._turn[0]]
        slabs = options.slabs or max(1, min(MOST_SLABS, planes // MIN_SLAB_PLANES))
        self._starts = np.linspace(0, planes, min(slabs, planes) + 1).astype(np.int64)
        diagonal, lower = self._turn_axes(operator.diagonal), [self._turn_axes(c) for c in operator.couplings]
        self._lower = tuple(lower[axis] for axis in self._turn)
        self._inverse = np.empty_like(diagonal)
        dropped, safety = float(options.modified), float(options.safety)
        self._divide(kernels.pivots, diagonal, *self._lower, self._starts, dropped, safety, self._inverse)
        self.info = {"slabs": float(len(self._starts) - 1)}

    def _divide(self, kernel: Kernel, *args: Any) -> None:
        """Call a kernel on all slabs; a small grid's in this thread."""
        divide(kernel, len(self._starts) - 1, *args, chunks=None if self._inverse.size >= SWEPT_SERIALLY else 1)

    def _turn_axes(self, array: Array) -> Array:
        return np.ascontiguousarray(array.transpose(self._turn))

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        from relaxon.solvers.krylov import incomplete_cholesky_kernels as kernels

        def precondition(r: Array, z: Array) -> None:
            # Turning a (1, n1, n2) array is a view with the same memory order.
            shape = self._inverse.shape
            r, z = r.reshape(shape), z.reshape(shape)
            self._divide(kernels.sweeps, self._inverse, *self._lower, self._starts, r, z)

        return conjugate_gradients(self.operator, b, x, monitor, max_iterations, precondition)
