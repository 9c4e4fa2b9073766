"""Conjugate gradients on a sparse matrix: plain, with the diagonal, with IC(0), or with any preconditioner.

Sources for IC(0), the incomplete Cholesky factor without fill, here of the matrix scaled to a unit diagonal: J. A.
Meijerink, H. A. van der Vorst, Math. Comp. 31 (1977); for the shifts where a pivot fails: T. A. Manteuffel, "An
Incomplete Factorization Technique for Positive Definite Linear Systems", Math. Comp. 34 (1980).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from relaxon.core import validation
from relaxon.core.solution import Result
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.interface.verdict import subtract
from relaxon.solvers.krylov.iteration import Steps
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver, Precondition
from relaxon.solvers.sparse.krylov import incomplete_cholesky_kernels as factors
from relaxon.solvers.sparse.krylov.iteration import SteppedEngine
from relaxon.solvers.sparse.system import vector_kernels as kernels
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

STAGNATION_STEPS = 500
"""Steps without a new least residual that mean stagnation; many, as the residual of conjugate gradients oscillates."""


class PreconditionedCG(SteppedEngine):
    """Conjugate gradients with a symmetric positive definite preconditioner, the identity where None."""

    patience = STAGNATION_STEPS
    default_max_iterations = 20_000

    def __init__(
        self,
        system: MatrixSystem,
        precondition: Precondition | None,
        info: dict[str, float],
        again: Callable[[MatrixSystem], MatrixEngine] | None = None,
        level_sizes: tuple[tuple[int, int], ...] = (),
        twins: bool = False,
    ) -> None:
        """Hold a set-up; `again` sets the same method up for new values on the same pattern.

        `twins` says that several threads may apply the preconditioner at the same time.
        """
        self.system = system
        self._again = again
        self._twins = twins
        self._level_sizes = level_sizes
        self.precondition = precondition
        self.info = {"nonzeros": float(system.matrix.nnz), **info}

    def update(self, system: MatrixSystem) -> MatrixEngine | None:
        return None if self._again is None else self._again(system)

    def twin(self) -> MatrixEngine | None:
        return copy(self) if self._twins else None

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        return self._level_sizes

    def steps(self, b: Array, x: Array, monitor: Monitor) -> Steps:
        system, r, z, ap = self.system, np.empty_like(b), np.zeros_like(b), np.empty_like(b)
        yield system.residual(b, x, r)
        step = self._preconditioned(r, z)
        p, rz = step.copy(), kernels.dot(r, step)
        while True:
            curvature = kernels.dot(p, system.apply(p, ap))
            if not (curvature > 0 and rz > 0):
                return self._explain_breakdown(curvature, rz)
            alpha = rz / curvature
            norm = math.sqrt(kernels.step(alpha, p, ap, x, r))
            monitor.stepped(partial(subtract, x, alpha, p))
            yield norm
            monitor.stepped(None)  # the direction is overwritten below
            step, old = self._preconditioned(r, z), rz
            rz = kernels.dot(r, step)
            kernels.next_direction(step, rz / old, p)

    def preconditioner(self) -> Precondition | None:
        """Return the preconditioner itself; None for plain conjugate gradients."""
        return self.precondition

    def _preconditioned(self, r: Array, z: Array) -> Array:
        if self.precondition is None:
            return r
        self.precondition(r, z)
        return self.system.project(z)

    def _explain_breakdown(self, curvature: float, rz: float) -> Result:
        if not (math.isfinite(curvature) and math.isfinite(rz)):
            return Result.NON_FINITE
        if curvature < 0:
            self.failure = f"the matrix is not positive definite: a direction has the curvature {curvature:.3g}"
        elif rz < 0:
            self.failure = f"the preconditioner is not positive definite: rᵀMr = {rz:.3g}"
        return Result.STAGNATED


@dataclass(frozen=True, slots=True)
class MatrixCG(MatrixSolver):
    """Conjugate gradients without a preconditioner."""

    name: ClassVar[str] = "cg"
    summary: ClassVar[str] = "conjugate gradients"

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        return PreconditionedCG(system, None, {}, twins=True)


@dataclass(frozen=True, slots=True)
class MatrixJacobiCG(MatrixSolver):
    """Conjugate gradients preconditioned with the diagonal."""

    name: ClassVar[str] = "jacobi-cg"
    summary: ClassVar[str] = "CG with a diagonal preconditioner"

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        inverse = system.inverse_diagonal

        def precondition(r: Array, z: Array) -> None:
            np.multiply(inverse, r, out=z)

        return PreconditionedCG(system, precondition, {}, twins=True)


LEAST_PIVOT, LEAST_COMPLETE = 1e-4, 4 * np.finfo(np.float64).eps
"""Smallest pivot accepted, relative to the unit diagonal: below the first, a factor that leaves fill out is worse as a
preconditioner than none; below the second, the pivot of a complete factor is rounding."""
FIRST_SHIFT, SHIFT_GROWTH = 1e-3, 4.0
"""First shift and its growth: each try costs a factorisation, too large a shift costs iterations; four times from 0.001
exceeds 1 in the sixth."""


@dataclass(frozen=True, slots=True)
class MatrixIncompleteCholeskyCG(MatrixSolver):
    """CG with IC(0). Where a pivot fails, the factor is recomputed with the diagonal raised by a growing shift.

    Parameters
    ----------
    shift : the first shift, as a fraction of the diagonal, ≥ 0.

    `Solution.info` has the `shift` that succeeded and the number of `retries`.
    """

    shift: float = 0.0
    name: ClassVar[str] = "ic-cg"
    summary: ClassVar[str] = "CG with an incomplete Cholesky preconditioner"

    def __post_init__(self) -> None:
        validation.non_negative_float("shift", self.shift)

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        scale = np.divide(1.0, np.sqrt(system.diagonal), out=np.zeros(system.unknowns), where=system.diagonal > 0)
        a, n = system.matrix, system.unknowns
        # A symmetric pattern has half its entries below the diagonal; that of a nearly symmetric one may have more.
        starts, inverse = np.zeros(n + 1, a.indptr.dtype), np.zeros(n)
        columns, values = np.empty(a.nnz, a.indices.dtype), np.empty(a.nnz)
        shift, retries = self.shift, 0
        least = LEAST_COMPLETE if is_tridiagonal(a) and not system.null.dimension else LEAST_PIVOT
        while (
            factors.incomplete_factor(
                a.indptr, a.indices, a.data, scale, shift, least, starts, columns, values, inverse
            )
            >= 0
        ):
            # This ends: once the shift exceeds the largest row sum, the matrix is diagonally dominant.
            shift, retries = max(FIRST_SHIFT, SHIFT_GROWTH * shift), retries + 1
        columns, values = columns[: starts[n]].copy(), values[: starts[n]].copy()

        def precondition(r: Array, z: Array) -> None:
            factors.solve_triangles(starts, columns, values, inverse, scale, r, z)

        info = {"shift": float(shift), "retries": float(retries)}
        return PreconditionedCG(system, precondition, info, self.prepare_matrix, twins=True)


def is_tridiagonal(matrix: Any) -> bool:
    """Return whether all entries of a CSR matrix with sorted rows are on or beside the diagonal."""
    n = matrix.shape[0]
    if matrix.nnz > 3 * n:
        return False
    rows = np.flatnonzero(np.diff(matrix.indptr))
    first, last = matrix.indices[matrix.indptr[rows]], matrix.indices[matrix.indptr[rows + 1] - 1]
    return bool((first >= rows - 1).all() and (last <= rows + 1).all())
