"""The front for sparse matrices: the checks, null space, tolerance and float64 verdict that grids get."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers import compiling, validation
from relaxon.solvers.engine import Prepared
from relaxon.solvers.front import Front, RequestMemory, packed_vector
from relaxon.solvers.sparse.choice import named
from relaxon.solvers.sparse.engine import MatrixSolver
from relaxon.solvers.sparse.system import Array, MatrixSystem

DEFAULT_SOLVER = "auto"


def prepare_matrix(matrix: Any, solver: Any = None) -> PreparedMatrix:
    """Check a sparse matrix and set a solver up for it; `solver` is a name or a `MatrixSolver`, None for "auto"."""
    if solver is None:
        solver = DEFAULT_SOLVER
    chosen = named(solver) if isinstance(solver, str) else solver
    if not isinstance(chosen, MatrixSolver):
        raise TypeError(f"solver must be a name or a MatrixSolver for a sparse matrix, got {type(solver).__name__}")
    compiling.compile_kind(compiling.kind_of(solver, matrix))
    start = time.perf_counter()
    return prepare_system(MatrixSystem.of(matrix), chosen, start)


def prepare_system(system: MatrixSystem, solver: MatrixSolver, start: float | None = None) -> PreparedMatrix:
    """Set a solver up for a matrix that has been checked; `start` is when that was begun, now where None."""
    start = time.perf_counter() if start is None else start
    engine = solver.prepare_matrix(system)
    return PreparedMatrix(system, solver, engine, time.perf_counter() - start)


@dataclass(frozen=True, slots=True)
class PreparedMatrix(Front):
    """A solver set up for one matrix, from `prepare`; `b` and `x0` are vectors `(n,)` or columns `(n, 1)`."""

    system: MatrixSystem
    solver: MatrixSolver
    engine: Prepared
    setup_seconds: float
    memory: RequestMemory = field(default_factory=RequestMemory, repr=False, compare=False)

    def _used(self) -> NDArray[np.bool_]:
        return np.ones(self.system.unknowns, bool)

    @property
    def unknowns(self) -> int:
        """Rows of the matrix."""
        return self.system.unknowns

    @property
    def _memory(self) -> RequestMemory:
        return self.memory

    def _vector(self, name: str, array: Any, out: Array | None = None) -> Array:
        n = self.system.unknowns
        vector = packed_vector(name, array, n)
        if vector is None:
            raise ValueError(f"{name} must have shape ({n},), got {array.shape}")
        array = vector
        validation.finite_entries(name, array)
        if out is None:
            return np.array(array, np.float64, order="C", copy=True)
        out[...] = array
        return out

    def _packed(self, side: Any) -> bool:
        return True

    def _answered(self, x: Array, packed: bool) -> Array:
        return x

    def _defect(self, b: Array) -> tuple[float, int]:
        return self.system.defect(b)

    def _component(self, number: int) -> str:
        return f"component {number} ({self.system.null.sizes[number]} unknowns, rows that sum to zero)"

    def _project(self, v: Array) -> None:
        self.system.project(v)

    def _norm(self, v: Array) -> float:
        return float(np.linalg.norm(v))

    def _true_residual(self, b: Array, x: Array) -> float:
        return self.system.residual(b, x, np.empty_like(b))
