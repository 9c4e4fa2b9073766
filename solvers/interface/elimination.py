"""Unknowns that their own diagonal decides: found, eliminated from a system before it is solved, and put back.

A row with `a_ii ≥ 10⁴ Σ_{j≠i}|a_ij|` (a Dirichlet value by a penalty, a unit row beside tiny conductances) determines
its unknown by itself: to four digits, and to four more with each refinement. In a norm over all rows, such a row hides
the error of all others. So the other unknowns are solved for with the contribution of the decided ones moved to the
right-hand side, and the decided ones are refined from their own rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from relaxon.core.solution import Progress, Result
from relaxon.solvers.grid.couplings import add_faces_above
from relaxon.solvers.grid.faces import face_coefficients
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.grid.poisson_grid import CellType, CheckedGrid, PoissonGrid

if TYPE_CHECKING:
    from relaxon.solvers.interface.engine import Monitor
    from relaxon.solvers.interface.prepared_system import PreparedSystem
    from relaxon.solvers.interface.request import Request
    from relaxon.solvers.sparse.system.matrix_system import MatrixSystem

Array = NDArray[np.float64]
DECIDED = 1e4
"""How many times the sum of the other entries' magnitudes a diagonal entry must be to decide its unknown."""
REDUCED_PART = 0.5
"""Fraction of the tolerances for the remaining unknowns: refining the eliminated ones changes the residual again."""
LEAST_RTOL = 1e-14
"""The least relative tolerance for the remaining unknowns that is derived from that of all: float64 has no more
digits."""
WEAK = 1e-3
"""The rounding that a sum of squared couplings may have, since it contains the diagonal's."""
REFINEMENTS = 4
"""Each brings four more digits where decided unknowns are coupled to each other; four reach float64's last digit."""


class Elimination(ABC):
    """The decided unknowns of a system, and the smaller system of the remaining ones."""

    decided: NDArray[np.bool_]

    @abstractmethod
    def decide(self, b: Array, x: Array) -> None:
        """Set the decided unknowns of `x` from their own rows, in place."""

    @abstractmethod
    def side(self, b: Array, x: Array) -> Array:
        """Return the right-hand side of the remaining system: `b` minus the contribution of the decided unknowns."""

    @abstractmethod
    def left(self, x: Array) -> Array:
        """Return a copy of the remaining unknowns, in the form of the smaller system."""

    @abstractmethod
    def put(self, left: Array, x: Array) -> None:
        """Put the smaller system's solution into `x`."""


def is_decided(diagonal: Array, others: Array, out: Array | None = None) -> NDArray[np.bool_]:
    """Return where the diagonal decides, given each row's sum of the other entries' magnitudes.

    `out` is used as work space; it may be `others`.
    """
    found: NDArray[np.bool_] = diagonal >= np.multiply(DECIDED, others, out=out)
    found &= diagonal > 0
    return found


class GridElimination(Elimination):
    """Elimination on a grid: decided cells become AIR, and their neighbours keep the faces towards them."""

    def __init__(self, operator: PoissonOperator, decided: NDArray[np.bool_]) -> None:
        self.operator = operator
        self.decided = decided
        self.grid = ReducedGrid(operator.grid, decided.reshape(operator.grid.shape))
        self._inverse = 1.0 / operator.diagonal[decided]

    @classmethod
    def of(cls, operator: PoissonOperator) -> GridElimination | None:
        """Find the decided cells of an operator; None if there are none, or nothing else."""
        if operator.constant:
            return None
        others = np.zeros(operator.grid.shape3)
        for axis, lower in enumerate(operator.couplings):
            others += lower
            add_faces_above(others, lower, axis)
        decided = is_decided(operator.diagonal, others, out=others)
        count = int(np.count_nonzero(decided))
        return cls(operator, decided) if 0 < count < operator.grid.unknowns else None

    def decide(self, b: Array, x: Array) -> None:
        ax = np.empty_like(x)
        for _ in range(REFINEMENTS):
            self.operator.apply(x, ax)
            x[self.decided] += (b[self.decided] - ax[self.decided]) * self._inverse

    def side(self, b: Array, x: Array) -> Array:
        known = np.where(self.decided, x, 0.0)
        side: Array = b - self.operator.apply(known, np.empty_like(x))
        side[self.decided] = 0.0
        return side.reshape(self.grid.shape)

    def left(self, x: Array) -> Array:
        return np.where(self.decided, 0.0, x).reshape(self.grid.shape)

    def put(self, left: Array, x: Array) -> None:
        np.copyto(x, left.reshape(x.shape), where=~self.decided)


