"""The algebraic multigrid of sparse matrices on a grid's matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from relaxon.core.solution import Result
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.interface.engine import Monitor, Prepared, Solver
from relaxon.solvers.sparse.amg.constants import DEFAULTS, Constants
from relaxon.solvers.sparse.amg.solver import AlgebraicMultigrid
from relaxon.solvers.sparse.engine import MatrixEngine
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem


@dataclass(frozen=True, slots=True)
class GridAlgebraicMultigrid(Solver):
    """Algebraic multigrid on the grid's matrix, which knows the couplings alone and nothing of planes or cells.

    It takes several times the memory and the set-up of the cycles on grids. It is for grids that their coarse cells do
    not represent: strongly stretched widths together with large jumps of κ, mazes, thin sheets.

    Parameters
    ----------
    constants : thresholds of the set-up and factors of the cycle.
    """

    constants: Constants = DEFAULTS
    name: ClassVar[str] = "amg"
    summary: ClassVar[str] = "algebraic multigrid on the grid's matrix: for stretched cells with jumps of κ, and mazes"

    def prepare(self, operator: PoissonOperator) -> Prepared:
        system = MatrixSystem.of(operator.to_csr())
        return _OnGrid(operator.grid, system, AlgebraicMultigrid(self.constants).prepare_matrix(system))


class _OnGrid(Prepared):
    """The engine of a matrix, on vectors that are packed from arrays of the grid's shape and unpacked into them."""

    together = True

    def __init__(self, grid: PoissonGrid, system: MatrixSystem, engine: MatrixEngine) -> None:
        self.grid, self.system, self.engine = grid, system, engine
        self.info = engine.info
        self.default_max_iterations = engine.default_max_iterations
        self._ahead: list[tuple[Array, Array]] = []
        """Right-hand sides of `look_ahead` as the caller has them and as they were packed."""

    def look_ahead(self, sides: Sequence[tuple[Array, Array]], tolerances: Sequence[float] | None) -> None:
        packed = [(self._pack(b), self._pack(x)) for b, x in sides]
        self._ahead = [(b, own) for (b, _), (own, _) in zip(sides, packed, strict=True)]
        self.engine.look_ahead(packed, tolerances)

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        place = next((place for place, (side, _) in enumerate(self._ahead) if side is b), None)
        right = self._pack(b) if place is None else self._ahead.pop(place)[1]
        start = self._pack(x)
        result = self.engine.run(right, start, monitor, max_iterations)
        self.failure = self.engine.failure
        x[...] = self.grid.unpack(start).reshape(x.shape)
        return result

    def _pack(self, array: Array) -> Array:
        return self.grid.pack(array.reshape(self.grid.shape))
