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
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.krylov.vectors import as_field, inner, norm_of
from relaxon.solvers.sparse.preconditioners.setup import caller_map, inverse_magnitudes
from relaxon.solvers.sparse.preconditioners.suitability import check_preconditioner
from relaxon.solvers.sparse.system.caller_maps import Map, Vector
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

STAGNATION_STEPS = 1_000
"""So many steps without a new least residual mean that rounding has won: plateaus of MINRES are long."""
INDEFINITE = 1e-10
"""`⟨v, M v⟩` below this part of the norms' product, and negative, is not rounding."""


class MinimalResiduals(MatrixEngine):
    """Lanczos in the inner product of `M`; `x` has the least `‖r‖_M`, while the 2-norm of `r` itself is told."""

    default_max_iterations = 20_000

    def __init__(self, system: MatrixSystem, precondition: Map | None, info: dict[str, float]) -> None:
        self.system, self.precondition = system, precondition
        self.info = info | ({} if system.matrix is None else {"nonzeros": float(system.matrix.nnz)})

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        self.failure = ""
        field = self.system.is_complex
        real = np.empty_like(b)
        norm = self.system.residual(b, x, real)
        reason = monitor.record(norm)
        r, found = as_field(real, field), as_field(x, field)
        v, v_old = r.copy(), np.zeros_like(r)
        z = self._preconditioned(v)
        gamma, gamma_old, failed = self._size(v, z), 1.0, self.failure
        eta, s_old, s, c_old, c = gamma, 0.0, 0.0, 1.0, 1.0
        w, w_old = np.zeros_like(r), np.zeros_like(r)
        least, since = norm, 0
        for _ in range(max_iterations):
            if reason is not None:
                return reason
            if failed or not gamma > 0:
                return Result.STAGNATED if math.isfinite(gamma) else Result.NON_FINITE
            z = z / gamma
            image = self._image(z)
            delta = float(np.real(inner(z, image)))
            v_new = image - (delta / gamma) * v - (gamma / gamma_old) * v_old
            z_new = self._preconditioned(v_new)
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
            # r = s² r − η c s v_new/γ_new, as the residual is η s times a unit vector that is turned with each step.
            r *= s * s
            if gamma_new > 0:
                r -= (eta * c * s / gamma_new) * v_new
            eta = -s * eta
            norm = norm_of(r)
            reason = monitor.record(norm)
            least, since = (norm, 0) if norm < least else (least, since + 1)
            if since >= STAGNATION_STEPS and reason is None:
                return Result.STAGNATED
            v_old, v, z, w_old, w = v, v_new, z_new, w, w_new
            gamma_old, gamma = gamma, gamma_new
        return reason or Result.MAX_ITERATIONS

    def _preconditioned(self, r: Vector) -> Vector:
        """`M r`, the map being given a vector of norm 1."""
        size = norm_of(r)
        if self.precondition is None or not 0 < size < math.inf:
            return r.copy()
        return np.asarray(np.asarray(self.precondition(r / size)) * size, r.dtype)

    def _size(self, v: Vector, z: Vector) -> float:
        """`√⟨v, M v⟩`; a failure is told where that is not real."""
        square = float(np.real(inner(v, z)))
        if square < -INDEFINITE * norm_of(v) * norm_of(z):
            self.failure = f"the preconditioner is not positive definite: rᵀMr = {square:.3g}"
        return math.sqrt(square) if square > 0 else (0.0 if math.isfinite(square) else math.nan)

    def _image(self, z: Vector) -> Vector:
        real = np.ascontiguousarray(z).view(np.float64)
        return as_field(self.system.apply(real, np.empty_like(real)), self.system.is_complex)


@dataclass(frozen=True, slots=True)
class MatrixMINRES(MatrixSolver):
    """MINRES, for symmetric and Hermitian matrices, definite or not.

    `preconditioner` is "jacobi" (one over the diagonal's magnitude, or over the row's largest entry where that is
    zero), "none", or a map that is symmetric and positive definite; None is "jacobi".

    Examples
    --------
    A saddle point, with the blocks that make its eigenvalues cluster:

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
    summary: ClassVar[str] = "MINRES with the diagonal or a positive definite preconditioner of the caller's"
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
        if isinstance(wanted, str):
            if wanted == "none":
                return MinimalResiduals(system, None, {})
            inverse = inverse_magnitudes(system)
            return MinimalResiduals(system, lambda r: inverse * r, {})
        return MinimalResiduals(system, caller_map(wanted, system), {})
