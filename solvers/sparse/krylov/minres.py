"""MINRES, preconditioned, for symmetric and Hermitian matrices, definite or not.

Sources: C. Paige, M. Saunders, "Solution of sparse indefinite systems of linear equations", SIAM J. Numer. Anal. 12
(1975); H. Elman, D. Silvester, A. Wathen, "Finite elements and fast iterative solvers", 2nd ed. (2014), algorithm 4.1,
for the preconditioned form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from relaxon.core.solution import Result
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.krylov.iteration import Steps
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.krylov.iteration import KrylovEngine, SteppedEngine
from relaxon.solvers.sparse.krylov.vectors import as_field, inner, norm_of
from relaxon.solvers.sparse.preconditioners.setup import check_preconditioner, prepare_map
from relaxon.solvers.sparse.system.caller_maps import Vector
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

STAGNATION_STEPS = 1_000
"""Steps without a new least residual that mean stagnation; many, as the plateaus of MINRES are long."""
INDEFINITE = 1e-10
"""A negative `⟨v, M v⟩` beyond this fraction of the product of the norms is not rounding."""


class MinimalResiduals(SteppedEngine, KrylovEngine):
    """Lanczos in the inner product of `M`: `x` has the least `‖r‖_M`, while the 2-norm of `r` is what is recorded."""

    patience = STAGNATION_STEPS
    default_max_iterations = 20_000

    def steps(self, b: Array, x: Array, monitor: Monitor) -> Steps:
        r, norm = self._residual(b, x)
        found = as_field(x, self.system.is_complex)
        yield norm
        v, v_old = r.copy(), np.zeros_like(r)
        z = self._apply_preconditioner(v)
        gamma, gamma_old, failed = self._size(v, z), 1.0, self.failure
        eta, s_old, s, c_old, c = gamma, 0.0, 0.0, 1.0, 1.0
        w, w_old = np.zeros_like(r), np.zeros_like(r)
        while True:
            if failed or not gamma > 0:
                return Result.STAGNATED if math.isfinite(gamma) else Result.NON_FINITE
            z = z / gamma
            image = self._image(z)
            delta = float(np.real(inner(z, image)))
            v_new = image - (delta / gamma) * v - (gamma / gamma_old) * v_old
            z_new = self._apply_preconditioner(v_new)
            gamma_new = self._size(v_new, z_new)
            failed = self.failure
            alpha0 = c * delta - c_old * s * gamma
            alpha1 = math.hypot(alpha0, gamma_new)
            alpha2 = s * delta + c_old * c * gamma
            alpha3 = s_old * gamma
            if not alpha1 > 0:
                return Result.STAGNATED if math.isfinite(alpha1) else Result.NON_FINITE
            c_old, c, s_old, s = c, alpha0 / alpha1, s, gamma_new / alpha1
            w_new = (z - alpha3 * w_old - alpha2 * w) / alpha1
            found += (c * eta) * w_new
            # r = s² r − η c s v_new/γ_new: the residual is η s times a unit vector that is rotated in each step.
            r *= s * s
            if gamma_new > 0:
                r -= (eta * c * s / gamma_new) * v_new
            eta = -s * eta
            yield norm_of(r)
            v_old, v, z, w_old, w = v, v_new, z_new, w, w_new
            gamma_old, gamma = gamma, gamma_new

    def _size(self, v: Vector, z: Vector) -> float:
        """Return `√⟨v, M v⟩`; `failure` says so where the square is negative beyond rounding."""
        square = float(np.real(inner(v, z)))
        if square < -INDEFINITE * norm_of(v) * norm_of(z):
            self.failure = f"the preconditioner is not positive definite: rᵀMr = {square:.3g}"
        return math.sqrt(square) if square > 0 else (0.0 if math.isfinite(square) else math.nan)


@dataclass(frozen=True, slots=True)
class MatrixMINRES(MatrixSolver):
    """MINRES, for symmetric and Hermitian matrices, definite or not.

    `preconditioner` is "jacobi" (the reciprocal of the diagonal's magnitude, or of the row's largest entry where the
    diagonal is zero), "none", or a symmetric positive definite map; None is "jacobi".

    Examples
    --------
    A saddle-point matrix:

    >>> import numpy as np
    >>> from scipy import sparse
    >>> from relaxon.solvers import gallery, solve
    >>> A = gallery.matrix("laplacian-2d", 900)
    >>> B = sparse.random_array((30, 900), density=0.05, rng=np.random.default_rng(0))
    >>> K = sparse.block_array([[A, B.T], [B, None]]).tocsr()
    >>> solve(K, np.ones(930), solver="minres").result.name
    'CONVERGED'
    """

    preconditioner: Any = None
    name: ClassVar[str] = "minres"
    summary: ClassVar[str] = "MINRES with the diagonal or a caller's positive definite preconditioner"
    kinds: ClassVar[tuple[str, ...]] = ("spd", "symmetric-indefinite", "hermitian")

    def __post_init__(self) -> None:
        check_preconditioner(self.preconditioner)
        if isinstance(self.preconditioner, str) and self.preconditioner in ("amg", "ilu"):
            raise ValueError(
                f"preconditioner must be 'jacobi', 'none' or a positive definite map, got {self.preconditioner!r}"
            )

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        wanted = self.preconditioner
        if wanted is None:
            wanted = "none" if system.matrix is None else "jacobi"
        return MinimalResiduals(system, *prepare_map(system, wanted))
