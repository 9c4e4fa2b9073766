"""SciPy's sparse LU on a symmetric matrix, without pivoting, with iterative refinement."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from relaxon.solvers.engine import Monitor
from relaxon.solvers.factors import Factor
from relaxon.solvers.solution import Result
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver, Precondition
from relaxon.solvers.sparse.system import Array, MatrixSystem
from relaxon.solvers.verdict import subtract

DIRECT_LIMIT = 300_000
"""Unknowns up to which a factor is tried: in three dimensions it then holds some billions of bytes."""
PROGRESS = 0.5
"""Refinement goes on while it brings the residual below this part of what it was."""


@dataclass(frozen=True, slots=True)
class MatrixDirect(MatrixSolver):
    """A sparse factor. ValueError where the matrix is too large for it, or not positive definite."""

    name: ClassVar[str] = "scipy-direct"
    summary: ClassVar[str] = "SciPy's sparse LU; for small matrices"

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        if system.unknowns > DIRECT_LIMIT:
            raise ValueError(f"solver 'scipy-direct' takes at most {DIRECT_LIMIT} unknowns, got {system.unknowns}")
        try:
            factor = Factor(
                system.regular().tocsc(),
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0.0,
                options={"SymmetricMode": True},
            )
        except RuntimeError as error:
            raise ValueError(
                f"operator must be positive definite, or singular by constants alone; its factor fails: {error}"
            ) from error
        # Without pivoting the signs of U's diagonal are those of the eigenvalues (Sylvester's law of inertia).
        pivots = factor.superlu.U.diagonal()
        if not (pivots > 0).all():
            raise ValueError(
                f"operator must be positive definite, its factor has {np.count_nonzero(~(pivots > 0))} pivots "
                f"that are not positive of {system.unknowns}"
            )
        return _Factored(system, factor)


class _Factored(MatrixEngine):
    default_max_iterations = 10

    def __init__(self, system: MatrixSystem, factor: Factor) -> None:
        self.system, self.factor = system, factor
        self.info = {"nonzeros": float(system.matrix.nnz), "factor_nonzeros": float(factor.superlu.nnz)}

    def preconditioner(self) -> Precondition:
        """Return the factor's solve, which is the inverse to rounding."""

        def precondition(r: Array, z: Array) -> None:
            z[...] = self.factor.solve(r)

        return precondition

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        r = np.empty_like(b)
        norm = self.system.residual(b, x, r)
        reason = monitor.record(norm)
        for _ in range(max_iterations):
            if reason is not None:
                return reason
            step = self.factor.solve(r)
            x += step
            monitor.stepped(partial(subtract, x, 1.0, step))
            self.system.project(x)
            before, norm = norm, self.system.residual(b, x, r)
            reason = monitor.record(norm)
            if reason is None and norm > PROGRESS * before:
                return Result.STAGNATED
        return reason or Result.MAX_ITERATIONS
