"""Solvers of other libraries: hypre's BoomerAMG and CHOLMOD, by polyfem-polysolve, AMGCL, Pardiso, and apxchol."""

# Imported on first use, for their weight: apxchol, polysolve, pyamgcl, pypardiso, SciPy.

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from relaxon.core import validation
from relaxon.core.extras import require
from relaxon.core.solution import Result
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.sparse.direct.refinement import PROGRESS, refine
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

STRICTER = 0.9
"""Fraction of the tolerance that a library is asked for, as it may measure its recurrence instead of the residual."""


PeerFactor = Callable[[Array, float], tuple[Array, int]]
"""A library's set-up for one matrix: `solve(b, rtol)` returns an `x` with `‖b − A x‖ ≤ rtol ‖b‖` by the library's own
measure, and its iterations (1 for a factor). The library may have failed: the caller judges the result."""


class PeerSolver(MatrixSolver):
    """A method of another library; `set_up` does all its work before the first right-hand side.

    `Solution.iterations` counts its solves: where the residual, recomputed in float64, does not meet the tolerance, one
    more refines the result. `Solution.info["peer_iterations"]` is the total of the library's own iterations.
    """

    needs: ClassVar[tuple[str, ...]]
    """Required modules, by their import names."""
    definite: ClassVar[bool]
    """Whether it accepts only positive definite matrices: singular ones then get an equation `x_i = 0`."""

    @abstractmethod
    def set_up(self, matrix: Any) -> PeerFactor:
        """Set up the library for a canonical CSR matrix, float64 with int32 indices, which it must not modify.

        ValueError where it finds that the matrix is not one that it solves.
        """

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        require(self.needs, f"solver {self.name!r}")
        return PeerEngine(system, self.set_up(system.regular() if self.definite else system.matrix), self.name)


class PeerEngine(MatrixEngine):
    """The solves of another library, with iterative refinement."""

    default_max_iterations = 10

    def __init__(self, system: MatrixSystem, factor: PeerFactor, name: str) -> None:
        self.system, self.factor, self.name = system, factor, name
        self.info = {"nonzeros": float(system.matrix.nnz), "peer_iterations": 0.0}

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        self.failure = ""
        self.info["peer_iterations"] = 0.0

        def correction(r: Array, norm: float) -> Array | None:
            step, iterations = self.factor(r, min(STRICTER * monitor.tolerance / norm, PROGRESS))
            self.info["peer_iterations"] += iterations
            if np.isfinite(step).all():
                return step
            self.failure = f"{self.name} returned numbers that are not finite"
            return None

        return refine(self.system, correction, b, x, monitor, max_iterations)


def view_as_columns(matrix: Any) -> Any:
    """Return a symmetric CSR matrix in CSC form without a copy: its rows are its columns."""
    from scipy.sparse import csc_matrix

    return csc_matrix((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)


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


@dataclass(frozen=True, slots=True)
class ApproximateCholesky(PeerSolver):
    """CG with apxchol's factor, only for graph Laplacians and diagonally dominant matrices without positive couplings.

    Parameters
    ----------
    seed : seed of its samples, ≥ 0.

    According to its documentation, results are reproducible on one thread only.
    """

    seed: int = 42
    name: ClassVar[str] = "apxchol"
    summary: ClassVar[str] = "CG with a randomised approximate Cholesky factor, for Laplacians"
    needs: ClassVar[tuple[str, ...]] = ("apxchol",)
    definite: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.seed != 0:
            validation.positive_int("seed", self.seed)

    def set_up(self, matrix: Any) -> PeerFactor:
        """Compute the factor."""
        import apxchol

        factor = apxchol.factorize(matrix, seed=self.seed, keep_factor=False)

        def solve(b: Array, rtol: float) -> tuple[Array, int]:
            found = factor.solve(b, rtol=rtol, maxiter=MAX_ITERATIONS)
            return np.asarray(found.x), int(found.iters)

        return solve


REAL_POSITIVE_DEFINITE = 2
"""Pardiso's matrix type for real positive definite matrices."""


@dataclass(frozen=True, slots=True)
class Cholmod(PeerSolver):
    """CHOLMOD's supernodal Cholesky factor, in the fill-reducing order that it chooses."""

    name: ClassVar[str] = "cholmod"
    summary: ClassVar[str] = "CHOLMOD's supernodal Cholesky factor, by polyfem-polysolve"
    needs: ClassVar[tuple[str, ...]] = ("polysolve",)
    definite: ClassVar[bool] = True

    def set_up(self, matrix: Any) -> PeerFactor:
        """Order and factor the matrix; ValueError where it is not positive definite."""
        import polysolve

        solver = polysolve.LinearSolver({"solver": "Eigen::CholmodSupernodalLLT"}, polysolve.LogLevel.off)
        columns = view_as_columns(matrix)
        solver.analyze_pattern(columns)
        try:
            solver.factorize(columns)
        except RuntimeError as error:
            raise ValueError(f"operator must be positive definite; CHOLMOD fails on it: {error}") from error
        return lambda b, rtol: (np.asarray(solver.solve(b)), 1)


@dataclass(frozen=True, slots=True)
class Pardiso(PeerSolver):
    """The Cholesky factor of MKL's Pardiso, of the upper triangle."""

    name: ClassVar[str] = "pardiso"
    summary: ClassVar[str] = "MKL's Pardiso, by pypardiso"
    needs: ClassVar[tuple[str, ...]] = ("pypardiso",)
    definite: ClassVar[bool] = True

    def set_up(self, matrix: Any) -> PeerFactor:
        """Order and factor the matrix; ValueError where it is not positive definite."""
        import pypardiso
        from scipy.sparse import csr_matrix, triu

        upper, solver = csr_matrix(triu(matrix)), pypardiso.PyPardisoSolver(mtype=REAL_POSITIVE_DEFINITE)
        try:
            solver.factorize(upper)
        except pypardiso.pardiso_wrapper.PyPardisoError as error:
            solver.free_memory()
            raise ValueError(f"operator must be positive definite; Pardiso fails on it: {error}") from error

        def solve(b: Array, rtol: float) -> tuple[Array, int]:
            return np.asarray(solver.solve(upper, b)), 1

        weakref.finalize(solve, solver.free_memory)
        return solve