class ReducedGrid(CheckedGrid):
    """A grid in which decided cells hold a known value."""

    def __init__(self, whole: PoissonGrid, decided: NDArray[np.bool_]) -> None:
        cells, kappa = np.where(decided, np.uint8(CellType.AIR), whole.cells), face_coefficients(whole)
        super().__init__(cells, whole.spacing, whole.boundary, kappa, whole.reaction, whole.volume)
        self.cells.flags.writeable = False
        self.whole = whole
        """The grid whose `pack` a caller's own preconditioner expects."""


class MatrixElimination(Elimination):
    """Elimination from a matrix: the principal submatrix of the remaining unknowns is left."""

    def __init__(self, system: MatrixSystem, decided: NDArray[np.bool_]) -> None:
        self.decided = decided
        self.index = np.flatnonzero(~decided)
        """The indices of the remaining unknowns."""
        self._diagonal = system.diagonal
        self._system = system
        self._rows = system.matrix[np.flatnonzero(decided)]
        self._own = 1.0 / system.diagonal[decided]

    @classmethod
    def of(cls, system: MatrixSystem) -> MatrixElimination | None:
        """Find the decided unknowns of a system; None if there are none."""
        decided = system.find_decided()
        if not decided.any():
            return None
        # The coupling must be weak for the other unknown too: in a matrix scaled from both sides, a huge row may still
        # depend on tiny ones.
        found = np.flatnonzero(decided)
        rows, inverse = system.matrix[found], system.inverse_diagonal
        shares = rows.multiply(rows) @ inverse * inverse[found] - (inverse[found] > 0)
        decided[found] = shares * DECIDED <= 1.0 + WEAK
        return cls(system, decided) if decided.any() else None

    def decide(self, b: Array, x: Array) -> None:
        for _ in range(REFINEMENTS):
            x[self.decided] += (b[self.decided] - self._rows @ x) * self._own

    def side(self, b: Array, x: Array) -> Array:
        known = np.where(self.decided, x, 0.0)
        return np.asarray((b - self._system.apply(known, np.empty_like(known)))[self.index])

    def left(self, x: Array) -> Array:
        return x[self.index]

    def put(self, left: Array, x: Array) -> None:
        x[self.index] = left

    def system(self) -> MatrixSystem:
        """Return the system of the remaining unknowns; there must be some."""
        return self._system.without(self.index, self._rows.indices)


def run_reduced(
    elimination: Elimination, reduced: PreparedSystem, request: Request, monitor: Monitor, limit: int
) -> tuple[Result, str]:
    """Solve for the remaining unknowns, refine the decided ones, and return the result and a message.

    The recorded residuals are those of the remaining system. Each pass adds a few digits to the decided unknowns. Where
    the decided ones contribute more to the remaining rows than `b` holds there, the tolerance is still that of `b`.
    """
    b, x = request.b, request.x
    elimination.decide(b, x)
    before = monitor.iterations
    start = elimination.left(x)

    def ask(progress: Progress) -> object:
        return monitor.ask(Progress(before + progress.iteration, progress.residual, progress.tolerance))

    side = elimination.side(b, x)
    size = reduced.norm(side)
    most = max(monitor.tolerance / size, LEAST_RTOL) if 0 < size < np.inf else request.rtol
    solution = reduced.solve(
        side,
        rtol=REDUCED_PART * min(request.rtol, most),
        atol=REDUCED_PART * request.atol,
        max_iterations=max(limit, 1),
        x0=start if request.warm or before else None,
        callback=ask if monitor.observed else None,  # an engine that is watched takes one step at a time
        inconsistent="project",
    )
    elimination.put(solution.x, x)
    elimination.decide(b, x)
    monitor.history.extend(solution.residuals.tolist())
    monitor.fallbacks += solution.fallbacks
    return solution.result, solution.message.removeprefix(reduced.engine.reason).lstrip("; ")
