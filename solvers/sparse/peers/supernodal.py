"""Compiled supernodal factorisations from other libraries: CHOLMOD, by polyfem-polysolve, and MKL's Pardiso."""
# Imported on first use, for their weight: polysolve, pypardiso, scipy.

from __future__ import annotations

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
        return _Cholmod(matrix)


class _Cholmod:
    def __init__(self, matrix: Any) -> None:
        import polysolve

        self._solver = polysolve.LinearSolver({"solver": "Eigen::CholmodSupernodalLLT"}, polysolve.LogLevel.off)
        columns = view_as_columns(matrix)
        self._solver.analyze_pattern(columns)
        try:
            self._solver.factorize(columns)
        except RuntimeError as error:
            raise ValueError(f"operator must be positive definite; CHOLMOD fails on it: {error}") from error

    def solve(self, b: Array, rtol: float) -> tuple[Array, int]:
        del rtol
        return np.asarray(self._solver.solve(b)), 1


@dataclass(frozen=True, slots=True)
class Pardiso(PeerSolver):
    """The Cholesky factor of MKL's Pardiso, of the upper triangle."""

    name: ClassVar[str] = "pardiso"
    summary: ClassVar[str] = "MKL's Pardiso, by pypardiso"
    needs: ClassVar[tuple[str, ...]] = ("pypardiso",)
    definite: ClassVar[bool] = True

    def set_up(self, matrix: Any) -> PeerFactor:
        """Order and factor the matrix; ValueError where it is not positive definite."""
        return _Pardiso(matrix)


class _Pardiso:
    def __init__(self, matrix: Any) -> None:
        import pypardiso
        from scipy.sparse import csr_matrix, triu

        self._upper = csr_matrix(triu(matrix))
        self._solver = pypardiso.PyPardisoSolver(mtype=REAL_POSITIVE_DEFINITE)
        try:
            self._solver.factorize(self._upper)
        except pypardiso.pardiso_wrapper.PyPardisoError as error:
            self._solver.free_memory()
            raise ValueError(f"operator must be positive definite; Pardiso fails on it: {error}") from error

    def solve(self, b: Array, rtol: float) -> tuple[Array, int]:
        del rtol
        return np.asarray(self._solver.solve(self._upper, b)), 1

    def __del__(self) -> None:
        if hasattr(self, "_solver"):
            self._solver.free_memory()
