"""Solvers of other libraries behind the same call: PyAMG's hierarchies, SciPy's CG and sparse LU, on the CSR matrix."""

# Imported on first use, for their weight: PyAMG, SciPy.

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from relaxon.core.extras import require
from relaxon.core.solution import Result
from relaxon.solvers.external.aggregation import smoothed_aggregation_solver
from relaxon.solvers.external.factors import Factor
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.interface.engine import Monitor, Prepared, Solver

Array = NDArray[np.float64]
DIRECT_LIMIT = {2: 2_000_000, 3: 150_000}
"""Unknowns up to which a sparse factor of the matrix fits ordinary memory, by the number of dimensions."""

PROGRESS = 0.9
"""An iteration that ended early is only restarted if it brought the residual below this part of what it was."""


class _StopIterating(Exception):
    """Leaves a foreign iteration from inside its callback."""


Iterate = Callable[[Array, Array, float, int, Callable[[Array], None]], object]
"""`iterate(b, x0, tolerance, limit, watch)` takes at most `limit` steps, and calls `watch(x)` after each."""


class _Assembled(Prepared):
    """Packs, calls a foreign iteration on the CSR matrix, and watches the true residual after each of its steps."""

    def __init__(self, operator: PoissonOperator, max_iterations: int) -> None:
        self.operator = operator
        self.grid = operator.grid
        self.matrix = operator.to_csr()
        self.info = {"nonzeros": float(self.matrix.nnz)}
        self.default_max_iterations = max_iterations
        self.iterate: Iterate

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        shape, grid = self.grid.shape, self.grid
        right, start = grid.pack(b.reshape(shape)), grid.pack(x.reshape(shape))
        best: list[Array] = [start]
        with np.errstate(over="ignore"):  # infinity is recorded as what it is
            least = float(np.linalg.norm(right - self.matrix @ start))
        reason = monitor.record(least)
        if reason is not None:
            return reason

        def watch(iterate: Array) -> None:
            nonlocal reason, least
            norm = float(np.linalg.norm(right - self.matrix @ iterate))
            if norm <= least:
                best[0], least = np.array(iterate, copy=True), norm
            reason = monitor.record(norm)
            if reason is not None:
                raise _StopIterating

        began = monitor.iterations
        left, before = max_iterations, np.inf
        # A foreign iteration may end early by its own measure of the residual: it is started again while that helps.
        while reason is None and left > 0 and monitor.history[-1] < PROGRESS * before:
            before = monitor.history[-1]
            with contextlib.suppress(_StopIterating):
                self.iterate(right, best[0], monitor.tolerance, left, watch)
            left = max_iterations - (monitor.iterations - began)
        x[...] = grid.unpack(best[0]).reshape(x.shape)
        if reason is not None:
            return reason
        return Result.MAX_ITERATIONS if left <= 0 else Result.STAGNATED

    def held_matrix(self) -> Any:
        """Return the matrix with one entry more on the diagonal for each singular component, scaled like the matrix.

        It adds an equation `x_i = 0`, which a consistent right-hand side lets the solution meet exactly; the driver
        sets the component's mean afterwards.
        """
        from scipy.sparse import diags

        held = np.zeros(self.grid.unknowns)
        null = self.grid.nullspace
        if null.labels is not None:
            found, first = np.unique(self.grid.pack(null.labels.reshape(self.grid.shape)), return_index=True)
            held[first[found > 0]] = float(self.matrix.diagonal().max()) or 1.0
        return self.matrix + diags(held).tocsr()


@dataclass(frozen=True, slots=True)
class PyAMG(Solver):
    """PyAMG's algebraic multigrid, accelerated by conjugate gradients.

    Parameters
    ----------
    method : "sa" for smoothed aggregation, "rs" for Ruge–Stüben.

    PyAMG's CG measures `‖r‖₂ / ‖b‖₂` of a residual that it updates, not of the true one (PyAMG 5.4.1); its own check is
    made a hundred times stricter than the tolerance, and the monitor stops it at the true residual.
    """

    method: Literal["sa", "rs"] = "sa"
    name: ClassVar[str] = "pyamg"
    summary: ClassVar[str] = "PyAMG, CG-accelerated"

    def __post_init__(self) -> None:
        if self.method not in ("sa", "rs"):
            raise ValueError(f"method must be 'sa' or 'rs', got {self.method!r}")

    def prepare(self, operator: PoissonOperator) -> Prepared:
        require(("pyamg",), f"solver 'pyamg-{self.method}'")
        import pyamg
        from scipy.sparse import csr_matrix

        engine = _Assembled(operator, 300)
        # Closed components are made regular: with a singular matrix PyAMG's CG stops early now and then.
        make = smoothed_aggregation_solver if self.method == "sa" else pyamg.ruge_stuben_solver
        hierarchy = make(csr_matrix(engine.held_matrix()), coarse_solver="pinv")
        complexity = float(hierarchy.operator_complexity())
        engine.info |= {"levels": float(len(hierarchy.levels)), "operator_complexity": complexity}

        def iterate(b: Array, x0: Array, tolerance: float, limit: int, watch: Callable[[Array], None]) -> None:
            share = max(0.01 * tolerance / float(np.linalg.norm(b)), 1e-15)
            hierarchy.solve(b, x0=x0, tol=share, maxiter=limit, accel="cg", callback=watch)

        engine.iterate = iterate
        return engine


@dataclass(frozen=True, slots=True)
class SciPyCG(Solver):
    """`scipy.sparse.linalg.cg` on the CSR matrix, without a preconditioner."""

    name: ClassVar[str] = "scipy-cg"
    summary: ClassVar[str] = "SciPy's conjugate gradients on the CSR matrix"

    def prepare(self, operator: PoissonOperator) -> Prepared:
        from scipy.sparse.linalg import cg

        engine = _Assembled(operator, 20_000)
        engine.iterate = lambda b, x0, tolerance, limit, watch: cg(
            engine.matrix, b, x0=x0, rtol=0.0, atol=0.1 * tolerance, maxiter=limit, callback=watch
        )
        return engine


@dataclass(frozen=True, slots=True)
class SciPyDirect(Solver):
    """SciPy's sparse LU, with one unknown held in each singular component. ValueError for grids too large for it."""

    name: ClassVar[str] = "scipy-direct"
    summary: ClassVar[str] = "SciPy's sparse LU; for small grids"

    def prepare(self, operator: PoissonOperator) -> Prepared:
        grid = operator.grid
        # A slab is as cheap to factor as a plane: what counts is how many axes are long.
        dimensions = 2 if min(grid.shape3) <= 2 else 3
        limit = DIRECT_LIMIT[dimensions]
        if grid.unknowns > limit:
            raise ValueError(
                f"solver 'scipy-direct' takes at most {limit} unknowns in {dimensions} dimensions, got {grid.unknowns}"
            )
        engine = _Assembled(operator, 5)
        factor = Factor(engine.held_matrix().tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})

        def iterate(b: Array, x0: Array, tolerance: float, limit: int, watch: Callable[[Array], None]) -> None:
            x = x0.copy()
            for _ in range(limit):  # the second is iterative refinement
                x += factor.solve(b - engine.matrix @ x)
                watch(x)

        engine.iterate = iterate
        return engine
