"""The front for sparse matrices: the checks, null space, tolerance and float64 verdict that grids get."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers import compiling, validation
from relaxon.solvers.elimination import MatrixElimination
from relaxon.solvers.engine import Prepared
from relaxon.solvers.front import Front
from relaxon.solvers.nullspace import CONSISTENCY
from relaxon.solvers.request import RequestMemory, packed_vector
from relaxon.solvers.sparse.choice import MATRIX_SOLVERS, named
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.general.figures import row_weights
from relaxon.solvers.sparse.general.kinds import NAMES
from relaxon.solvers.sparse.properties import MatrixProperties
from relaxon.solvers.sparse.system import Array, MatrixSystem
from relaxon.solvers.verdict import Figures, backward_error

DEFAULT_SOLVER = "auto"
TAKE_MAPS = ("gmres", "bicgstab", "minres")
"""Solvers with a preconditioner of the caller's, beside "auto"."""
NEARLY_SINGULAR = (
    "nearly singular: rows sum to no more than the rounding of float32; if the entries were computed in float32, pass "
    "A.astype(numpy.float32), which takes the sums for zero"
)


def prepare_matrix(matrix: Any, solver: Any = None, properties: MatrixProperties | None = None) -> PreparedMatrix:
    """Check a sparse matrix and set a solver up for it; `solver` is a name or a `MatrixSolver`, None for "auto"."""
    chosen = resolved(solver)
    compiling.compile_kind(compiling.kind_of(DEFAULT_SOLVER if solver is None else solver, matrix))
    start = time.perf_counter()
    system = MatrixSystem.of(matrix, properties)
    return prepare_system(system, chosen, start, None if properties is None else properties.M)


def resolved(solver: Any) -> MatrixSolver:
    """Return the solver of a name, "auto" where None; TypeError for what is neither a name nor a `MatrixSolver`."""
    if solver is None:
        solver = DEFAULT_SOLVER
    chosen = named(solver) if isinstance(solver, str) else solver
    if not isinstance(chosen, MatrixSolver):
        raise TypeError(f"solver must be a name or a MatrixSolver for a sparse matrix, got {type(solver).__name__}")
    return chosen


def prepare_system(
    system: MatrixSystem, solver: MatrixSolver, start: float | None = None, M: Any = None
) -> PreparedMatrix:
    """Set a solver up for a matrix that has been checked; `start` is when that was begun, now where None. `M` is about
    its inverse, None for the solver's own preconditioner."""
    start = time.perf_counter() if start is None else start
    elimination = _elimination(system)
    left = system if elimination is None or not len(elimination.index) else elimination.system()
    engine = _set_up(solver, left, M)
    seconds = time.perf_counter() - start
    reduced = None if left is system else PreparedMatrix(left, solver, engine, seconds)
    if system.is_complex:
        from relaxon.solvers.sparse.general.complex_front import PreparedComplexMatrix

        return PreparedComplexMatrix(system, solver, engine, seconds)
    return PreparedMatrix(system, solver, engine, seconds, elimination, reduced)


def _elimination(system: MatrixSystem) -> MatrixElimination | None:
    if system.kind == "spd":
        return MatrixElimination.of(system)
    if system.is_complex:
        return None
    from relaxon.solvers.sparse.general.elimination import RowElimination

    return RowElimination.of(system)


def _set_up(solver: MatrixSolver, system: MatrixSystem, M: Any) -> MatrixEngine:
    """Set a solver up for what is left of a system; ValueError where that is not of a kind that the solver is for."""
    if M is not None:
        method = use_map(solver, M, system)
        engine = method.prepare_matrix(system)
        if solver.name == "auto":
            engine.reason = f"auto chose {method.name}: with the preconditioner given, for {NAMES[system.kind]} matrix"
        return engine
    if system.kind == "hermitian" and "hermitian" not in solver.kinds and "spd" in solver.kinds:
        from relaxon.solvers.sparse.general.real_form import real_form

        form = real_form(system)
        if form.kind == "spd":
            return solver.prepare_matrix(form)
    refuse_kind(solver, system)
    if system.kind == "nonsymmetric" and solver.name == "auto" and not system.is_complex:
        compiling.compile_kind(compiling.kind_of("gmres", system.matrix))
    return solver.prepare_matrix(system)


