"""Conjugate gradients preconditioned with a cycle of PyAMG's algebraic multigrid."""
# Imported on first use, for their weight: pyamg, scipy.

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from relaxon.core import validation
from relaxon.core.extras import require
from relaxon.solvers.external.aggregation import smoothed_aggregation_solver
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.krylov.conjugate_gradients import PreconditionedCG
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

AGGREGATION_THRESHOLD, CLASSICAL_THRESHOLD = 0.0, 0.25
"""PyAMG's default thresholds, for smoothed aggregation and for Ruge–Stüben."""
STRETCHED_THRESHOLD = 0.25
"""Threshold of smoothed aggregation where couplings are strongly positive: those of a stretched bilinear element reach
this fraction of `√(a_ii a_jj)` and no more, so that only the couplings along its short side remain. Measured with PyAMG
5.4.1 at 6,241 unknowns: 15 iterations become 10 at 1:4, 30 become 10 at 1:10, 89 become 10 at 1:100; at 1:3, where
positive couplings are weaker, 12 would become 23."""
STRONGLY_POSITIVE = 0.2
"""Fraction of `√(a_ii a_jj)` from which a coupling is strongly positive: stretched bilinear elements reach it at
1:4."""
STRONGLY_POSITIVE_PART = 0.05
"""Elements count as stretched with more than this fraction of the off-diagonal weight strongly positive."""


@dataclass(frozen=True, slots=True)
class AlgebraicMultigridCG(MatrixSolver):
    """Conjugate gradients with PyAMG's hierarchy: one V-cycle with symmetric Gauss–Seidel an iteration.

    Parameters
    ----------
    method : "sa" for smoothed aggregation, "rs" for Ruge–Stüben.
    strength : couplings below this threshold, from 0 up to 1, are not coarsened along; for "sa" relative to
        `√(a_ii a_jj)` (PyAMG's "symmetric"), for "rs" to the row's largest (its "classical"). None chooses: for "sa"
        0.25 where much of the off-diagonal weight is strongly positive, as with stretched bilinear elements, and 0
        elsewhere; for "rs" 0.25. `info["strength"]` is the value used.

    Examples
    --------
    Bilinear elements of size 1 by 1/100:

    >>> import numpy as np
    >>> from relaxon.solvers import solve
    >>> from relaxon.solvers.sparse import AlgebraicMultigridCG
    >>> from scipy.sparse import diags_array, kron
    >>> def stiffness(h, n=40):
    ...     return diags_array([-1 / h, 2 / h, -1 / h], offsets=[-1, 0, 1], shape=(n, n))
    >>> def mass(h, n=40):
    ...     return diags_array([h / 6, 4 * h / 6, h / 6], offsets=[-1, 0, 1], shape=(n, n))
    >>> A = kron(stiffness(1.0), mass(0.01)) + kron(mass(1.0), stiffness(0.01))
    >>> counts = [solve(A, np.ones(1600), solver=AlgebraicMultigridCG("sa", s)).iterations for s in (None, 0.0)]
    >>> 2 * counts[0] < counts[1]
    True
    """

    method: Literal["sa", "rs"] = "sa"
    strength: float | None = None
    name: ClassVar[str] = "pyamg"
    needs: ClassVar[tuple[str, ...]] = ("numba", "scipy", "pyamg")
    summary: ClassVar[str] = "PyAMG's hierarchy as preconditioner of CG"

    def __post_init__(self) -> None:
        if self.method not in ("sa", "rs"):
            raise ValueError(f"method must be 'sa' or 'rs', got {self.method!r}")
        if self.strength is not None and validation.non_negative_float("strength", self.strength) >= 1:
            raise ValueError(f"strength must be below 1, got {self.strength!r}")

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        require(("pyamg",), f"solver 'pyamg-{self.method}'")
        import pyamg
        from scipy.sparse import csr_matrix

        threshold = self._threshold(system)
        if self.method == "sa":
            make, measure = smoothed_aggregation_solver, "symmetric"
        else:
            make, measure = pyamg.ruge_stuben_solver, "classical"
        strength = (measure, {"theta": threshold})
        matrix = csr_matrix(system.regular())
        if not matrix.data.all():  # new values on a kept pattern: zeros would count as couplings
            matrix = matrix.copy()
            matrix.eliminate_zeros()
        hierarchy = make(matrix, strength=strength, coarse_solver="pinv")
        cycle = hierarchy.aspreconditioner(cycle="V")

        def precondition(r: Array, z: Array) -> None:
            z[...] = cycle.matvec(r)

        info = {
            "levels": float(len(hierarchy.levels)),
            "operator_complexity": float(hierarchy.operator_complexity()),
            "strength": threshold,
        }
        sizes = tuple((int(level.A.shape[0]), int(level.A.nnz)) for level in hierarchy.levels)
        return PreconditionedCG(system, precondition, info, self.prepare_matrix, sizes)

    def _threshold(self, system: MatrixSystem) -> float:
        if self.strength is not None:
            return float(self.strength)
        if self.method == "rs":
            return CLASSICAL_THRESHOLD
        stretched = strongly_positive(system) > STRONGLY_POSITIVE_PART
        return STRETCHED_THRESHOLD if stretched else AGGREGATION_THRESHOLD


def strongly_positive(system: MatrixSystem) -> float:
    """Return the fraction of the off-diagonal weight `Σ |a_ij|` with `a_ij > 0.2 √(a_ii a_jj)`."""
    matrix = system.matrix
    rows = np.repeat(np.arange(system.unknowns), np.diff(matrix.indptr))
    others = rows != matrix.indices
    weight = float(np.abs(matrix.data[others]).sum())
    root = np.sqrt(system.diagonal)
    strong = others & (matrix.data > STRONGLY_POSITIVE * root[rows] * root[matrix.indices])
    return float(matrix.data[strong].sum()) / weight if weight > 0 else 0.0
