"""Flexible GMRES, restarted, with a basis in half the precision.

Sources: Y. Saad, "A flexible inner-outer preconditioned GMRES algorithm", SIAM J. Sci. Comput. 14 (1993), algorithm
2.2; J. Aliaga, H. Anzt, T. Grützmacher, E. Quintana-Ortí, A. Tomás, "Compressed basis GMRES on high-performance GPUs",
Int. J. High Perform. Comput. Appl. 37 (2023), for the basis in float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.core.solution import Result
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.sparse.engine import ALL_KINDS, MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.krylov.iteration import KrylovEngine
from relaxon.solvers.sparse.krylov.vectors import Basis, as_field, norm_of
from relaxon.solvers.sparse.preconditioners.setup import check_preconditioner, choose_preconditioner, prepare_map
from relaxon.solvers.sparse.system.caller_maps import Map, Vector
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

RESTART = 30
"""Directions between restarts: 240 bytes an unknown where all of them are needed."""
STALLED = 0.99
"""A cycle that leaves more than this fraction of the residual will not be followed by a better one."""
NEGLIGIBLE = 1e-14
"""An image with less than this fraction of its norm outside the basis lies in its span: `x` is exact to rounding."""


class FlexibleGMRES(KrylovEngine):
    """GMRES on `A z_j = Σ h_ij v_i`, `z_j = M v_j`: `x` gets the combination of the `z_j` with the least residual."""

    default_max_iterations = 5_000

    def __init__(self, system: MatrixSystem, precondition: Map | None, restart: int, info: dict[str, float]) -> None:
        super().__init__(system, precondition, info)
        self.restart = restart

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        self.failure = ""
        r = np.empty_like(b)
        norm = self.system.residual(b, x, r)
        reason = monitor.record(norm)
        left = max_iterations
        while reason is None and left > 0:
            before, begun = norm, monitor.iterations
            reason = self._cycle(r, norm, x, monitor, min(self.restart, left))
            left -= monitor.iterations - begun
            norm = self.system.residual(b, x, r)
            if reason is None:
                if not norm <= STALLED * before:
                    return Result.STAGNATED if math.isfinite(norm) else Result.NON_FINITE
                monitor.history[-1] = norm  # the true norm replaces that of the recurrence
        return reason or Result.MAX_ITERATIONS

    def _cycle(self, r: Array, norm: float, x: Array, monitor: Monitor, steps: int) -> Result | None:
        """Take up to that many steps from a residual, and improve `x` by them; return the reason to stop, or None."""
        field = self.system.is_complex
        basis = Basis(as_field(r, field) / norm, steps)
        h = np.zeros((steps + 1, steps), basis.first.dtype)
        rotations: list[tuple[float, Any]] = []
        g = np.zeros(steps + 1, h.dtype)
        g[0] = norm
        directions: list[NDArray[Any]] = []
        reason: Result | None = None
        for j in range(steps):
            z = self._direction(basis, j)
            image = self._image(z) if z is not None else basis.first
            size = norm_of(image)
            if z is None or not math.isfinite(size):
                self.failure = "the preconditioner gives a direction that is zero or not finite"
                reason = Result.STAGNATED
                break
            column, rest = basis.orthogonalise(image, j + 1)
            h[: j + 1, j], h[j + 1, j] = column, rest
            _rotate(h, g, rotations, j)
            if h[j, j] == 0:
                self.failure = "a direction of the preconditioner adds nothing to those before it"
                reason = Result.STAGNATED
                break
            directions.append(z)
            reason = monitor.record(float(abs(g[j + 1])))
            if reason is not None or rest <= NEGLIGIBLE * size:
                break
            basis.append(image, rest)
        count = len(directions)
        if count:
            weights = np.linalg.solve(np.triu(h[:count, :count]), g[:count])
            found = as_field(x, field)
            for weight, z in zip(weights, directions, strict=True):
                found += weight * z
        return reason

    def _direction(self, basis: Basis, j: int) -> NDArray[Any] | None:
        """Return `M v_j`, scaled to a largest magnitude of 1, in the precision of the basis; None where that fails."""
        v = basis.vector(j)
        with np.errstate(over="ignore", invalid="ignore"):
            z: Vector = v if self.precondition is None else self.precondition(v)
            largest = float(np.abs(z).max())
        if not 0 < largest < math.inf:
            return None
        return np.asarray(z / z.dtype.type(largest), basis.stored.dtype)


def _rotate(h: Vector, g: Vector, rotations: list[tuple[float, Any]], j: int) -> None:
    """Reduce column `j` of a Hessenberg matrix to triangular form by Givens rotations, and apply them to `g`, in
    place."""
    for i, (c, s) in enumerate(rotations):
        upper, lower = h[i, j], h[i + 1, j]
        h[i, j], h[i + 1, j] = c * upper + s * lower, -np.conj(s) * upper + c * lower
    upper, lower = h[j, j], h[j + 1, j]
    size = math.hypot(abs(upper), abs(lower))
    phase = upper / abs(upper) if upper != 0 else 1.0
    c, s = (abs(upper) / size, phase * np.conj(lower) / size) if size > 0 else (1.0, 0.0)
    rotations.append((c, s))
    h[j, j], h[j + 1, j] = phase * size, 0.0
    g[j], g[j + 1] = c * g[j], -np.conj(s) * g[j]


@dataclass(frozen=True, slots=True)
class MatrixGMRES(MatrixSolver):
    """Flexible GMRES, for matrices of any kind.

    Parameters
    ----------
    preconditioner : "amg" (multigrid downstream, for real matrices like those of convection and diffusion), "ilu"
        (ILU(0)), "jacobi", "none"; or a map: a callable, a SciPy `LinearOperator` or sparse matrix, which may change
        from step to step. None chooses "amg" where it is suitable and "ilu" elsewhere.
    restart : number of directions between restarts, ≥ 1.

    Examples
    --------
    >>> import numpy as np
    >>> from relaxon.solvers import gallery, solve
    >>> from relaxon.solvers.sparse import MatrixGMRES
    >>> a = gallery.matrix("recirculating-2d", 2_000)
    >>> solution = solve(a, np.ones(a.shape[0]), solver=MatrixGMRES("ilu", restart=50))
    >>> solution.result.name
    'CONVERGED'
    """

    preconditioner: Any = None
    restart: int = RESTART
    name: ClassVar[str] = "gmres"
    summary: ClassVar[str] = "flexible GMRES with multigrid downstream, ILU(0) or a caller's preconditioner"
    kinds: ClassVar[tuple[str, ...]] = ALL_KINDS

    def __post_init__(self) -> None:
        check_preconditioner(self.preconditioner)
        validation.positive_int("restart", self.restart)

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        wanted = choose_preconditioner(system) if self.preconditioner is None else self.preconditioner
        precondition, info = prepare_map(system, wanted)
        return FlexibleGMRES(system, precondition, self.restart, info)
