"""Conjugate gradients with an incomplete Cholesky factor without fill, IC(0), of the matrix scaled to a unit diagonal.

Source: J. A. Meijerink, H. A. van der Vorst, Math. Comp. 31 (1977); for the shifts where a pivot fails: T. A.
Manteuffel, "An Incomplete Factorization Technique for Positive Definite Linear Systems", Math. Comp. 34 (1980).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from relaxon.core import validation
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.krylov import incomplete_cholesky_kernels as kernels
from relaxon.solvers.sparse.krylov.conjugate_gradients import PreconditionedCG
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

LEAST_PIVOT = 1e-4
"""Smallest pivot accepted, relative to the unit diagonal: below it the preconditioner is worse than none."""
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
        while (
            kernels.incomplete_factor(
                a.indptr, a.indices, a.data, scale, shift, LEAST_PIVOT, starts, columns, values, inverse
            )
            >= 0
        ):
            # This ends: once the shift exceeds the largest row sum, the matrix is diagonally dominant.
            shift, retries = max(FIRST_SHIFT, SHIFT_GROWTH * shift), retries + 1
        columns, values = columns[: starts[n]].copy(), values[: starts[n]].copy()

        def precondition(r: Array, z: Array) -> None:
            kernels.solve_triangles(starts, columns, values, inverse, scale, r, z)

        info = {"shift": float(shift), "retries": float(retries)}
        return PreconditionedCG(system, precondition, info, self.prepare_matrix)
