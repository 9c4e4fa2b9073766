"""`solve`, `solve_many` and `prepare`: the functions that every solve in process goes through.

Imported on first use, for their weight: SciPy, and `relaxon.solvers.sparse`, which loads Numba.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike

from relaxon.core import validation
from relaxon.core.naming import on_device
from relaxon.core.solution import Callback, Solution
from relaxon.core.solve_options import Inconsistent, SolveOptions
from relaxon.solvers.driver.prepared import PreparedSolver
from relaxon.solvers.driver.side_by_side import answer_all
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.interface import registry
from relaxon.solvers.interface.engine import Solver
from relaxon.solvers.interface.request import refuse_columns
from relaxon.solvers.interface.working_operator import WorkingOperator
from relaxon.solvers.kernels.memory import keep_freed_memory
from relaxon.solvers.precompile import compiling

if TYPE_CHECKING:
    from relaxon.core.sparse_matrix import SparseMatrix
    from relaxon.solvers.sparse.engine import MatrixSolver
    from relaxon.solvers.sparse.prepared.prepared_matrix import PreparedMatrix
    from relaxon.solvers.sparse.system.properties import MatrixProperties

DEFAULT_SOLVER = "dcdm"
PROPERTIES = ("near_null", "coordinates", "block_size", "symmetric", "M")
"""The arguments of `prepare` that belong to a matrix."""


def solve(
    operator: PoissonOperator | PoissonGrid | SparseMatrix,
    b: ArrayLike,
    *,
    solver: str | Solver | MatrixSolver | None = None,
    device: str | None = None,
    rtol: float = 1e-6,
    atol: float = 0.0,
    max_iterations: int | None = None,
    x0: ArrayLike | None = None,
    callback: Callback | None = None,
    inconsistent: Inconsistent = "error",
    near_null: ArrayLike | None = None,
    coordinates: ArrayLike | None = None,
    block_size: int | None = None,
    symmetric: bool | None = None,
    M: Any = None,
) -> Solution:
    """Solve `A x = b` to `‖b − A x‖₂ ≤ rtol·‖b‖₂ + atol`.

    Parameters
    ----------
    operator : a grid, or its operator; or a SciPy sparse matrix, real or complex, whose kind is recognised: symmetric
        positive definite or indefinite, nonsymmetric, Hermitian, complex symmetric; or a `LinearOperator`, or any
        object with a shape, a dtype and `matvec`, together with `symmetric` and perhaps `M`.
    b : right-hand side, float32, float64 or integers; a full array of the grid's shape (values outside the fluid are
        ignored), a packed vector `(unknowns,)` or a column `(unknowns, 1)`. Not modified; nor is `x0`. If `b` is
        complex, its real part is solved first and then its imaginary part, each to `1/√2` of the tolerance and with
        `max_iterations`. Residuals and the verdict are those of the complex system, `‖r‖² = ‖r_real‖² +
        ‖r_imaginary‖²`, and the iterations of both parts are added.
    solver : a name from `list_solvers()` or a solver object with its options; None for "dcdm" on a grid, and for
        "auto" on a sparse matrix. "auto" chooses, on grids as well, and says why in `Solution.message`.
    device : None for the compiled kernels on the CPU; a device of torch ("cuda", "cuda:1", or "cpu" for the same code
        without a GPU) for "dcdm" on a grid with κ = 1.
    rtol, atol : relative and absolute tolerance; rtol > 0, atol ≥ 0.
    max_iterations : limit on the iterations; None for the solver's own.
    x0 : initial guess, in either form; zero if None.
    callback : called with a `Progress` after each iteration; returning True stops the solve.
    inconsistent : what to do if a fluid component without any Dirichlet face has a net source, so that no solution
        exists: "error" raises, "report" returns `SINGULAR_INCONSISTENT`, "project" subtracts the component's mean from
        `b` and solves that system. Solutions have zero mean in such components.
    near_null, coordinates, block_size : with a sparse matrix, what its unknowns are: `(n, k)` near-null vectors, which
        `A` maps to nearly zero; or the points `(n/d, d)` of an elastic body in 2 or 3 dimensions, whose rigid motions
        are used as such; or the number of unknowns per node, numbered together. Vectors that `A` maps to zero are null
        vectors: `b` must be orthogonal to them, and `x` will be.
    symmetric : whether a matrix is symmetric, or Hermitian if it is complex; None to find out. True is refused if it is
        not; False has it solved as a nonsymmetric matrix. Required with a `LinearOperator`.
    M : preconditioner, an approximate inverse of a matrix or of a `LinearOperator`: a callable, a `LinearOperator` or a
        sparse matrix; for the solvers "auto", "gmres", "bicgstab" and "minres".

    Returns
    -------
    Solution : `x` float64 (complex128 if `b` or the matrix is complex) in the form of `b`. Not converging is a result,
        not an exception.

    Raises
    ------
    TypeError, ValueError : naming the argument, before any work.
    SingularSystemError (a ValueError) : see `inconsistent`.
    DeviceUnavailableError (a RuntimeError) : this machine does not have the device.

    Examples
    --------
    >>> import numpy as np
    >>> from relaxon.solvers import PoissonGrid, solve
    >>> grid = PoissonGrid(np.zeros((32, 32), np.uint8), spacing=1 / 32, boundary="dirichlet")
    >>> solution = solve(grid, np.ones(grid.shape), solver="cg")
    >>> solution.result.name, bool(solution.relative_residual <= 1e-6)
    ('CONVERGED', True)
    """
    options = SolveOptions(rtol, atol, max_iterations, inconsistent)
    prepared = _prepare(operator, solver, device, near_null, coordinates, block_size, symmetric, M)
    return prepared.solve_with(options, b, x0, callback)


def solve_many(
    operator: PoissonOperator | PoissonGrid | SparseMatrix,
    b: ArrayLike | Sequence[ArrayLike],
    *,
    solver: str | Solver | MatrixSolver | None = None,
    device: str | None = None,
    rtol: float = 1e-6,
    atol: float = 0.0,
    max_iterations: int | None = None,
    x0: ArrayLike | Sequence[ArrayLike] | None = None,
    callback: Callback | None = None,
    inconsistent: Inconsistent = "error",
    near_null: ArrayLike | None = None,
    coordinates: ArrayLike | None = None,
    block_size: int | None = None,
    symmetric: bool | None = None,
    M: Any = None,
) -> tuple[Solution, ...]:
    """Solve for several right-hand sides with one set-up.

    `b` is `(k, *grid.shape)`, `(k, unknowns)` or a sequence of right-hand sides. The other arguments are those of
    `solve`. Every right-hand side is checked before the first is solved. Each solution has the seconds of the shared
    set-up. A callback that stops one solve stops only that one.

    On grids, and by "cg", "jacobi-cg" and "ic-cg", with at least as many right-hand sides as threads and no callback,
    each thread solves for its own right-hand sides, and all of them share what is left over; `solve_seconds` is then
    how long one of them took beside the others.
    """
    validation.array_like("b", b)
    options = SolveOptions(rtol, atol, max_iterations, inconsistent)
    prepared = _prepare(operator, solver, device, near_null, coordinates, block_size, symmetric, M)
    refuse_columns(b, prepared.unknowns)
    sides = list(b)  # type: ignore[arg-type]
    if not sides:
        raise ValueError("b must hold at least one right-hand side, got none")
    starts: list[Any] = [None] * len(sides) if x0 is None else list(x0)  # type: ignore[arg-type]
    if len(starts) != len(sides):
        raise ValueError(f"x0 must hold one start for each of the {len(sides)} right-hand sides, got {len(starts)}")

    def make_request(index: int) -> Any:
        return prepared.request(sides[index], options, starts[index], name=f"b[{index}]")

    requests = [make_request(index) for index in range(len(sides))]
    side_by_side = prepared.has_twins if not isinstance(prepared, PreparedSolver) else not prepared.engine.together
    if callback is None and side_by_side:
        return answer_all(prepared, requests, starts, make_request)
    prepared.look_ahead(requests, watched=callback is not None)
    return tuple(prepared.answer(request, callback, start) for request, start in zip(requests, starts, strict=True))


@overload
def prepare(
    operator: PoissonOperator | PoissonGrid, *, solver: str | Solver | None = None, device: str | None = None
) -> PreparedSolver: ...
@overload
def prepare(
    operator: SparseMatrix,
    *,
    solver: str | MatrixSolver | None = None,
    device: str | None = None,
    near_null: ArrayLike | None = None,
    coordinates: ArrayLike | None = None,
    block_size: int | None = None,
    symmetric: bool | None = None,
    M: Any = None,
) -> PreparedMatrix: ...
@overload
def prepare(
    operator: PoissonOperator | PoissonGrid | SparseMatrix,
    *,
    solver: str | Solver | MatrixSolver | None = None,
    device: str | None = None,
    near_null: ArrayLike | None = None,
    coordinates: ArrayLike | None = None,
    block_size: int | None = None,
    symmetric: bool | None = None,
    M: Any = None,
) -> PreparedSolver | PreparedMatrix: ...
def prepare(
    operator: PoissonOperator | PoissonGrid | SparseMatrix,
    *,
    solver: str | Solver | MatrixSolver | None = None,
    device: str | None = None,
    near_null: ArrayLike | None = None,
    coordinates: ArrayLike | None = None,
    block_size: int | None = None,
    symmetric: bool | None = None,
    M: Any = None,
) -> PreparedSolver | PreparedMatrix:
    """Set a solver up once for many right-hand sides on one geometry (time steps, say), or with one sparse matrix.

    The arguments are those of `solve` that do not concern the right-hand side.
    """
    return _prepare(operator, solver, device, near_null, coordinates, block_size, symmetric, M)


def _prepare(operator: Any, solver: Any, device: str | None, *properties: Any) -> PreparedSolver | PreparedMatrix:
    """Set a solver up; `properties` are those of `PROPERTIES`."""
    keep_freed_memory()
    if isinstance(operator, PoissonGrid):
        operator = operator.operator()
    if not isinstance(operator, PoissonOperator):
        from scipy.sparse import issparse

        if issparse(operator):
            if device is not None:
                raise ValueError(f"device must be None with a sparse matrix, got {device!r}")
            from relaxon.solvers.sparse.prepared.prepared_matrix import prepare_matrix

            return prepare_matrix(operator, solver, _matrix_properties(*properties))
        if all(hasattr(operator, name) for name in ("shape", "dtype", "matvec")):
            if device is not None:
                raise ValueError(f"device must be None with an operator without entries, got {device!r}")
            from relaxon.solvers.sparse.prepared.prepared_operator import prepare_operator

            return prepare_operator(operator, solver, _matrix_properties(*properties))
        raise TypeError(
            "operator must be a PoissonOperator, a PoissonGrid, a SciPy sparse matrix or a LinearOperator, "
            f"got {type(operator).__name__}"
        )
    for name, value in zip(PROPERTIES, properties, strict=True):
        if value is not None:
            raise ValueError(f"{name} must be None with a grid, whose operator is known: it belongs to a sparse matrix")
    if solver is None:
        solver = DEFAULT_SOLVER
    solver = on_device(solver, device, DEFAULT_SOLVER)
    if operator.dtype != np.float64:
        operator = operator.grid.operator(np.float64)
    chosen = registry.find_solver(solver) if isinstance(solver, str) else solver
    if not isinstance(chosen, Solver):
        raise TypeError(f"solver must be a name or a Solver, got {type(solver).__name__}")
    compiling.compile_kind(compiling.kind_of(solver, operator.grid))
    start = time.perf_counter()
    working = WorkingOperator.of(operator)
    engine = chosen.prepare(working.left)
    return PreparedSolver(operator, chosen, engine, time.perf_counter() - start, working)


def _matrix_properties(*properties: Any) -> MatrixProperties:
    from relaxon.solvers.sparse.system.properties import MatrixProperties

    return MatrixProperties(*properties)
