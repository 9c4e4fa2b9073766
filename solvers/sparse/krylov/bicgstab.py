"""BiCGStab with a preconditioner on the right.

Source: H. van der Vorst, "Bi-CGSTAB: a fast and smoothly converging variant of Bi-CG for the solution of nonsymmetric
linear systems", SIAM J. Sci. Stat. Comput. 13 (1992).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from relaxon.core.solution import Result
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.sparse.engine import ALL_KINDS, MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.krylov.vectors import as_field, inner, norm_of
from relaxon.solvers.sparse.preconditioners.setup import prepared_map
from relaxon.solvers.sparse.preconditioners.suitability import check_preconditioner
from relaxon.solvers.sparse.system.caller_maps import Map, Vector
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

BREAKDOWN = 1e-14
"""An inner product below this part of the norms' product is rounding: the method begins again from where it stands."""
STAGNATION_STEPS = 300
"""So many steps without a new least residual mean that it will not converge."""


class BiCGStab(MatrixEngine):
    """Two products with `A` and two with `M` a step, short recurrences."""

    default_max_iterations = 10_000

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
        shadow, p, v = r.copy(), r.copy(), np.zeros_like(r)
        rho = inner(shadow, r)
        least, since, restarted = norm, 0, True
        for _ in range(max_iterations):
            if reason is not None:
                return reason
            z = self._preconditioned(p)
            v = self._image(z)
            along = inner(shadow, v)
            if not abs(along) > BREAKDOWN * norm_of(shadow) * norm_of(v):
                if restarted:
                    return Result.STAGNATED if math.isfinite(abs(along)) else Result.NON_FINITE
                shadow, p, restarted = r.copy(), r.copy(), True
                rho = inner(shadow, r)
                reason = monitor.record(norm)
                continue
            alpha = rho / along
            found += alpha * z
            r -= alpha * v
            z = self._preconditioned(r)
            image = self._image(z)
            square = norm_of(image) ** 2
            omega = inner(image, r) / square if square > 0 else 0.0
            found += omega * z
            r -= omega * image
            norm = norm_of(r)
            reason = monitor.record(norm)
            least, since = (norm, 0) if norm < least else (least, since + 1)
            if since >= STAGNATION_STEPS and reason is None:
                return Result.STAGNATED
            old, rho = rho, inner(shadow, r)
            if not abs(rho) > BREAKDOWN * norm_of(shadow) * norm or omega == 0:
                shadow, p, restarted = r.copy(), r.copy(), True
                rho = inner(shadow, r)
                continue
            restarted = False
            p -= omega * v
            p *= rho / old * alpha / omega
            p += r
        return reason or Result.MAX_ITERATIONS

    def _preconditioned(self, r: Vector) -> Vector:
        """`M r`, the map being given a vector of norm 1."""
        if self.precondition is None:
            return r.copy()
        size = norm_of(r)
        if not 0 < size < math.inf:
            return r.copy()
        return np.asarray(np.asarray(self.precondition(r / size)) * size, r.dtype)

    def _image(self, z: Vector) -> Vector:
        real = np.ascontiguousarray(z).view(np.float64)
        return as_field(self.system.apply(real, np.empty_like(real)), self.system.is_complex)


@dataclass(frozen=True, slots=True)
class MatrixBiCGStab(MatrixSolver):
    """BiCGStab, for matrices of any kind; `preconditioner` as for `MatrixGMRES`, ILU(0) where None.

    It keeps seven vectors whatever the number of iterations; its preconditioner should be the same linear map in each
    step, which "amg" is not quite.

    Examples
    --------
    >>> import numpy as np
    >>> from relaxon.solvers import gallery, solve
    >>> a = gallery.matrix("convection-3d", 2_000)
    >>> solve(a, np.ones(a.shape[0]), solver="bicgstab").result.name
    'CONVERGED'
    """

    preconditioner: Any = None
    name: ClassVar[str] = "bicgstab"
    summary: ClassVar[str] = "BiCGStab with ILU(0) or a preconditioner of the caller's"
    kinds: ClassVar[tuple[str, ...]] = ALL_KINDS

    def __post_init__(self) -> None:
        check_preconditioner(self.preconditioner)

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        wanted = ("none" if system.matrix is None else "ilu") if self.preconditioner is None else self.preconditioner
        precondition, info = prepared_map(system, wanted)
        return BiCGStab(system, precondition, info)
