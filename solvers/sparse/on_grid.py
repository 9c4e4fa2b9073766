"""The compiled algebraic multigrid as a solver of grids: on the grid's own matrix, whose levels follow its couplings.

A geometric cycle joins cells by their place, aggregation by their couplings: where widths are stretched along several
axes and κ jumps by many decades, or in mazes, the latter needs a fraction of the iterations. Elsewhere its set-up costs
more than a whole solve by "dcdm".
"""

# Imported on first use, for their weight: `sparse.amg.engine`, `sparse.amg.hierarchy`.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.core.solution import Result
from relaxon.solvers.grid.nullspace import NullSpace
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.interface.engine import Monitor, Prepared, Solver
from relaxon.solvers.precompile import compiling
from relaxon.solvers.sparse.amg.constants import DEFAULTS, Constants
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GridAlgebraicMultigrid(Solver):
    """Algebraic multigrid on the matrix of a grid: aggregates of matched pairs and a K-cycle with Gauss–Seidel in
    float32, under conjugate directions in float64.

    It takes all grids; null vectors are those of the grid, and residuals and verdicts those of its operator.

    Parameters
    ----------
    constants : thresholds of the set-up and factors of the cycle.

    Examples
    --------
    >>> import numpy as np
    >>> from relaxon.solvers import PoissonGrid, solve
    >>> widths = 1.3 ** np.abs(np.arange(24) - 11.5)
    >>> kappa = 1e6 ** np.random.default_rng(0).integers(0, 2, (24, 24)).astype(float)
    >>> grid = PoissonGrid(np.zeros((24, 24), np.uint8), (widths, widths), "dirichlet", kappa)
    >>> solve(grid, np.ones(grid.shape), solver="amg").result.name
    'CONVERGED'
    """

    constants: Constants = DEFAULTS
    name: ClassVar[str] = "amg"
    summary: ClassVar[str] = "compiled algebraic multigrid on the grid's matrix"

    def prepare(self, operator: PoissonOperator) -> Prepared:
        return GridMultigridDirections(operator, self.constants)


class GridMultigridDirections(Prepared):
    """The matrix engine on packed vectors."""

    together = True

    def __init__(self, operator: PoissonOperator, constants: Constants = DEFAULTS) -> None:
        from relaxon.solvers.sparse.amg.engine import MultigridDirections
        from relaxon.solvers.sparse.amg.hierarchy import Hierarchy

        compiling.compile_kind(compiling.kind_of("amg", None))  # the hand-over of another solver comes here uncompiled
        self.grid = operator.grid
        system = matrix_system(operator)
        self._engine = MultigridDirections(system, Hierarchy.of(system, constants, whole=False))
        self.info = self._engine.info
        self.default_max_iterations = self._engine.default_max_iterations
        self._ahead: list[tuple[Array, Array]] = []
        """The right-hand sides of `look_ahead`, full and packed."""

    def look_ahead(self, sides: Sequence[tuple[Array, Array]], tolerances: Sequence[float] | None) -> None:
        packed = [(self._pack(b), self._pack(x)) for b, x in sides]
        self._ahead = [(b, right) for (b, _), (right, _) in zip(sides, packed, strict=True)]
        self._engine.look_ahead(packed, tolerances)

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        right = next((packed for full, packed in self._ahead if full is b), None)
        start = self._pack(x)
        result = self._engine.run(self._pack(b) if right is None else right, start, monitor, max_iterations)
        self._ahead = [one for one in self._ahead if one[0] is not b]
        self.failure = self._engine.failure
        x[...] = self.grid.unpack(start).reshape(x.shape)
        return result

    def _pack(self, v: Array) -> Array:
        return self.grid.pack(v.reshape(self.grid.shape))


def matrix_system(operator: PoissonOperator) -> MatrixSystem:
    """Return the matrix of an operator as a checked system, with the null vectors of its grid.

    ValueError for grids whose matrix has more entries than int32 indices can number.
    """
    grid = operator.grid
    most = (2 * grid.ndim + 1) * grid.unknowns
    if most > np.iinfo(np.int32).max:
        raise ValueError(f"solver 'amg' takes matrices of up to 2^31 entries, got a grid of {grid.unknowns} unknowns")
    matrix = operator.to_csr()
    matrix.eliminate_zeros()  # the diagonal of a cell without neighbours
    null = grid.nullspace
    if null.labels is not None:
        labels = grid.pack(null.labels.reshape(grid.shape)).astype(np.int32, copy=False)
        sizes = np.bincount(labels, minlength=len(null.sizes)).astype(np.int64)
        null = NullSpace(labels.reshape(1, 1, -1), sizes)
    return MatrixSystem(matrix, np.asarray(matrix.diagonal(), np.float64), null)
