"""The front for sparse matrices: the checks, null space, tolerance and float64 verdict that grids get."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers import compiling, validation
from relaxon.solvers.elimination import MatrixElimination
from relaxon.solvers.engine import Prepared
from relaxon.solvers.front import Front
from relaxon.solvers.nullspace import CONSISTENCY
from relaxon.solvers.request import RequestMemory, packed_vector
from relaxon.solvers.sparse.choice import named
from relaxon.solvers.sparse.engine import MatrixSolver
from relaxon.solvers.sparse.properties import MatrixProperties
from relaxon.solvers.sparse.system import Array, MatrixSystem
from relaxon.solvers.verdict import Figures, backward_error

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

DEFAULT_SOLVER = "auto"
NEARLY_SINGULAR = (
    "nearly singular: rows sum to no more than the rounding of float32; if the entries were computed in float32, pass "
    "A.astype(numpy.float32), which takes the sums for zero"
)


def prepare_matrix(matrix: Any, solver: Any = None, properties: MatrixProperties | None = None) -> PreparedMatrix:
    """Check a sparse matrix and set a solver up for it; `solver` is a name or a `MatrixSolver`, None for "auto"."""
    if solver is None:
        solver = DEFAULT_SOLVER
    chosen = named(solver, peers=True) if isinstance(solver, str) else solver
    if not isinstance(chosen, MatrixSolver):
        raise TypeError(f"solver must be a name or a MatrixSolver for a sparse matrix, got {type(solver).__name__}")
    for name in ("symmetric", "M"):
        if properties is not None and getattr(properties, name) is not None:
            properties.checked(matrix.shape[0])
            raise NotImplementedError(f"{name} is checked, and not used yet")
    compiling.compile_kind(compiling.kind_of(solver, matrix))
    start = time.perf_counter()
    return prepare_system(MatrixSystem.of(matrix, properties), chosen, start)


def prepare_system(system: MatrixSystem, solver: MatrixSolver, start: float | None = None) -> PreparedMatrix:
    """Set a solver up for a matrix that has been checked; `start` is when that was begun, now where None."""
    start = time.perf_counter() if start is None else start
    elimination = MatrixElimination.of(system)
    left = system if elimination is None or not len(elimination.index) else elimination.system()
    engine = solver.prepare_matrix(left)
    seconds = time.perf_counter() - start
    reduced = None if left is system else PreparedMatrix(left, solver, engine, seconds)
    return PreparedMatrix(system, solver, engine, seconds, elimination, reduced)


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
        from relaxon.solvers.sparse.preconditioner import as_linear_operator

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
        inverse, left, side = self.system.inverse_diagonal, r, b
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
        if self.system.single:
            return "rows that sum to zero to the rounding of float32 are taken to sum to zero"
        return NEARLY_SINGULAR if self.system.suspected else ""

    def _consistency(self, dtype: np.dtype[Any]) -> float:
        return CONSISTENCY[np.dtype(np.float32)] if self.system.single else CONSISTENCY[dtype]


def _norm(v: Array) -> float:
    """`‖v‖₂` without BLAS, whose threads take longer to wake than a vector takes to add up."""
    with np.errstate(over="ignore"):  # infinity is what is scaled, or said
        return math.sqrt(float(np.square(v).sum()))
