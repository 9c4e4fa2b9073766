"""The front for sparse matrices: the checks, null space, tolerance and float64 verdict that grids get."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from relaxon.solvers import validation
from relaxon.solvers.driver import MAX_RESTARTS, Inconsistent, Request, SingularSystemError, verdict
from relaxon.solvers.engine import Monitor
from relaxon.solvers.nullspace import CONSISTENCY
from relaxon.solvers.solution import Callback, Result, Solution
from relaxon.solvers.sparse.choice import named
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.system import Array, MatrixSystem

DEFAULT_SOLVER = "auto"


def prepare_matrix(matrix: Any, solver: Any = None) -> PreparedMatrix:
    """Check a sparse matrix and set a solver up for it; `solver` is a name or a `MatrixSolver`, None for "auto"."""
    if solver is None:
        solver = DEFAULT_SOLVER
    chosen = named(solver) if isinstance(solver, str) else solver
    if not isinstance(chosen, MatrixSolver):
        raise TypeError(f"solver must be a name or a MatrixSolver for a sparse matrix, got {type(solver).__name__}")
    start = time.perf_counter()
    system = MatrixSystem.of(matrix)
    engine = chosen.prepare_matrix(system)
    return PreparedMatrix(system, chosen, engine, time.perf_counter() - start)


@dataclass(frozen=True, slots=True)
class PreparedMatrix:
    """A solver set up for one matrix, from `prepare`."""

    system: MatrixSystem
    solver: MatrixSolver
    engine: MatrixEngine
    setup_seconds: float

    def solve(
        self,
        b: ArrayLike,
        *,
        rtol: float = 1e-6,
        atol: float = 0.0,
        max_iterations: int | None = None,
        x0: ArrayLike | None = None,
        callback: Callback | None = None,
        inconsistent: Inconsistent = "error",
    ) -> Solution:
        """As the function `solve`, without the set-up; `b` and `x0` are vectors `(n,)`."""
        return self.answer(self.request(b, rtol, atol, max_iterations, x0, inconsistent), callback)

    def request(
        self,
        b: ArrayLike,
        rtol: float,
        atol: float,
        max_iterations: int | None,
        x0: ArrayLike | None,
        inconsistent: str,
        name: str = "b",
    ) -> Request:
        """Check the arguments of a solve and copy its vectors."""
        rtol = validation.positive_float("rtol", rtol)
        atol = validation.non_negative_float("atol", atol)
        if max_iterations is not None:
            max_iterations = validation.positive_int("max_iterations", max_iterations)
        if inconsistent not in ("error", "report", "project"):
            raise ValueError(f"inconsistent must be 'error', 'report' or 'project', got {inconsistent!r}")
        side = validation.real_array(name, b)
        right = self._vector(name, side)
        start = np.zeros_like(right) if x0 is None else self._vector("x0", validation.real_array("x0", x0))
        defect, component = self.system.defect(right)
        refusal = ""
        if defect > CONSISTENCY[side.dtype] and inconsistent != "project":
            refusal = (
                f"{name} is not in the range of the singular operator: component {component} "
                f"({self.system.null.sizes[component]} unknowns, rows that sum to zero) has a net source of "
                f"{defect:.2e} of its total; remove it or pass inconsistent='project'"
            )
            if inconsistent == "error":
                raise SingularSystemError(refusal)
        else:
            self.system.project(right)
        self.system.project(start)
        norm = float(np.linalg.norm(right))
        if not np.isfinite(norm):
            raise ValueError(f"{name} must have a finite norm in float64, got {norm}")
        return Request(right, start, True, rtol * norm + atol, norm, max_iterations, refusal)

    def answer(self, request: Request, callback: Callback | None = None) -> Solution:
        """Run the solver on a checked request and judge the outcome by the true residual."""
        start = time.perf_counter()
        monitor = Monitor(request.tolerance, callback)
        b, x = request.b, request.x
        message = ""
        if request.inconsistent:
            result, message = Result.SINGULAR_INCONSISTENT, request.inconsistent
        elif request.b_norm == 0.0:
            x[...] = 0.0
            result, message = Result.CONVERGED, "b is zero"
        else:
            result, message = self._run(b, x, monitor, request.max_iterations or self.engine.default_max_iterations)
        true = self._true_residual(b, x)
        result, message = verdict(result, message, true, request.tolerance)
        return Solution(
            x=x,
            result=result,
            residuals=np.array(monitor.history or [true]),
            iterations=monitor.iterations,
            setup_seconds=self.setup_seconds,
            solve_seconds=time.perf_counter() - start,
            true_residual=true,
            relative_residual=true / request.b_norm if request.b_norm > 0 else 0.0,
            tolerance=request.tolerance,
            solver=self.solver.name,
            message="; ".join(part for part in (self.engine.reason, message) if part),
            fallbacks=monitor.fallbacks,
            info=dict(self.engine.info),
        )

    def _run(self, b: Array, x: Array, monitor: Monitor, limit: int) -> tuple[Result, str]:
        """Run; where a recurrence claims the tolerance and the true residual does not, go on from there."""
        for _ in range(1 + MAX_RESTARTS):
            result = self.engine.run(b, x, monitor, limit - monitor.iterations)
            self.system.project(x)
            if result is not Result.CONVERGED or self._true_residual(b, x) <= monitor.tolerance:
                return result, self.engine.failure
            if monitor.iterations >= limit:
                return Result.MAX_ITERATIONS, ""
            monitor.history.pop()  # the next run records the true residual in the place of the claimed one
        return Result.STAGNATED, "the recurrence met the tolerance, the true residual did not"

    def _true_residual(self, b: Array, x: Array) -> float:
        return self.system.residual(b, x, np.empty_like(b))

    def _vector(self, name: str, array: Any) -> Array:
        n = self.system.unknowns
        if array.shape != (n,):
            raise ValueError(f"{name} must have shape ({n},), got {array.shape}")
        return np.array(array, np.float64, order="C", copy=True)
