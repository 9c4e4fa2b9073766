"""A solver set up for one grid: checks, null space, norms and residuals of its right-hand sides."""

# Imported on first use, for their weight: `solvers.grid.stencil_kernels`, `solvers.multigrid.preconditioner`.

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.solvers.grid.nullspace import NullSpace
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.interface.elimination import GridElimination
from relaxon.solvers.interface.engine import Prepared, Solver
from relaxon.solvers.interface.prepared_system import PreparedSystem
from relaxon.solvers.interface.request import RequestMemory, packed_vector
from relaxon.solvers.interface.verdict import Figures
from relaxon.solvers.interface.working_operator import WorkingOperator

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator


@dataclass(frozen=True, slots=True)
class PreparedSolver(PreparedSystem):
    """A solver set up for one grid, from `prepare`."""

    operator: PoissonOperator
    solver: Solver
    engine: Prepared
    setup_seconds: float
    working: WorkingOperator = field(repr=False, compare=False)
    memory: RequestMemory = field(default_factory=RequestMemory, repr=False, compare=False)
    reduces: bool = field(default=False, repr=False, compare=False)
    """Whether it solves the rest of a larger system after elimination: its right-hand sides are weighted already."""

    def _find_used(self) -> NDArray[np.bool_]:
        return self.operator.grid.fluid

    @property
    def unknowns(self) -> int:
        """The number of entries of a packed vector."""
        return self.operator.grid.unknowns

    @property
    def _memory(self) -> RequestMemory:
        return self.memory

    def aspreconditioner(self) -> LinearOperator:
        """Return the solver's V-cycle as a preconditioner `M ≈ A⁻¹` for your own Krylov method.

        A SciPy `LinearOperator` on packed vectors, `(unknowns, unknowns)` float64, symmetric and positive definite up
        to float32 rounding, like that of `PoissonGrid.preconditioner`. It has its own work space.

        Raises
        ------
        ValueError : if the solver has no such cycle; only "dcdm", "mg-cg" and "mg-rbgs-cg" have one.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy.sparse.linalg import cg
        >>> from relaxon.solvers import PoissonGrid, prepare
        >>> grid = PoissonGrid(np.zeros((32, 32), np.uint8), boundary="dirichlet")
        >>> M = prepare(grid, solver="mg-cg").aspreconditioner()
        >>> x, info = cg(grid.operator().to_scipy(), np.ones(grid.unknowns), M=M, rtol=1e-8)
        >>> info
        0
        """
        from relaxon.solvers.multigrid.preconditioner import as_linear_operator

        cycle = self.solver.cycle(self.operator)
        if cycle is None:
            raise ValueError(
                f"solver must have a multigrid cycle to be a preconditioner (dcdm, mg-cg, mg-rbgs-cg), got "
                f"{self.solver.name!r}; PoissonGrid.preconditioner() makes one beside any solver"
            )
        return as_linear_operator(self.operator, cycle)

    def update(self, grid: PoissonGrid) -> PreparedSolver:
        """Return the same solver set up for another grid of the same shape: other cells (moving obstacles), another κ.

        The method may take over the memory of this set-up, which must not be used afterwards.

        Raises
        ------
        TypeError, ValueError : if `grid` is not a grid of this shape, or the solver refuses it.

        Examples
        --------
        >>> import numpy as np
        >>> from relaxon.solvers import PoissonGrid, prepare
        >>> cells = np.zeros((32, 32), np.uint8)
        >>> prepared = prepare(PoissonGrid(cells, boundary="dirichlet"), solver="mg-cg")
        >>> cells[8:12, 8:12] = 1
        >>> prepared = prepared.update(PoissonGrid(cells, boundary="dirichlet"))
        >>> prepared.solve(np.ones((32, 32))).result.name
        'CONVERGED'
        """
        if not isinstance(grid, PoissonGrid):
            raise TypeError(f"grid must be a PoissonGrid, got {type(grid).__name__}")
        if grid.shape != self.operator.grid.shape:
            raise ValueError(f"grid must have the shape {self.operator.grid.shape}, got {grid.shape}")
        start = time.perf_counter()
        operator = grid.operator()
        working = WorkingOperator.of(operator)
        engine = self.solver.update(self.engine, working.left)
        return PreparedSolver(operator, self.solver, engine, time.perf_counter() - start, working, self.memory)

    def _vector(self, name: str, array: NDArray[Any], out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return a full or packed array as float64 on `shape3`, zero outside the fluid."""
        grid = self.operator.grid
        if array.shape == grid.shape:
            full = np.empty(grid.shape3) if out is None else out
            if not self._copy_fluid(array, full):
                validation.finite_entries(name, np.where(grid.fluid, array, 0))
        elif (vector := packed_vector(name, array, grid.unknowns)) is not None:
            validation.finite_entries(name, vector)
            full = grid.unpack(vector.astype(np.float64, copy=False))
        else:
            raise ValueError(
                f"{name} must have the grid's shape {grid.shape} or be packed with shape ({grid.unknowns},), "
                f"got {array.shape}"
            )
        return full.reshape(grid.shape3)

    def _side(self, name: str, array: NDArray[Any], out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        side, weights = self._vector(name, array, out), self.operator.grid.row_weights
        if weights is not None and not self.reduces:
            side *= weights.reshape(side.shape)
        return side

    def _copy_fluid(self, array: NDArray[Any], out: NDArray[np.float64]) -> bool:
        """Copy an array's values in the fluid and set the rest to 0; return whether all copied values are finite."""
        from relaxon.solvers.grid.stencil_kernels import masked_copy

        shape3, fluid = self.operator.grid.shape3, self.operator.grid.fluid
        contiguous = np.ascontiguousarray(array)
        return bool(masked_copy(contiguous.reshape(shape3), fluid.reshape(shape3), out.reshape(shape3)))

    def copy_answer(self, x: NDArray[Any], out: NDArray[Any]) -> None:
        if x.shape == self.operator.grid.shape and x.dtype == out.dtype == np.float64 and out.flags.c_contiguous:
            self._copy_fluid(x, out)  # by several threads
        else:
            PreparedSystem.copy_answer(self, x, out)

    def _is_packed(self, side: NDArray[Any]) -> bool:
        return side.shape != self.operator.grid.shape

    def _form_answer(self, x: NDArray[np.float64], packed: bool) -> NDArray[np.float64]:
        grid = self.operator.grid
        shaped = x.reshape(grid.shape)
        return grid.pack(shaped) if packed else shaped

    @property
    def _null(self) -> NullSpace:
        return self.operator.grid.nullspace

    def norm(self, v: NDArray[np.float64]) -> float:
        from relaxon.solvers.grid.stencil_kernels import dot

        solid = v.reshape(self.operator.grid.shape3)
        return math.sqrt(dot(solid, solid))

    def _figures(self, b: NDArray[np.float64], x: NDArray[np.float64]) -> Figures:
        return self.working.figures(b, x)

    @property
    def exponent(self) -> int:
        return self.working.exponent

    @property
    def elimination(self) -> GridElimination | None:
        return self.working.elimination

    @property
    def reduced(self) -> PreparedSystem | None:
        if self.working.elimination is None:
            return None
        left = self.working.left
        working = WorkingOperator(left, left, 0, None)
        return PreparedSolver(left, self.solver, self.engine, self.setup_seconds, working, reduces=True)
