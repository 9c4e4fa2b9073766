"""Solvers set up for sparse matrices, with the checks, null space, tolerance and float64 verdict that grids have."""
# Imported on first use, for its weight: SciPy.

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import validation
from relaxon.core.masked import fill_unused
from relaxon.core.set_up_summary import LevelSize, SetUpSummary
from relaxon.core.solution import Callback, Result, Solution
from relaxon.core.solve_options import SolveOptions
from relaxon.solvers.grid.nullspace import CONSISTENCY
from relaxon.solvers.interface.complex_parts import ComplexRequest
from relaxon.solvers.interface.elimination import MatrixElimination
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.interface.prepared_system import PreparedSystem
from relaxon.solvers.interface.request import Request, RequestMemory, packed_vector
from relaxon.solvers.interface.verdict import Figures
from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.precompile import compiling
from relaxon.solvers.sparse.choice.automatic import Automatic
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.prepared import verdict_kernels as kernels
from relaxon.solvers.sparse.prepared.figures import complex_figures, euclidean_norm, row_weights
from relaxon.solvers.sparse.prepared.linear_operator import as_linear_operator
from relaxon.solvers.sparse.prepared.reuse import Course, Reused
from relaxon.solvers.sparse.prepared.set_up import DEFAULT_SOLVER, find_elimination, resolve_solver, set_up
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem
from relaxon.solvers.sparse.system.new_values import StoredPattern, same_pattern, update_system
from relaxon.solvers.sparse.system.properties import MatrixProperties
from relaxon.solvers.sparse.system.row_runs import count_runs, count_threads, split_rows

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

PARTS = 16
"""Partial sums of a verdict's figures, whatever the number of threads."""
NEARLY_SINGULAR = (
    "nearly singular: rows sum to no more than the rounding of float32; if the entries were computed in float32, pass "
    "A.astype(numpy.float32), which takes the sums for zero"
)


def prepare_matrix(matrix: Any, solver: Any = None, properties: MatrixProperties | None = None) -> PreparedMatrix:
    """Check a sparse matrix and set up a solver for it; `solver` is a name or a `MatrixSolver`, None for "auto"."""
    chosen = resolve_solver(solver)
    compiling.compile_kind(compiling.kind_of(DEFAULT_SOLVER if solver is None else solver, matrix))
    start = time.perf_counter()
    system = MatrixSystem.of(matrix, properties)
    M = None if properties is None else properties.M
    return prepare_system(system, chosen, start, M, StoredPattern.of(matrix, system))


def prepare_system(
    system: MatrixSystem,
    solver: MatrixSolver,
    start: float | None = None,
    M: Any = None,
    stored: StoredPattern | None = None,
) -> PreparedMatrix:
    """Set up a solver for a checked matrix; `start` is when the checks began, now where None.

    `M` approximates its inverse, None for the solver's own preconditioner. `stored` is its pattern with stored zeros,
    where there were some.
    """
    start = time.perf_counter() if start is None else start
    elimination = find_elimination(system)
    left = system if elimination is None or not len(elimination.index) else elimination.system()
    engine = set_up(solver, left, M)
    seconds = time.perf_counter() - start
    reduced = None if left is system else PreparedMatrix(left, solver, engine, seconds)
    return PreparedMatrix(system, solver, engine, seconds, elimination, reduced, M=M, stored=stored)


