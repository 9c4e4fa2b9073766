"""A grid of any kind in many processes: its operator in each, null vectors, eliminated cells, and the solver on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.dcdm.outer import ConjugateDirections
from relaxon.solvers.distributed.communicator import Communicator
from relaxon.solvers.distributed.nullspace import DistributedNullSpace, join_components
from relaxon.solvers.distributed.piece import PieceOperator, widths_of
from relaxon.solvers.grid.couplings import add_faces_above, open_faces, reaction_term, side_couplings
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.grid.scaled import exponents_of, largest_coefficient, scale_by
from relaxon.solvers.interface.elimination import GridElimination, ReducedGrid, is_decided
from relaxon.solvers.interface.verdict import Figures

if TYPE_CHECKING:
    from relaxon.solvers.distributed.grid import DistributedPoissonGrid
    from relaxon.solvers.multigrid.cycle import SingleCycle

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WorkingPiece:
    """The operator that a distributed grid of any kind is solved with, after scaling and elimination."""

    operator: PieceOperator
    left: PieceOperator
    exponent: int
    elimination: DistributedElimination | None

    @classmethod
    def of(cls, grid: DistributedPoissonGrid, holding_by_little: bool = True) -> WorkingPiece:
        """Scale the operator, and find null vectors and decided cells; every process calls it."""
        piece, part, communicator = grid.piece, grid.part, grid.communicator
        sigma = 0.0 if piece.reaction is None else float(np.max(piece.reaction))
        mine = np.array([largest_coefficient(piece.coefficient), sigma])
        kappa, sigma = np.stack(communicator.gathered(mine)).max(axis=0)
        inverse_square = max(h**-2 for h in piece.mean_spacing)
        exponents = exponents_of(inverse_square, float(kappa), float(sigma) if grid.reacts else None)
        scaled: PoissonGrid = piece
        exponent = 0
        if exponents is not None:
            scaled, exponent = scale_by(piece, exponents)
            halved = exponents[0] // 2
            whole = tuple(np.ldexp(h, halved) for h in grid.spacing)
            scaled.spacing = widths_of(part, tuple(h if np.ndim(h) else float(h) for h in whole), grid.shape)
        operator = PieceOperator(scaled, part)
        keep_null_space(operator, grid)
        elimination = DistributedElimination.among(operator, grid)
        left = operator if elimination is None else PieceOperator(elimination.grid, part)
        if left is not operator:
            keep_null_space(left, grid)
        return cls(operator, left, exponent, elimination)


def keep_null_space(operator: PieceOperator, grid: DistributedPoissonGrid) -> None:
    """Have the operator's grid know the null vectors of the whole."""
    operator.grid.__dict__["nullspace"] = null_space_of(operator, grid, holding_by_little=True)


def null_space_of(
    operator: PieceOperator, grid: DistributedPoissonGrid, *, holding_by_little: bool
) -> DistributedNullSpace:
    """Return `NullSpace.of` the whole grid; labels have the shape of the operator's part."""
    piece, part = operator.grid, operator.part
    fluid = piece.fluid.reshape(part.shape3)
    held, faces = np.zeros(part.shape3, bool), open_faces(piece)
    for side in side_couplings(piece):
        if holding_by_little or not side.by_film:
            held[side.layer] |= side.values > 0
    for axis, face in enumerate(faces):
        held |= (face > 0) & ~np.roll(fluid, 1, axis)
        held |= np.roll((face > 0) & ~fluid, -1, axis)
    term = reaction_term(piece)
    if term is not None and holding_by_little:
        held |= term > 0
    order = [1, 0, 2] if piece.ndim == 2 else [0, 1, 2]
    found = join_components(
        grid.communicator,
        part.view(fluid),
        part.view(held & fluid),
        operator.wrap[order],
        part.box,
        part.halo,
        math.prod(grid.shape),
        [part.view(faces[axis]) for axis in order],
    )
    if found.labels is None:
        return found
    return DistributedNullSpace(found.labels.reshape(part.shape3), found.sizes, found.communicator, found.cells)


class DistributedElimination(GridElimination):
    """Decided cells of the owned ones; those of the neighbours are AIR in the grid of what is left as well."""

    def __init__(self, operator: PieceOperator, decided: NDArray[np.bool_]) -> None:
        self.operator = operator
        wide = operator.part.spread(operator.part.own(decided))
        self.decided = wide.copy()
        operator.part.keep_owned(self.decided)
        self.grid = ReducedGrid(operator.grid, wide.reshape(operator.grid.shape))
        self._inverse = 1.0 / operator.diagonal[self.decided]

    @classmethod
    def among(cls, operator: PieceOperator, grid: DistributedPoissonGrid) -> DistributedElimination | None:
        """Return None where no cell is decided in any process, or each is."""
        others = np.zeros(operator.part.shape3)
        for axis, lower in enumerate(operator.couplings):
            others += lower
            add_faces_above(others, lower, axis)
        decided = is_decided(operator.diagonal, others, out=others)
        operator.part.keep_owned(decided)
        count = int(grid.communicator.totals(np.array([float(np.count_nonzero(decided))]))[0])
        return cls(operator, decided) if 0 < count < grid.unknowns else None


class PieceDirections(ConjugateDirections):
    """The outer iteration on one process's part: all vectors are 0 beside its cells, and sums are those of all."""

    def __init__(
        self, operator: PieceOperator, cycle: SingleCycle, window: int, limit: int, communicator: Communicator
    ) -> None:
        super().__init__(operator, cycle.direction, window, limit)
        owned = np.zeros(operator.part.shape3, bool)
        operator.part.own(owned)[...] = True
        self._fluid = self._fluid & owned
        self._communicator = communicator
        self.info |= cycle.info

    def twin(self) -> None:
        return None  # the processes' exchanges must come in one order

    def _total(self, *sums: float) -> tuple[float, ...]:
        return tuple(self._communicator.totals(np.array(sums)).tolist())


def figures_of(working: WorkingPiece, communicator: Communicator, b: Array, x: Array) -> Figures:
    """Return the figures of an `x`, both 0 beside the owned cells; every process calls it."""
    operator, elimination = working.operator, working.elimination
    r = b - operator.apply(x, np.empty_like(x))
    magnitude = operator.magnitudes(x) + np.abs(b)
    side, left, given = b, r, np.ones(r.shape, bool)
    if elimination is not None:
        side = elimination.side(b, x).reshape(x.shape)
        given = ~elimination.decided
    diagonal = operator.diagonal
    inverse = np.divide(given, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
    operator.part.keep_owned(inverse)
    left = np.where(given, r, 0.0)
    squares = [r * r, inverse * r * r, inverse * side * side, left * left, np.where(given, side * side, 0.0)]
    sums = np.sqrt(communicator.totals(np.array([float(square.sum()) for square in squares])))
    with np.errstate(invalid="ignore"):  # of an x that is not finite
        parts = np.divide(np.abs(r), magnitude, out=np.zeros_like(r), where=magnitude > 0)
    worst = float(np.concatenate(communicator.gathered(np.array([parts.max()]))).max())
    return Figures(float(sums[0]), worst, *(float(value) for value in sums[1:]))
