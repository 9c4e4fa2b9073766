"""The V-cycle whose coarse unknowns are the connected parts of blocks of cells: it never mixes what a wall separates.

A block of 2×2×2 cells gives one coarse unknown for each part of it that strong faces join: one in the open, two where a
wall runs through it or κ jumps, four where cells are so stretched that they couple along one axis only. All cells of a
part share its value. The coarse couplings are the sums over the faces between parts, times a factor near ½, since the
distance between the centres of two blocks is twice that between two cells (an over-correction of nearly 2). Which faces
are strong, the factor and the number of sweeps are parameters. Coarse levels are graphs, and their blocks are those of
the grid. A cycle visits each of them twice.

With a factor f > ½ the cycle stays definite. Let `2M − MAM` serve as the inverse of the level below, where its spectrum
ends at 1. Then that of M on this level ends at 1/f < 2, and `λ (2 − λ)` is still positive.

Sources: for aggregation with over-correction D. Braess, "Towards Algebraic Multigrid for Elliptic Problems of Second
Order", Computing 55 (1995); for splitting by strength P. Vaněk, J. Mandel, M. Brezina, "Algebraic Multigrid by Smoothed
Aggregation for Second and Fourth Order Elliptic Problems", Computing 56 (1996).
"""

# Imported on first use, for their weight: SciPy, `solvers.grid.stencil_kernels`, `graph_kernels`, `part_kernels`,
# `setup_kernels`, `sweeps`.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.grid.poisson_grid import AIR, FLUID
from relaxon.solvers.multigrid.cycle import Array, Single
from relaxon.solvers.multigrid.swept import BEYOND_RANGE, FaceSweeps, SweptCycle, SweptLevel, chebyshev_dampings
from relaxon.solvers.multigrid.transfers import pseudo_inverse
from relaxon.solvers.multigrid.variable import scaled_faces

if TYPE_CHECKING:
    from relaxon.solvers.multigrid.graph_kernels import LanedRows, Rows
    from relaxon.solvers.multigrid.sweeps import FaceOperator

COARSEST = 200
"""A level with at most so many unknowns is solved by its pseudo-inverse."""
LEAST_COARSENING = 0.85
"""A level with more parts than this share of its nodes is the last, and is smoothed only."""
LAST_SWEEPS = 8
"""The sweeps on a last level that is too large for a pseudo-inverse."""
LEAST_DIAGONAL = np.float32(1e-36)
"""Rows below this part of the strongest coupling are outside float32's range, and are left to the outer iteration."""
Index = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Parting:
    """How a grid is parted and smoothed.

    Parameters
    ----------
    least : a face with less than this part of the geometric mean of its two cells' total couplings splits a block.
    factor : of the sums of couplings on each coarser level, above ½ and at most 1.
    sweeps, coarse_sweeps : before and after the coarse correction, on the finest level and on all others.
    """

    least: float = 0.04
    factor: float = 0.55
    sweeps: int = 3
    coarse_sweeps: int = 3

    def __post_init__(self) -> None:
        if not 0.5 < self.factor <= 1:
            raise ValueError(f"factor must be above 1/2 and at most 1, got {self.factor!r}")
        if not 0 <= self.least < 1:
            raise ValueError(f"least must be at least 0 and less than 1, got {self.least!r}")
        for name in ("sweeps", "coarse_sweeps"):
            validation.positive_int(name, getattr(self, name))


