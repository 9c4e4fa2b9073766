"""Compiled supernodal factorisations from other libraries: CHOLMOD, by polyfem-polysolve, and MKL's Pardiso."""
# Imported on first use, for their weight: polysolve, pypardiso, scipy.

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from relaxon.solvers.sparse.peers.peer import PeerFactor, PeerSolver, view_as_columns
from relaxon.solvers.sparse.system.matrix_system import Array

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