@dataclass(frozen=True, slots=True)
class PreparedMatrix(PreparedSystem):
    """A solver set up for one matrix, from `prepare`; `b` and `x0` are vectors `(n,)` or columns `(n, 1)`.

    Where the matrix is complex, the engine's vectors are pairs of real numbers, and `x` is complex128.
    """

    system: MatrixSystem
    solver: MatrixSolver
    engine: MatrixEngine
    setup_seconds: float
    elimination: MatrixElimination | None = field(default=None, repr=False, compare=False)
    """The elimination of unknowns that their own diagonal decides, where there are any."""
    reduced: PreparedMatrix | None = field(default=None, repr=False, compare=False)
    """The solver set up for the other unknowns, where some but not all are eliminated."""
    memory: RequestMemory = field(default_factory=RequestMemory, repr=False, compare=False)
    M: Any = field(default=None, repr=False, compare=False)
    """The caller's preconditioner, None where there is none."""
    stored: StoredPattern | None = field(default=None, repr=False, compare=False)
    """The pattern of the matrix that was first set up, with its stored zeros, where there were some."""
    course: Course = field(default_factory=Course, repr=False, compare=False)
    """How fast the set-up converged whose choices the engine reuses."""
    updates: int = 0
    """How often values have been updated since the first set-up."""

    def update(self, operator: Any) -> PreparedMatrix:
        """Return the same solver set up for new values on the same sparsity pattern: time steps, Newton's method.

        Ordering, aggregates and patterns are kept, and only what depends on values is recomputed; a method that has
        nothing to keep is set up from scratch. The properties of the unknowns (`near_null`, `coordinates`,
        `block_size`) are kept. This object is not modified and can still be used. Where values have changed so much
        that a solve takes many more iterations than with the first set-up, `auto` sets up from scratch during the
        solve, and the solutions of other solvers report it in `message`.

        Parameters
        ----------
        operator : a SciPy sparse matrix with its entries in the same places as the first one's, in any format and
            order. Stored zeros count as entries where the first matrix had stored zeros, and nowhere else.

        Raises
        ------
        TypeError, ValueError : as `prepare`; and where the pattern differs, naming the first such row.

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
        """Return the update to a checked system; `start` is when its checks began, now where None.

        `stored` is its pattern with stored zeros, where there are some.
        """
        start = time.perf_counter() if start is None else start
        elimination = find_elimination(system)
        left = system if elimination is None or not len(elimination.index) else elimination.system()
        had = self.system if self.reduced is None else self.reduced.system
        engine, updates = None, self.updates + 1
        own = self.M is None and getattr(self.engine, "system", None) is had  # and not its real form, for example
        if (
            own
            and left.kind == had.kind
            and _are_same_rows(left.kept, had.kept)
            and same_pattern(left.matrix, had.matrix)
        ):
            engine = self.engine.update(left)
        if engine is None:
            engine, course = set_up(self.solver, left, self.M), Course()
        else:
            engine, course = self._with_course(engine, left)
        seconds = time.perf_counter() - start
        reduced = None
        if left is not system:
            reduced = PreparedMatrix(left, self.solver, engine, seconds, course=course, updates=updates)
        # The arrays of complex requests are twice as long.
        memory = self.memory if system.is_complex == self.system.is_complex else RequestMemory()
        return PreparedMatrix(
            system, self.solver, engine, seconds, elimination, reduced, memory, self.M, stored, course, updates
        )

    def _with_course(self, engine: MatrixEngine, left: MatrixSystem) -> tuple[MatrixEngine, Course]:
        """Return an updated engine, and the course of the set-up whose choices it reuses, to which it is compared."""
        engine.reason = engine.reason or self.engine.reason
        if not engine.reuses:
            return engine, Course()
        course = self._course
        anew = partial(set_up, self.solver, left, None) if isinstance(self.solver, Automatic) else None
        return Reused(left, engine, course, anew), course

    @property
    def _course(self) -> Course:
        if self.reduced is not None:
            return self.reduced._course
        return self.engine.course if isinstance(self.engine, Reused) else self.course

    def _run_once(self, request: Request, monitor: Monitor, limit: int) -> tuple[Result, str]:
        fresh, begun = not self.engine.reuses, max(len(monitor.history), 0)
        found = PreparedSystem._run_once(self, request, monitor, limit)
        if fresh and self.reduced is None:
            self._course.record(monitor.history[begun:])
        return found

    def summary(self) -> SetUpSummary:
        """Return a summary of the set-up: levels, their sizes and complexities. `print(prepared)` prints it."""
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
        """Return the set-up as a preconditioner `M ≈ A⁻¹` for other Krylov methods.

        It is a SciPy `LinearOperator`, `(n, n)` float64, linear, symmetric and positive definite (semidefinite where A
        is singular by constants: both sides are projected); for "amg" to float32 rounding, as its cycle then takes
        steps of fixed lengths. Use it with SciPy's cg, gmres, minres and lobpcg, in one thread at a time, as it has one
        work space.

        Raises
        ------
        ValueError : where the solver has no such map: plain "cg", and solvers with a caller's preconditioner.

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
        return as_linear_operator(self)

    def request(
        self, b: ArrayLike, options: SolveOptions, x0: ArrayLike | None = None, name: str = "b"
    ) -> Request | ComplexRequest:
        if not self.system.is_complex:
            return PreparedSystem.request(self, b, options, x0, name)
        validation.array_like(name, b)
        b, x0 = fill_unused(name, b, self._find_used), fill_unused("x0", x0, self._find_used)
        return self._real_request(b, options, x0, name)

    def _real_request(
        self, b: ArrayLike, options: SolveOptions, x0: ArrayLike | None, name: str, last: Request | None = None
    ) -> Request:
        side, start = self._interleave(name, b), self._interleave("x0", x0)
        return PreparedSystem._real_request(self, side, options, start, name, last)

    def _real_answer(self, request: Request, callback: Callback | None, x0: ArrayLike | None = None) -> Solution:
        return PreparedSystem._real_answer(self, request, callback, self._interleave("x0", x0))

    def _interleave(self, name: str, value: Any) -> Any:
        """Return a complex matrix's vector or column, checked, as new pairs of float64; of a real one, as it is."""
        if not self.system.is_complex or value is None:
            return value
        array = validation.real_or_complex_array(name, value, finite=False)
        vector = self._entries(name, array)
        pairs = np.array(vector, np.complex128, order="C", copy=True).view(np.float64)
        return pairs.reshape(-1, 1) if array.ndim == 2 else pairs

    def _entries(self, name: str, array: Any) -> Any:
        """Return the entries `(n,)` of a vector or a column; ValueError, naming it, where it is malformed."""
        vector = packed_vector(name, array, self.system.unknowns)
        if vector is None:
            raise ValueError(f"{name} must have shape ({self.system.unknowns},), got {array.shape}")
        validation.finite_entries(name, vector)
        return vector

    def _find_used(self) -> NDArray[np.bool_]:
        return np.ones(self.system.unknowns, bool)

    @property
    def has_twins(self) -> bool:
        """Whether several threads may solve at once, each with a twin of the engine."""
        return self.reduced is None and self.engine.twin() is not None

    @property
    def unknowns(self) -> int:
        """The number of rows of the matrix."""
        return self.system.unknowns

    @property
    def _memory(self) -> RequestMemory:
        return self.memory

    def _vector(self, name: str, array: Any, out: Array | None = None) -> Array:
        vector = array.reshape(-1) if self.system.is_complex else self._entries(name, array)
        if out is None:
            return np.array(vector, np.float64, order="C", copy=True)
        out[...] = vector
        return out

    def _is_packed(self, side: Any) -> bool:
        return True

    def _form_answer(self, x: Array, packed: bool) -> NDArray[Any]:
        return x.view(np.complex128) if self.system.is_complex else x

    @property
    def _null(self) -> MatrixSystem:
        return self.system

    def norm(self, v: Array) -> float:
        return euclidean_norm(v)

    def _figures(self, b: Array, x: Array) -> Figures:
        if self.system.is_complex:
            return complex_figures(self.system, b.view(np.complex128), x.view(np.complex128))
        a, n, r = self.system.matrix, self.system.unknowns, np.empty_like(b)
        inverse, count = row_weights(self.system), count_runs(n, PARTS)
        parts = np.empty((count, 5))
        divide(
            kernels.sum_figures, count, split_rows(n, count), a.indptr, a.indices, a.data, b, x, inverse, r, parts,
            chunks=count_threads(n),
        )  # fmt: skip
        residual, scaled, scaled_side, size = (float(norm) for norm in np.sqrt(parts[:, :4].sum(axis=0)))
        error = float(parts[:, 4].max())
        if self.elimination is None:
            return Figures(residual, error, scaled, scaled_side, residual, size)
        index, side = self.elimination.index, self.elimination.side(b, x)
        root, left = np.sqrt(inverse[index]), r[index]
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


def _are_same_rows(one: NDArray[np.int64] | None, other: NDArray[np.int64] | None) -> bool:
    """Return whether two systems have the same rows of a larger one, None for all."""
    return one is other or (one is not None and other is not None and np.array_equal(one, other))