def refuse_kind(solver: MatrixSolver, system: MatrixSystem) -> None:
    """Raise ValueError where a solver is not for matrices of the system's kind."""
    if system.kind not in solver.kinds:
        fit = [name for name, one in MATRIX_SOLVERS.items() if system.kind in one.kinds]
        raise ValueError(
            f"solver {solver.name!r} is for {' or '.join(NAMES[kind] for kind in solver.kinds)} matrix, got "
            f"{NAMES[system.kind]} one: {system.why}; for that there are {', '.join(fit)}"
        )


def use_map(solver: MatrixSolver, M: Any, system: MatrixSystem) -> MatrixSolver:
    """Return the solver with `M` as its preconditioner, "auto" the one for the system's kind; ValueError where it has
    none of the caller's."""
    from relaxon.solvers.sparse.directions import ConjugateDirectionsWith
    from relaxon.solvers.sparse.general.gmres import MatrixGMRES
    from relaxon.solvers.sparse.general.minres import MatrixMINRES

    if solver.name == "auto":
        by_kind: dict[str, MatrixSolver] = {
            "spd": ConjugateDirectionsWith(M),
            "symmetric-indefinite": MatrixMINRES(M),
            "hermitian": MatrixMINRES(M),
        }
        return by_kind.get(system.kind, MatrixGMRES(M))
    refuse_kind(solver, system)
    if solver.name not in TAKE_MAPS:
        raise ValueError(
            f"M must be None with solver {solver.name!r}, which has a preconditioner of its own or none; "
            f"{', '.join(TAKE_MAPS)} and auto take one"
        )
    return replace(solver, preconditioner=M)  # type: ignore[type-var]


@dataclass(frozen=True, slots=True)
class PreparedMatrix(Front):
    """A solver set up for one matrix, from `prepare`; `b` and `x0` are vectors `(n,)` or columns `(n, 1)`."""

    system: MatrixSystem
    solver: MatrixSolver
    engine: Prepared
    setup_seconds: float
    elimination: MatrixElimination | None = field(default=None, repr=False, compare=False)
    """Of the unknowns that their own diagonal decides, where there are any."""
    reduced: PreparedMatrix | None = field(default=None, repr=False, compare=False)
    """The solver set up for the others, where there are any and not only they."""
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
        with np.errstate(over="ignore"):  # of what is then scaled
            return float(np.linalg.norm(v))

    def _figures(self, b: Array, x: Array) -> Figures:
        from relaxon.solvers.sparse import verdict_kernels as kernels

        a, r, m = self.system.matrix, np.empty_like(b), np.empty_like(b)
        kernels.row_figures(a.indptr, a.indices, a.data, b, x, r, m)
        residual, error = _norm(r), backward_error(r, m)
        inverse, left, side = row_weights(self.system), r, b
        if self.elimination is not None:
            index, side = self.elimination.index, self.elimination.side(b, x)
            inverse, left = inverse[index], r[index]
        root = np.sqrt(inverse)
        return Figures(residual, error, _norm(root * left), _norm(root * side), _norm(left), _norm(side))

    @property
    def exponent(self) -> int:
        return self.system.exponent

    @property
    def _remark(self) -> str:
        said = NEARLY_SINGULAR if self.system.suspected else ""
        if self.system.single:
            said = "rows that sum to zero to the rounding of float32 are taken to sum to zero"
        return "; ".join(part for part in (self.system.remark, said) if part)

    def _consistency(self, dtype: np.dtype[Any]) -> float:
        return CONSISTENCY[np.dtype(np.float32)] if self.system.single else CONSISTENCY[dtype]


def _norm(v: Array) -> float:
    """`‖v‖₂` without BLAS, whose threads take longer to wake than a vector takes to add up."""
    with np.errstate(over="ignore"):  # infinity is what is scaled, or said
        return math.sqrt(float(np.square(v).sum()))
