"""The front for sparse matrices: the checks, null space, tolerance and float64 verdict that grids get."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.core.set_up_summary import LevelSize, SetUpSummary
from relaxon.core.solution import Result
from relaxon.solvers.grid.nullspace import CONSISTENCY
from relaxon.solvers.interface.elimination import MatrixElimination
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.interface.front import Front
from relaxon.solvers.interface.request import Request, RequestMemory, packed_vector
from relaxon.solvers.interface.verdict import Figures, backward_error
from relaxon.solvers.precompile import compiling
from relaxon.solvers.sparse.choice.automatic import MATRIX_SOLVERS, Automatic, named
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.prepared.figures import euclidean_norm, row_weights
from relaxon.solvers.sparse.prepared.reuse import Course, Reused
from relaxon.solvers.sparse.system.matrix_kinds import NAMES
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem
from relaxon.solvers.sparse.system.new_values import StoredPattern, same_pattern, update_system
from relaxon.solvers.sparse.system.properties import MatrixProperties

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

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
    M = None if properties is None else properties.M
    return prepare_system(system, chosen, start, M, StoredPattern.of(matrix, system))


def resolved(solver: Any) -> MatrixSolver:
    """Return the solver of a name, "auto" where None; TypeError for what is neither a name nor a `MatrixSolver`."""
    if solver is None:
        solver = DEFAULT_SOLVER
    chosen = named(solver, peers=True) if isinstance(solver, str) else solver
    if not isinstance(chosen, MatrixSolver):
        raise TypeError(f"solver must be a name or a MatrixSolver for a sparse matrix, got {type(solver).__name__}")
    return chosen


def prepare_system(
    system: MatrixSystem,
    solver: MatrixSolver,
    start: float | None = None,
    M: Any = None,
    stored: StoredPattern | None = None,
) -> PreparedMatrix:
    """Set a solver up for a matrix that has been checked; `start` is when that was begun, now where None. `M` is about
    its inverse, None for the solver's own preconditioner; `stored` is its pattern with the zeros that it came with,
    where there were some."""
    start = time.perf_counter() if start is None else start
    elimination = _elimination(system)
    left = system if elimination is None or not len(elimination.index) else elimination.system()
    engine = _set_up(solver, left, M)
    seconds = time.perf_counter() - start
    reduced = None if left is system else PreparedMatrix(left, solver, engine, seconds)
    return front_of(system)(system, solver, engine, seconds, elimination, reduced, M=M, stored=stored)


def front_of(system: MatrixSystem) -> type[PreparedMatrix]:
    """Return the class of what is set up for a system: real, or complex."""
    if not system.is_complex:
        return PreparedMatrix
    from relaxon.solvers.sparse.prepared.prepared_complex import PreparedComplexMatrix

    return PreparedComplexMatrix


def _elimination(system: MatrixSystem) -> MatrixElimination | None:
    if system.kind == "spd":
        return MatrixElimination.of(system)
    if system.is_complex:
        return None
    from relaxon.solvers.sparse.prepared.row_elimination import RowElimination

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
        from relaxon.solvers.sparse.system.real_form import real_form

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
    from relaxon.solvers.sparse.krylov.conjugate_directions import ConjugateDirectionsWith
    from relaxon.solvers.sparse.krylov.gmres import MatrixGMRES
    from relaxon.solvers.sparse.krylov.minres import MatrixMINRES

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
    engine: MatrixEngine
    setup_seconds: float
    elimination: MatrixElimination | None = field(default=None, repr=False, compare=False)
    """Of the unknowns that their own diagonal decides, where there are any."""
    reduced: PreparedMatrix | None = field(default=None, repr=False, compare=False)
    """The solver set up for the others, where there are any and not only they."""
    memory: RequestMemory = field(default_factory=RequestMemory, repr=False, compare=False)
    M: Any = field(default=None, repr=False, compare=False)
    """The caller's preconditioner, where there is one."""
    stored: StoredPattern | None = field(default=None, repr=False, compare=False)
    """Of the matrix that was first set up, with the zeros that it came with, where there were some."""
    course: Course = field(default_factory=Course, repr=False, compare=False)
    """Of the set-up whose choices the engine goes on with."""
    updates: int = 0
    """How often values have been updated since the first set-up."""

    def update(self, operator: Any) -> PreparedMatrix:
        """The same solver set up for new values on the same sparsity pattern: time steps, Newton's method.

        Ordering, aggregates and patterns are kept, and only what depends on values is computed anew; a method without
        anything to keep is set up anew. What was said of the unknowns (`near_null`, `coordinates`, `block_size`) stays.
        This one stays as it is and can still be used. Where values have changed so much that a solve takes many more
        iterations than one with the first set-up did, `auto` sets up anew in the midst of it, and other solvers'
        solutions say so in `message`.

        Parameters
        ----------
        operator : a SciPy sparse matrix whose entries are where the first one's were, in any format and order. Stored
            zeros count as entries where the first matrix had them, and nowhere else.

        Raises
        ------
        TypeError, ValueError : as `prepare`; and where the pattern differs, saying where.

        Examples
        --------
        >>> import numpy as np
        >>> from relaxon.solvers import gallery, prepare
        >>> A = gallery.matrix("lognormal-3d", 2_000)
        >>> prepared = prepare(A, solver="amg")
        >>> A.data *= 2
        >>> prepared.update(A).solve(np.ones(A.shape[0])).result.name
        'CONVERGED'
        """
        from scipy.sparse import issparse

        if not isinstance(self.system, MatrixSystem):
            raise TypeError("operator cannot be updated: what was set up is a LinearOperator, which has no pattern")
        if not issparse(operator):
            raise TypeError(f"operator must be a SciPy sparse matrix, got {type(operator).__name__}")
        start = time.perf_counter()
        system, stored = update_system(self.system, operator, self.stored)
        return self.follow(system, start, stored)

    def follow(
        self, system: MatrixSystem, start: float | None = None, stored: StoredPattern | None = None
    ) -> PreparedMatrix:
        """As `update`, to a system that has been checked; `start` is when that was begun, now where None, `stored` its
        pattern with zeros."""
        start = time.perf_counter() if start is None else start
        elimination = _elimination(system)
        left = system if elimination is None or not len(elimination.index) else elimination.system()
        had = self.system if self.reduced is None else self.reduced.system
        engine, updates = None, self.updates + 1
        own = self.M is None and getattr(self.engine, "system", None) is had  # not of its real form, say
        if own and left.kind == had.kind and _same_rows(left.kept, had.kept) and same_pattern(left.matrix, had.matrix):
            engine = self.engine.update(left)
        if engine is None:
            engine, course = _set_up(self.solver, left, self.M), Course()
        else:
            engine, course = self._with_course(engine, left)
        seconds = time.perf_counter() - start
        reduced = None
        if left is not system:
            reduced = PreparedMatrix(left, self.solver, engine, seconds, course=course, updates=updates)
        # Of complex requests arrays are twice as long.
        memory = self.memory if system.is_complex == self.system.is_complex else RequestMemory()
        return front_of(system)(
            system, self.solver, engine, seconds, elimination, reduced, memory, self.M, stored, course, updates
        )

    def _with_course(self, engine: MatrixEngine, left: MatrixSystem) -> tuple[MatrixEngine, Course]:
        """An updated engine, compared with the course of the set-up that it goes on with where it does."""
        engine.reason = engine.reason or self.engine.reason
        if not engine.reuses:
            return engine, Course()
        course = self._course
        anew = partial(_set_up, self.solver, left, None) if isinstance(self.solver, Automatic) else None
        return Reused(left, engine, course, anew), course

    @property
    def _course(self) -> Course:
        if self.reduced is not None:
            return self.reduced._course
        return self.engine.course if isinstance(self.engine, Reused) else self.course

    def _run_once(self, request: Request, monitor: Monitor, limit: int) -> tuple[Result, str]:
        fresh, begun = not self.engine.reuses, max(len(monitor.history), 0)
        found = Front._run_once(self, request, monitor, limit)
        if fresh and self.reduced is None:
            self._course.record(monitor.history[begun:])
        return found

    def summary(self) -> SetUpSummary:
        """Return what is set up: levels, their sizes and complexities. `print(prepared)` prints it."""
        return SetUpSummary(
            solver=self.solver.name,
            unknowns=self.unknowns,
            nonzeros=int(self.system.matrix.nnz) if isinstance(self.system, MatrixSystem) else 0,
            levels=tuple(LevelSize(*size) for size in self.engine.level_sizes),
            setup_seconds=self.setup_seconds,
            updates=self.updates,
            reason=self.engine.reason,
        )

    def __str__(self) -> str:
        return str(self.summary())

    def aspreconditioner(self) -> LinearOperator:
        """Return the set-up as a preconditioner `M ≈ A⁻¹` for a Krylov method of yours.

        A SciPy `LinearOperator`, `(n, n)` float64, linear, symmetric and positive definite (semidefinite where A is
        singular by constants: both sides are projected), to float32 rounding for "amg", whose cycle then takes steps
        of fixed lengths. For SciPy's cg, gmres, minres and lobpcg. It has work space of its own: one thread at a time.

        Raises
        ------
        ValueError : where the solver has no such map: plain "cg", and preconditioners of your own.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy.sparse.linalg import minres
        >>> from relaxon.solvers import gallery, prepare
        >>> A = gallery.matrix("triangles-2d", 2_000)
        >>> M = prepare(A, solver="amg").aspreconditioner()
        >>> x, info = minres(A, np.ones(A.shape[0]), M=M, rtol=1e-8)
        >>> info
        0
        """
        from relaxon.solvers.sparse.prepared.linear_operator import as_linear_operator

        return as_linear_operator(self)

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
        return self.system.describe(number)

    def _project(self, v: Array) -> None:
        self.system.project(v)

    def _norm(self, v: Array) -> float:
        return euclidean_norm(v)

    def _figures(self, b: Array, x: Array) -> Figures:
        from relaxon.solvers.sparse.prepared import verdict_kernels as kernels

        a, r, m = self.system.matrix, np.empty_like(b), np.empty_like(b)
        kernels.row_figures(a.indptr, a.indices, a.data, b, x, r, m)
        residual, error = euclidean_norm(r), backward_error(r, m)
        inverse, left, side = row_weights(self.system), r, b
        if self.elimination is not None:
            index, side = self.elimination.index, self.elimination.side(b, x)
            inverse, left = inverse[index], r[index]
        root = np.sqrt(inverse)
        return Figures(residual, error, *map(euclidean_norm, (root * left, root * side, left, side)))

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


def _same_rows(one: NDArray[np.int64] | None, other: NDArray[np.int64] | None) -> bool:
    """Whether two systems are of the same rows of a whole one, None for all."""
    return one is other or (one is not None and other is not None and np.array_equal(one, other))
