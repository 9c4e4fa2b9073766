"""Compiled algebraic multigrid from other libraries: hypre's BoomerAMG, by polyfem-polysolve, and AMGCL."""
# Imported on first use, for their weight: polysolve, pyamgcl.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from relaxon.core import validation
from relaxon.solvers.sparse.peers.peer import PeerFactor, PeerSolver, view_as_columns
from relaxon.solvers.sparse.system.matrix_system import Array

MAX_ITERATIONS = 1_000
"""Limit of conjugate gradients within one solve."""
Coarsening = Literal["smoothed_aggregation", "aggregation", "ruge_stuben"]


@dataclass(frozen=True, slots=True)
class Hypre(PeerSolver):
    """CG with hypre's BoomerAMG: HMIS coarsening, extended interpolation, one aggressive level, as set by PolySolve.

    Parameters
    ----------
    dimension : number of unknowns of a node, numbered together, 1 to 3: above 1 BoomerAMG uses its options for
        elasticity.

    PolySolve 0.0.1 accepts a strength threshold, which has no effect (`findings/polysolve_hypre_theta.sh`).
    """

    dimension: int = 1
    name: ClassVar[str] = "hypre"
    summary: ClassVar[str] = "CG with hypre's BoomerAMG, by polyfem-polysolve"
    needs: ClassVar[tuple[str, ...]] = ("polysolve",)
    definite: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if validation.positive_int("dimension", self.dimension) > 3:
            raise ValueError(f"dimension must be 1, 2 or 3, got {self.dimension}")

    def set_up(self, matrix: Any) -> PeerFactor:
        """Pass the matrix on; PolySolve 0.0.1 rebuilds the hierarchy for each right-hand side."""
        import polysolve

        options: dict[str, Any] = {"max_iter": MAX_ITERATIONS, "dimension": self.dimension}
        solver = polysolve.LinearSolver({"solver": "Hypre"}, polysolve.LogLevel.off)
        columns = view_as_columns(matrix)
        solver.analyze_pattern(columns)
        solver.factorize(columns)

        def solve(b: Array, rtol: float, _held: Any = columns) -> tuple[Array, int]:
            solver.set_parameters({"solver": "Hypre", "Hypre": {**options, "tolerance": rtol}})
            x = np.asarray(solver.solve(b))
            return x, int(solver.info()["num_iterations"])

        return solve


@dataclass(frozen=True, slots=True)
class AMGCL(PeerSolver):
    """CG with AMGCL's hierarchy and Gauss–Seidel.

    Parameters
    ----------
    coarsening : "smoothed_aggregation", "aggregation" or "ruge_stuben".

    `pyamgcl` is distributed as source only and needs the headers of Boost and pybind11 to be built.
    """

    coarsening: Coarsening = "smoothed_aggregation"
    name: ClassVar[str] = "amgcl"
    summary: ClassVar[str] = "CG with AMGCL's hierarchy (pyamgcl, built from source)"
    needs: ClassVar[tuple[str, ...]] = ("pyamgcl",)
    definite: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.coarsening not in get_args(Coarsening):
            raise ValueError(f"coarsening must be one of {', '.join(get_args(Coarsening))}, got {self.coarsening!r}")

    def set_up(self, matrix: Any) -> PeerFactor:
        """Build the hierarchy."""
        import pyamgcl

        hierarchy = pyamgcl.amg(matrix, {"coarsening.type": self.coarsening, "relax.type": "gauss_seidel"})

        def solve(b: Array, rtol: float) -> tuple[Array, int]:
            solver = pyamgcl.solver(hierarchy, {"type": "cg", "tol": rtol, "maxiter": MAX_ITERATIONS})
            x = np.asarray(solver(b))
            return x, int(solver.iters)

        return solve
