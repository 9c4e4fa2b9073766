"""The front of every solver: checks, null space, tolerance, and the float64 verdict on what came out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike

from relaxon.core import validation
from relaxon.core.naming import on_device
from relaxon.core.solution import Callback, Solution
from relaxon.solvers.driver import registry
from relaxon.solvers.driver.prepared import PreparedSolver
from relaxon.solvers.driver.side_by_side import answer_all
from relaxon.solvers.driver.working import Working
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.interface.engine import Solver
from relaxon.solvers.interface.front import Inconsistent
from relaxon.solvers.interface.request import refuse_columns
from relaxon.solvers.precompile import compiling

if TYPE_CHECKING:
    from relaxon.solvers.sparse.engine import MatrixSolver
    from relaxon.solvers.sparse.prepared.prepared_matrix import PreparedMatrix
    from relaxon.solvers.sparse.system.matrix_system import ScipySparse
    from relaxon.solvers.sparse.system.properties import MatrixProperties

DEFAULT_SOLVER = "dcdm"


def solve(
    operator: PoissonOperator | PoissonGrid | ScipySparse,
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
    operator : the grid's operator, or the grid; or a SciPy sparse matrix, real or complex, whose kind is recognised:
        symmetric positive definite or not definite, nonsymmetric, Hermitian, complex symmetric; or a `LinearOperator`,
        or what has a shape, a dtype and `matvec`, with `symmetric` and perhaps `M`.
    b : right-hand side, float32, float64 or integers; a full array of the grid's shape (values outside the fluid
        are ignored) or a packed vector `(unknowns,)` or column `(unknowns, 1)`. Not modified; nor is `x0`. Where `b`
        is complex its real part is
        solved and then its imaginary one, each to `1/√2` of the tolerance and with `max_iterations`; residuals and the
        verdict are those of the complex system, `‖r‖² = ‖r_real‖² + ‖r_imaginary‖²`, and iterations add up.
    solver : a name from `list_solvers()` or a solver object with its options; None for "dcdm" on a grid, and for
        "auto" on a sparse matrix. "auto" chooses, on grids as well, and says why in `Solution.message`.
    device : None for the compiled kernels on the CPU; a device of torch ("cuda", "cuda:1", "cpu" for the same code
        without a GPU) for "dcdm" on a grid with κ = 1.
    rtol, atol : tolerances; rtol > 0, atol ≥ 0.
    max_iterations : limit, None for the solver's own.
    x0 : start, in either form; zero where None.
    callback : called with a `Progress` after each iteration; returning True stops the solve.
    inconsistent : what to do where a fluid component without any Dirichlet face has a net source, so that no
        solution exists: "error" raises, "report" returns `SINGULAR_INCONSISTENT`, "project" removes the
        component's mean from `b` and solves that system. Solutions have zero mean in such components.
    near_null, coordinates, block_size : with a sparse matrix, what its unknowns are: `(n, k)` vectors that `A` takes to
        nearly nothing; or the points `(n/d, d)` of an elastic body in 2 or 3 dimensions, whose rigid motions these are;
        or how many unknowns of a node are numbered together. Those that `A` takes to nothing are null vectors: `b` must
        be orthogonal to them, and `x` is.
    symmetric : whether a matrix is symmetric, or Hermitian where it is complex; None to look. True where it is not is
        refused, False has it solved as a nonsymmetric one. Required with a `LinearOperator`.
    M : about the inverse of a matrix or of a `LinearOperator`, the preconditioner: a callable, a `LinearOperator` or a
        sparse matrix; for solver "auto", "gmres", "bicgstab" and "minres".

    Returns
    -------
    Solution : `x` float64 (complex128 where `b` or the matrix is complex) in the form of `b`. Not converging is a
        result, not an exception.

    Raises
    ------
    TypeError, ValueError : naming the argument, before any work. SingularSystemError (a ValueError): see above.
    DeviceUnavailableError (a RuntimeError) : the device is not here.

    Examples
    --------
    >>> import numpy as np
    >>> from relaxon.solvers import PoissonGrid, solve
    >>> grid = PoissonGrid(np.zeros((32, 32), np.uint8), spacing=1 / 32, boundary="dirichlet")
    >>> solution = solve(grid, np.ones(grid.shape), solver="cg")
    >>> solution.result.name, bool(solution.relative_residual <= 1e-6)
    ('CONVERGED', True)
    """
    prepared = prepare(
        operator,
        solver=solver,
        device=device,
        near_null=near_null,
        coordinates=coordinates,
        block_size=block_size,
        symmetric=symmetric,
        M=M,
    )
    return prepared.solve(
        b,
        rtol=rtol,
        atol=atol,
        max_iterations=max_iterations,
        x0=x0,
        callback=callback,
        inconsistent=inconsistent,
    )


