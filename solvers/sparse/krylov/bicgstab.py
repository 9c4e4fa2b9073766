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
from relaxon.solvers.krylov.iteration import Steps
from relaxon.solvers.sparse.engine import ALL_KINDS, MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.krylov.iteration import KrylovEngine, SteppedEngine
from relaxon.solvers.sparse.krylov.vectors import as_field, inner, norm_of
from relaxon.solvers.sparse.preconditioners.setup import check_preconditioner, prepare_map
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

BREAKDOWN = 1e-14
"""An inner product below this fraction of the product of the norms is rounding: the method restarts from its `x`."""
STAGNATION_STEPS = 300
"""Steps without a new least residual, restarts included, that mean stagnation."""


class BiCGStab(SteppedEngine, KrylovEngine):
    """BiCGStab with short recurrences: two products with `A` and two with `M` a step."""

    patience = STAGNATION_STEPS
    default_max_iterations = 10_000

    def steps(self, b: Array, x: Array, monitor: Monitor) -> Steps:
        r, norm = self._residual(b, x)
        found = as_field(x, self.system.is_complex)
        yield norm
        shadow, p, v = r.copy(), r.copy(), np.zeros_like(r)
        rho, restarted = inner(shadow, r), True
        while True:
            z = self._apply_preconditioner(p)
            v = self._image(z)
            along = inner(shadow, v)
            if not abs(along) > BREAKDOWN * norm_of(shadow) * norm_of(v):
                if restarted:
                    return Result.STAGNATED if math.isfinite(abs(along)) else Result.NON_FINITE
                shadow, p, restarted = r.copy(), r.copy(), True
                rho = inner(shadow, r)
                yield norm
                continue
            alpha = rho / along
            found += alpha * z
            r -= alpha * v
            z = self._apply_preconditioner(r)
            image = self._image(z)
            square = norm_of(image) ** 2
            omega = inner(image, r) / square if square > 0 else 0.0
            found += omega * z
            r -= omega * image
            norm = norm_of(r)
            yield norm
            old, rho = rho, inner(shadow, r)
            if not abs(rho) > BREAKDOWN * norm_of(shadow) * norm or omega == 0:
                shadow, p, restarted = r.copy(), r.copy(), True
                rho = inner(shadow, r)
                continue
            restarted = False
            p -= omega * v
            p *= rho / old * alpha / omega
            p += r


@dataclass(frozen=True, slots=True)
class MatrixBiCGStab(MatrixSolver):
    """BiCGStab, for matrices of any kind; `preconditioner` is as for `MatrixGMRES`, ILU(0) where None.

    It stores seven vectors whatever the number of iterations. Its preconditioner should be the same linear map in every
    step, which "amg" is only approximately.

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
    summary: ClassVar[str] = "BiCGStab with ILU(0) or a caller's preconditioner"
    kinds: ClassVar[tuple[str, ...]] = ALL_KINDS

    def __post_init__(self) -> None:
        check_preconditioner(self.preconditioner)

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        wanted = ("none" if system.matrix is None else "ilu") if self.preconditioner is None else self.preconditioner
        precondition, info = prepare_map(system, wanted)
        return BiCGStab(system, precondition, info)
