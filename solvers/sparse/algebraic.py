"""Conjugate gradients preconditioned with a cycle of PyAMG's algebraic multigrid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from relaxon.solvers.extras import require
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.krylov import PreconditionedCG
from relaxon.solvers.sparse.system import Array, MatrixSystem


@dataclass(frozen=True, slots=True)
class AlgebraicMultigridCG(MatrixSolver):
    """PyAMG's hierarchy, one V-cycle with symmetric Gauss–Seidel an iteration.

    Parameters
    ----------
    method : "sa" for smoothed aggregation, "rs" for Ruge–Stüben.
    """

    method: Literal["sa", "rs"] = "sa"
    name: ClassVar[str] = "pyamg"
    summary: ClassVar[str] = "PyAMG's hierarchy as preconditioner of CG"

    def __post_init__(self) -> None:
        if self.method not in ("sa", "rs"):
            raise ValueError(f"method must be 'sa' or 'rs', got {self.method!r}")

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        require(("pyamg",), f"solver 'pyamg-{self.method}'")
        import pyamg
        from scipy.sparse import csr_matrix

        make = pyamg.smoothed_aggregation_solver if self.method == "sa" else pyamg.ruge_stuben_solver
        hierarchy = make(csr_matrix(system.regular()), coarse_solver="pinv")
        cycle = hierarchy.aspreconditioner(cycle="V")

        def precondition(r: Array, z: Array) -> None:
            z[...] = cycle.matvec(r)

        info = {
            "levels": float(len(hierarchy.levels)),
            "operator_complexity": float(hierarchy.operator_complexity()),
        }
        return PreconditionedCG(system, precondition, info)