def solve_many(
    operator: PoissonOperator | PoissonGrid | ScipySparse,
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

    `b` is `(k, *grid.shape)`, `(k, unknowns)` or a sequence of right-hand sides. Takes the arguments of `solve`; every
    right-hand side is checked before the first is solved. The set-up's seconds are those of the shared set-up, in each
    solution. A callback that stops one solve stops only that one.

    On grids, where there are at least as many right-hand sides as threads and no callback, each thread solves for its
    own ones: `solve_seconds` is then how long one took beside the others.
    """
    validation.array_like("b", b)
    prepared = prepare(
        operator,
        solver=solver,
        device=device,
        near_null=near_null,
        coordinates=coordinates,
        block_size=block_size,
        symmetric=symmetric,
        M=M,
    )
    refuse_columns(b, prepared.unknowns)
    sides = list(b)  # type: ignore[arg-type]
    if not sides:
        raise ValueError("b must hold at least one right-hand side, got none")
    starts: list[Any] = [None] * len(sides) if x0 is None else list(x0)  # type: ignore[arg-type]
    if len(starts) != len(sides):
        raise ValueError(f"x0 must hold one start for each of the {len(sides)} right-hand sides, got {len(starts)}")
    requests = [
        prepared.request(side, rtol, atol, max_iterations, start, inconsistent, name=f"b[{index}]")
        for index, (side, start) in enumerate(zip(sides, starts, strict=True))
    ]
    if isinstance(prepared, PreparedSolver) and callback is None:
        return answer_all(prepared, requests, starts)
    prepared.look_ahead(requests, watched=callback is not None)
    return tuple(prepared.answer(request, callback, start) for request, start in zip(requests, starts, strict=True))


@overload
def prepare(
    operator: PoissonOperator | PoissonGrid, *, solver: str | Solver | None = None, device: str | None = None
) -> PreparedSolver: ...
@overload
def prepare(
    operator: ScipySparse,
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
    operator: PoissonOperator | PoissonGrid | ScipySparse,
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
    operator: PoissonOperator | PoissonGrid | ScipySparse,
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

    Takes the arguments of `solve` that do not concern the right-hand side.
    """
    if isinstance(operator, PoissonGrid):
        operator = operator.operator()
    if not isinstance(operator, PoissonOperator):
        from scipy.sparse import issparse

        if issparse(operator):
            if device is not None:
                raise ValueError(f"device must be None with a sparse matrix, got {device!r}")
            from relaxon.solvers.sparse.prepared.prepared_matrix import prepare_matrix

            return prepare_matrix(operator, solver, _said(near_null, coordinates, block_size, symmetric, M))
        if all(hasattr(operator, name) for name in ("shape", "dtype", "matvec")):
            if device is not None:
                raise ValueError(f"device must be None with an operator without entries, got {device!r}")
            from relaxon.solvers.sparse.prepared.prepared_operator import prepare_operator

            return prepare_operator(operator, solver, _said(near_null, coordinates, block_size, symmetric, M))
        raise TypeError(
            "operator must be a PoissonOperator, a PoissonGrid, a SciPy sparse matrix or a LinearOperator, "
            f"got {type(operator).__name__}"
        )
    _refuse_on_grid(near_null=near_null, coordinates=coordinates, block_size=block_size, symmetric=symmetric, M=M)
    if solver is None:
        solver = DEFAULT_SOLVER
    solver = on_device(solver, device, DEFAULT_SOLVER)
    if operator.dtype != np.float64:
        operator = operator.grid.operator(np.float64)
    chosen = registry.get(solver) if isinstance(solver, str) else solver
    if not isinstance(chosen, Solver):
        raise TypeError(f"solver must be a name or a Solver, got {type(solver).__name__}")
    compiling.compile_kind(compiling.kind_of(solver, operator.grid))
    start = time.perf_counter()
    working = Working.of(operator)
    engine = chosen.prepare(working.left)
    return PreparedSolver(operator, chosen, engine, time.perf_counter() - start, working)


def _said(*properties: Any) -> MatrixProperties:
    from relaxon.solvers.sparse.system.properties import MatrixProperties

    return MatrixProperties(*properties)


def _refuse_on_grid(**properties: object) -> None:
    """Raise ValueError naming the first that is given: they go with a matrix."""
    for name, value in properties.items():
        if value is not None:
            raise ValueError(f"{name} must be None with a grid, whose operator is known: it goes with a sparse matrix")
