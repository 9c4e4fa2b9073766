"""The compiled algebraic multigrid as a solver of sparse matrices."""

# Imported on first use, for their weight: `engine`, `hierarchy`, `solvers.sparse.nodal.engine`.

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from relaxon.solvers.sparse.amg.constants import DEFAULTS, Constants
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem


@dataclass(frozen=True, slots=True)
class AlgebraicMultigrid(MatrixSolver):
    """Algebraic multigrid: aggregates of matched pairs and a K-cycle with Gauss–Seidel in float32, under conjugate
    directions in float64.

    It is for symmetric positive definite matrices, and for those that are singular by constants.

    Parameters
    ----------
    constants : thresholds of the set-up and factors of the cycle.

    Examples
    --------
    >>> import numpy as np
    >>> from relaxon.solvers import AlgebraicMultigrid, gallery, solve
    >>> a = gallery.make("variable", 32).grid.operator().to_csr()
    >>> solution = solve(a, np.ones(a.shape[0]), solver=AlgebraicMultigrid())
    >>> solution.result.name, solution.iterations < 20
    ('CONVERGED', True)
    """

    constants: Constants = DEFAULTS
    name: ClassVar[str] = "amg"
    summary: ClassVar[str] = "compiled algebraic multigrid under conjugate directions"

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        if system.near_null is not None:
            from relaxon.solvers.sparse.nodal.engine import NodeDirections

            return NodeDirections.of(system)
        from relaxon.solvers.sparse.amg.engine import MultigridDirections
        from relaxon.solvers.sparse.amg.hierarchy import Hierarchy

        return MultigridDirections(system, Hierarchy.of(system, self.constants, whole=False))
