"""The outer iteration of deep conjugate directions, with a caller's preconditioner.

Source: Kaneda et al., "A Deep Conjugate Direction Method for Iteratively Solving Linear Systems", ICML 2023,
algorithm 1, with any map from a residual to a direction in the place of the network.
"""

# Imported on first use, for its weight: `solvers.dcdm`.

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.core.solution import Result
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.interface.engine import Monitor, Prepared, Solver
from relaxon.solvers.interface.verdict import subtract
from relaxon.solvers.krylov.iteration import Steps
from relaxon.solvers.sparse.engine import ConjugateDirection, MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.krylov.conjugate_gradients import STAGNATION_STEPS
from relaxon.solvers.sparse.krylov.iteration import SteppedEngine
from relaxon.solvers.sparse.system import vector_kernels as kernels
from relaxon.solvers.sparse.system.caller_maps import Map, check_map, wrap_map
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

WINDOW = 2
"""Number of earlier directions to which the next one is made A-orthogonal, as in the paper."""
NEGLIGIBLE = 1e-10
"""A step whose gain, relative to `‖r‖ √(dᵀAd)`, is below this is lost to rounding."""

NEGATIVE = 1e-10
"""A negative curvature of a unit vector beyond this fraction of the largest diagonal entry is not rounding."""


@dataclass(frozen=True, slots=True)
class ConjugateDirectionsWith(Solver, MatrixSolver):
    """Conjugate directions with a preconditioner, on a grid or on a sparse matrix.

    The preconditioner need not be symmetric, positive or linear: each direction is made A-orthogonal to the last
    `window` ones and followed by an exact line search, so that the A-norm of the error cannot grow. A direction that is
    not finite or makes no progress is replaced by `D⁻¹r` for that step, and counted in `Solution.fallbacks`.

    Parameters
    ----------
    preconditioner : a callable from a vector of the unknowns to one (on a grid: in `pack` order), or a SciPy
        `LinearOperator` or sparse matrix. It gets the residual scaled to norm 1, float64, and must not modify it.
    window : number of earlier directions, ≥ 0.

    Examples
    --------
    >>> import numpy as np
    >>> from relaxon.solvers import ConjugateDirectionsWith, gallery, solve
    >>> problem = gallery.make("variable", 16)
    >>> inverse = 1 / problem.grid.operator().to_csr().diagonal()
    >>> solution = solve(problem.grid, problem.b, solver=ConjugateDirectionsWith(lambda r: inverse * r))
    >>> solution.result.name
    'CONVERGED'
    """

    preconditioner: Any
    window: int = WINDOW
    name: ClassVar[str] = "conjugate-directions"
    summary: ClassVar[str] = "conjugate directions with a caller's preconditioner"

    def __post_init__(self) -> None:
        check_map("preconditioner", self.preconditioner)
        if self.window != 0:
            validation.positive_int("window", self.window)

    def prepare(self, operator: PoissonOperator) -> Prepared:
        from relaxon.solvers.dcdm import ConjugateDirections

        # Where decided cells are eliminated, the caller's map still acts on the whole grid, with zeros there.
        grid = getattr(operator.grid, "whole", operator.grid)
        precondition = wrap_map("preconditioner", self.preconditioner, grid.unknowns)

        def direction(r: NDArray[np.float64]) -> NDArray[Any]:
            packed = precondition(grid.pack(r.reshape(grid.shape)))
            return grid.unpack(packed).reshape(r.shape)

        return ConjugateDirections(operator, direction, self.window)

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        unknowns = system.whole or system.unknowns
        precondition = wrap_map("preconditioner", self.preconditioner, unknowns, kept=system.kept)
        return _Directions(system, precondition, self.window)


class _Directions(SteppedEngine):
    """`d = M(r/‖r‖)`; `d ← d − p (pᵀAd)/(pᵀAp)` over the window; `α = dᵀr/dᵀAd`; `x ← x + αd`; `r ← b − Ax`."""

    patience = STAGNATION_STEPS
    default_max_iterations = 1000

    def __init__(self, system: MatrixSystem, precondition: Map, window: int) -> None:
        self.system, self.precondition, self.window = system, precondition, window
        self.info = {"nonzeros": float(system.matrix.nnz), "window": float(window)}
        self._inverse = system.inverse_diagonal
        self._largest = float(system.diagonal.max())
        self._past: list[ConjugateDirection] = []

    def steps(self, b: Array, x: Array, monitor: Monitor) -> Steps:
        self._past = []
        r = np.empty_like(b)
        norm = self.system.residual(b, x, r)
        yield norm
        while True:
            found = self._search(r, norm, monitor)
            curvature = found.curvature
            if not curvature > 0:
                if curvature < 0:
                    self.failure = f"the matrix is not positive definite: a direction has the curvature {curvature:.3g}"
                return Result.STAGNATED if math.isfinite(curvature) else Result.NON_FINITE
            alpha = found.projection / curvature
            kernels.add_scaled(alpha, found.d, x)
            monitor.stepped(partial(subtract, x, alpha, found.d))
            self._past = [*self._past, found][-self.window :] if self.window else []
            norm = self.system.residual(b, x, r)
            yield norm

    def _search(self, r: Array, norm: float, monitor: Monitor) -> ConjugateDirection:
        """Return the next direction."""
        found = self._make_conjugate(self.precondition(r / norm), r, self._past)
        if found.curvature < -NEGATIVE * self._largest:
            return found  # proves that the matrix is indefinite, whatever other directions say
        if found.curvature > 0 and abs(found.projection) > NEGLIGIBLE * norm * math.sqrt(found.curvature):
            return found
        monitor.fallbacks += 1
        found = self._make_conjugate(self._inverse * r, r, self._past)
        if found.curvature > 0:
            return found
        # D⁻¹r lies in the span of the window, to rounding: without it the step is plain descent.
        return self._make_conjugate(self._inverse * r, r, [])

    def _make_conjugate(self, proposal: NDArray[Any], r: Array, past: list[ConjugateDirection]) -> ConjugateDirection:
        length = math.sqrt(float(np.square(proposal, dtype=np.float64).sum()))
        if not 0 < length < math.inf:
            return ConjugateDirection(r, r, math.nan, 0.0)
        d = proposal.astype(np.float64) / length
        for earlier in past:
            kernels.add_scaled(-kernels.dot(earlier.image, d) / earlier.curvature, earlier.d, d)
        self.system.project(d)
        image = self.system.apply(d, np.empty_like(d))
        return ConjugateDirection(d, image, kernels.dot(d, image), kernels.dot(d, r))