@dataclass(slots=True)
class PartedLevel(SweptLevel):
    """One level: level 0 is a `GridLevel`, the others are `GraphLevel`s."""

    first: NDArray[np.int64] | None = None
    """Where the members of each part begin."""
    members: Index | None = None
    """The cells or nodes of each part, one part after the other."""
    index: NDArray[np.int64] | None = None
    """On the last level, where that is small, its unknowns."""
    inverse: Single | None = None
    """The pseudo-inverse of these unknowns' matrix."""

    def restrict(self, below: Any) -> None:
        from relaxon.solvers.multigrid import part_kernels

        part_kernels.gather(self.first, self.members, self.work.reshape(-1), below.r)

    def correct(self, below: Any) -> None:
        from relaxon.solvers.multigrid import part_kernels

        part_kernels.spread(self.first, self.members, below.x, self.x.reshape(-1))

    @BEYOND_RANGE
    def solve(self) -> None:
        if self.inverse is None:
            self.smooth_from_zero()
            self.smooth()
        else:
            self.x.reshape(-1)[self.index] = self.inverse @ self.r.reshape(-1)[self.index]


@dataclass(slots=True, kw_only=True)
class GridLevel(FaceSweeps, PartedLevel):
    """The finest level, with arrays of the grid's shape."""

    operator: FaceOperator
    unknown: Single
    """1 where there is an unknown, else 0."""

    @property
    def lower(self) -> tuple[Single, Single, Single]:
        """The couplings to the cell below along each axis."""
        return self.operator.lower0, self.operator.lower1, self.operator.lower2

    @property
    def residual_weight(self) -> Single:
        return self.unknown


@dataclass(slots=True, kw_only=True)
class GraphLevel(PartedLevel):
    """A coarse level: a graph in rows of couplings."""

    rows: LanedRows
    """The couplings. All arrays of nodes are filled up to whole vectors."""
    kept: Single
    """Work space of a second visit."""

    def twin(self) -> Self:
        twin = PartedLevel.twin(self)
        twin.kept = np.zeros_like(self.kept)
        return twin

    def _first_sweep(self, omega: np.float32) -> None:
        from relaxon.solvers.multigrid import graph_kernels

        graph_kernels.first_sweep(self.r, omega, self.inverse_diagonal, self.x)

    def _sweep(self, omega: np.float32) -> None:
        self._pass(omega, True)

    def take_residual(self) -> None:
        self._pass(np.float32(1), False)

    def _pass(self, omega: np.float32, added: bool) -> None:
        from relaxon.solvers.multigrid import graph_kernels

        matrix = (self.rows, self.diagonal, self.inverse_diagonal)
        graph_kernels.graph_sweep(*matrix, omega, self.x, self.r, added, self.work)

    def begin_visit(self) -> None:
        """Begin a second visit, after which the correction is `(2 M − M A M) r`."""
        self.take_residual()
        self.r, self.work = self.work, self.r
        self.x, self.kept = self.kept, self.x

    @BEYOND_RANGE
    def end_visit(self) -> None:
        """End a second visit."""
        self.x += self.kept


class PartedCycle(SweptCycle):
    """The preconditioner `z ← M r`: linear, symmetric and positive definite on the operator's range, to rounding."""

    def __init__(
        self, operator: PoissonOperator, parting: Parting | None = None, loose: NDArray[np.bool_] | None = None
    ) -> None:
        """`loose` says of each cell whether it is of a component whose constant is solved for apart: its reaction is
        left out here, as float32 cannot tell what it makes of a constant from rounding."""
        self.parting = parting or Parting()
        counts = (self.parting.sweeps, self.parting.coarse_sweeps, LAST_SWEEPS)
        dampings = ([np.float32(v) for v in chebyshev_dampings(operator.grid.ndim, count)] for count in counts)
        self._finest, self._coarse, self._last = dampings
        self.levels, self.unit = self._build(operator, loose)
        sizes = [int(np.count_nonzero(level.diagonal)) for level in self.levels]
        self.info = {"levels": float(len(sizes)), "grid_complexity": sum(sizes) / max(sizes[0], 1), "parted": 1.0}

    def _build(self, operator: PoissonOperator, loose: NDArray[np.bool_] | None) -> tuple[list[PartedLevel], float]:
        from relaxon.solvers.multigrid import graph_kernels
        from relaxon.solvers.multigrid.sweeps import FaceOperator

        lower, diagonal, held, term, unit = _assemble_finest(operator, loose)
        face_operator = FaceOperator(diagonal, lower[0], lower[1], lower[2], np.asarray(operator.wrap))
        unknown = (diagonal > 0).astype(np.float32)
        top = GridLevel(*_arrays_of(diagonal), self._finest, operator=face_operator, unknown=unknown)
        if int(np.count_nonzero(diagonal)) <= COARSEST:
            _add_inverse(top, _graph_of(lower), (held + term).reshape(-1))
            return [top], unit
        levels: list[PartedLevel] = [top]
        graph, sums, place = self._part_grid(top, held, term)
        factor = self.parting.factor
        while graph is not None:
            held, term = sums
            strength = graph_kernels.add_rows(graph)
            nodes = len(strength)
            diagonal = np.zeros(graph_kernels.fill_up(nodes), np.float32)
            diagonal[:nodes] = factor * (strength + held) + term
            laned = graph_kernels.LanedRows.of(graph, factor)
            level = GraphLevel(*_arrays_of(diagonal), self._coarse, rows=laned, kept=np.zeros_like(diagonal), visits=2)
            levels.append(level)
            if nodes <= COARSEST:
                _add_inverse(level, (graph.starts, graph.others, factor * graph.couplings), factor * held + term)
                break
            graph, sums, place = self._part_graph(level, graph, strength, sums, place)
            factor *= self.parting.factor
        levels[-1].dampings = self._last
        return levels, unit

    def _part_grid(self, level: GridLevel, held: Single, term: Single) -> tuple[Any, ...]:
        """Part level 0: return the graph of its parts, the sums of what holds them and of the reaction's term, and the
        numbers of the blocks that they lie in with the shape that these count.
        """
        from relaxon.solvers.multigrid import part_kernels as kernels
        from relaxon.solvers.multigrid.graph_kernels import Rows

        shape = level.diagonal.shape
        steps = np.array([min(n, 2) for n in shape])
        blocks = tuple((n + s - 1) // s for n, s in zip(shape, steps.tolist(), strict=True))
        strength, part = level.work, np.empty(shape, np.int32)
        count = np.empty(blocks, np.int32)
        kernels.add_couplings(*level.lower, level.operator.wrap, strength)
        kernels.label_blocks(*level.lower, strength, steps, np.float32(self.parting.least), part, count)
        strength[...] = 0
        number = int(count.sum(dtype=np.int64))
        if number == 0:
            return None, None, None
        offset = (np.cumsum(count) - count.reshape(-1)).astype(np.int32).reshape(blocks)
        kernels.number_parts(offset, steps, part)
        flat = part.reshape(-1)
        level.first, level.members = _list_members(flat, number)
        graph = Rows(*kernels.join_parts(level.first, level.members, flat, level.lower, level.operator.wrap))
        sums = [kernels.sum_members(level.first, level.members, values.reshape(-1)) for values in (held, term)]
        block = np.repeat(np.arange(count.size, dtype=np.int32), count.reshape(-1))
        return graph, sums, (block, blocks)

    def _part_graph(
        self, level: GraphLevel, graph: Rows, strength: Array, sums: list[Array], place: tuple[Index, tuple[int, ...]]
    ) -> tuple[Any, ...]:
        """Part a graph in the same way, by the blocks of its nodes' blocks."""
        from relaxon.solvers.multigrid import graph_kernels
        from relaxon.solvers.multigrid.part_kernels import sum_members

        count = len(strength)
        finer, blocks = place  # the blocks' numbers, and how many there are along each axis
        block, part, waiting = (np.empty(count, np.int32) for _ in range(3))
        graph_kernels.halve_blocks(finer, *blocks[1:], block)
        number = graph_kernels.label_nodes(*graph, strength, block, self.parting.least, part, waiting)
        if number == 0 or number > LEAST_COARSENING * np.count_nonzero(strength):
            return None, None, None
        level.first, level.members = _list_members(part, number)
        joined = graph_kernels.join_nodes(level.first, level.members, part, graph)
        of_parts = block[level.members[level.first[:-1]]]
        sums = [sum_members(level.first, level.members, values) for values in sums]
        return joined, sums, (of_parts, tuple((n + 1) // 2 for n in blocks))


def _assemble_finest(operator: PoissonOperator, loose: NDArray[np.bool_] | None) -> tuple[Any, ...]:
    """Return couplings, diagonal, what holds each cell to known values, the reaction's term, and their unit."""
    from relaxon.solvers.multigrid import setup_kernels as kernels

    faces, unit = scaled_faces(operator)
    grid, wrap = operator.grid, np.asarray(operator.wrap)
    cells = grid.cells.reshape(grid.shape3).copy()
    fluid = cells == FLUID
    diagonal, held = np.empty(cells.shape, np.float32), np.empty(cells.shape, np.float32)
    kernels.finish(cells, faces[0], faces[1], faces[2], faces[3], wrap, diagonal)
    term = np.zeros(cells.shape, np.float32)
    if len(faces) > 4:
        reacting = fluid if loose is None else fluid & ~loose.reshape(grid.shape3)
        term[reacting] = faces[4][reacting]
        diagonal += term
    airy = [face.copy() for face in faces[:3]] if (cells == AIR).any() else None
    kernels.keep_unknowns(diagonal, faces[0], faces[1], faces[2])
    if airy is None:
        np.multiply(faces[3].sum(0), fluid, out=held)
    else:
        for one, kept in zip(airy, faces, strict=False):
            one -= kept
        kernels.finish(cells, airy[0], airy[1], airy[2], faces[3], wrap, held)
    return (faces[0], faces[1], faces[2]), diagonal, held, term, unit


def _arrays_of(diagonal: Single) -> tuple[Single, Single, Single, Single, Single]:
    """Return what every level has: the diagonal, its inverse, and three work arrays."""
    inverse = np.divide(np.float32(1), diagonal, out=np.zeros_like(diagonal), where=diagonal > LEAST_DIAGONAL)
    return diagonal, inverse, np.zeros_like(diagonal), np.zeros_like(diagonal), np.zeros_like(diagonal)


def _list_members(part: Index, count: int) -> tuple[NDArray[np.int64], Index]:
    from relaxon.solvers.multigrid import part_kernels as kernels

    first = np.zeros(count + 1, np.int64)
    kernels.count_members(part, first)
    members = np.empty(int(first[-1]), np.int32)
    kernels.list_members(part, first.copy(), members)
    return first, members


def _add_inverse(level: PartedLevel, graph: tuple[Any, ...], held: NDArray[Any]) -> None:
    """Give a small level its pseudo-inverse."""
    starts, others, couplings = graph
    level.index = np.flatnonzero(level.diagonal)
    count = len(level.index)
    number = np.full(len(held), -1)
    number[level.index] = np.arange(count)
    rows = number[np.repeat(np.arange(len(held)), np.diff(starts))]
    matrix = np.zeros((count, count))
    np.subtract.at(matrix, (rows, number[others]), couplings.astype(np.float64))
    np.fill_diagonal(matrix, -matrix.sum(1))
    level.visits = 1
    level.inverse = pseudo_inverse(matrix, held[level.index].astype(np.float64)).astype(np.float32)


def _graph_of(lower: tuple[Single, ...]) -> tuple[Any, ...]:
    """Return a small grid's couplings as rows."""
    from scipy.sparse import csr_array

    number = np.arange(lower[0].size).reshape(lower[0].shape)
    rows, columns, couplings = [], [], []
    for axis, values in enumerate(lower):
        here = values > 0
        one, other, value = number[here], np.roll(number, 1, axis)[here], values[here]
        rows += [one, other]
        columns += [other, one]
        couplings += [value, value]
    entries = np.concatenate(couplings), (np.concatenate(rows), np.concatenate(columns))
    found = csr_array(entries, (number.size, number.size))
    found.sum_duplicates()
    return found.indptr, found.indices, found.data
