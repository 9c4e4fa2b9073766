"""The V-cycle whose coarse unknowns are the connected parts of blocks of cells: what a wall parts is never mixed.

A block of 2×2×2 cells gives a coarse unknown for each part of it that strong faces join: one in the open, two where a
wall runs through it or κ jumps, four where cells are stretched so that they couple along one axis only. A part's value
is that of all its cells; the coarse couplings are the sums over the faces between parts, times a factor near ½, since
the way between the centres of two blocks is twice that between two cells (an over-correction of near 2). Which faces
are strong, the factor and the number of sweeps are given. Coarse levels are graphs, and their blocks are those of the
grid. Each is gone through twice.

With a factor f > ½ this stays definite: if `2M − MAM` of the level below, whose spectrum on that level's operator ends
at 1, serves as its inverse, then M's of this level ends at 1/f < 2, where `λ (2 − λ)` is positive still. Sources: for
aggregation with over-correction D. Braess, "Towards Algebraic Multigrid for Elliptic Problems of Second Order",
Computing 55 (1995); for splitting by strength P. Vaněk, J. Mandel, M. Brezina, "Algebraic Multigrid by Smoothed
Aggregation for Second and Fourth Order Elliptic Problems", Computing 56 (1996).
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.grid.poisson_grid import AIR, FLUID
from relaxon.solvers.multigrid.single import Array, Single, SingleCycle
from relaxon.solvers.multigrid.transfers import pseudo_inverse
from relaxon.solvers.multigrid.variable import _single_faces, chebyshev_dampings

COARSEST = 200
"""A level with at most so many unknowns is solved by its pseudo-inverse."""
LEAST_COARSENING = 0.85
"""A level whose parts are more than so many of its nodes is the last, and is smoothed only."""
LAST_SWEEPS = 8
"""On a last level that is too large for a pseudo-inverse."""
LEAST_DIAGONAL = np.float32(1e-36)
"""Rows of less beside the strongest coupling are beyond float32's range, and left to the outer iteration."""
Index = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Parting:
    """How a grid is parted and smoothed.

    Parameters
    ----------
    least : faces that carry less of the geometric mean of what their two cells couple with part a block.
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
class PartedLevel:
    """Level 0, whose `lower` are arrays of the grid's shape, or a graph, whose `lower` are rows of couplings."""

    lower: tuple[Any, ...]
    diagonal: Single
    inverse: Single
    x: Single
    r: Single
    work: Single
    first: NDArray[np.int64] | None = None
    members: Index | None = None
    index: NDArray[np.int64] | None = None
    solution: Single | None = None
    """On the last level, where that is small, its unknowns and their matrix's pseudo-inverse."""
    kept: Single | None = None
    """Work space of a second visit."""

    def twin(self) -> PartedLevel:
        """Return the same level with work space of its own."""
        x, r, work = (np.zeros_like(a) for a in (self.x, self.r, self.work))
        kept = None if self.kept is None else np.zeros_like(self.kept)
        return replace(self, x=x, r=r, work=work, kept=kept)


class PartedCycle(SingleCycle):
    """The preconditioner `z ← M r`: linear, symmetric and positive definite on the operator's range, to rounding."""

    def __init__(
        self, operator: PoissonOperator, parting: Parting | None = None, loose: NDArray[np.bool_] | None = None
    ) -> None:
        """`loose` says of each cell whether it is of a component whose constant is solved for apart: its reaction is
        left out here, as float32 cannot tell what it makes of a constant from rounding."""
        grid = operator.grid
        self.parting = parting or Parting()
        self.wrap = np.asarray(operator.wrap)
        counts = (self.parting.sweeps, self.parting.coarse_sweeps, LAST_SWEEPS)
        self._finest, self._coarse, self._last = (
            [np.float32(v) for v in chebyshev_dampings(grid.ndim, count)] for count in counts
        )
        self.levels, self.unit = self._built(operator, loose)
        sizes = [int(np.count_nonzero(level.diagonal)) for level in self.levels]
        self.info = {"levels": float(len(sizes)), "grid_complexity": sum(sizes) / max(sizes[0], 1), "parted": 1.0}
        self._ones = (self.levels[0].diagonal > 0).astype(np.float32)

    def twin(self) -> PartedCycle:
        made = copy(self)
        made.levels = [level.twin() for level in self.levels]
        return made

    def unscaled(self, r: Array, scale: float = 1.0) -> Single:
        from relaxon.solvers.grid.stencil_kernels import scaled

        scaled(r, scale, self.levels[0].r)
        self._descend(0)
        return self.levels[0].x

    def _descend(self, depth: int) -> None:
        """`level.x ← M_level level.r`."""
        from relaxon.solvers.multigrid import part_kernels, sweeps

        level = self.levels[depth]
        if level.solution is not None:
            level.x.reshape(-1)[level.index] = level.solution @ level.r.reshape(-1)[level.index]
            return
        last = depth + 1 == len(self.levels)
        dampings = self._last if last else self._coarse if depth else self._finest
        if depth == 0:
            sweeps.first_sweep(level.r, dampings[0], level.inverse, level.x)
        else:
            np.multiply(level.r, level.inverse, out=level.x)
            level.x *= dampings[0]
        for omega in dampings[1:]:
            self._sweep(depth, omega)
        if not last:
            below = self.levels[depth + 1]
            self._residual(depth)
            part_kernels.gather(level.first, level.members, level.work.reshape(-1), below.r)
            self._descend_twice(depth + 1)
            part_kernels.spread(level.first, level.members, below.x, level.x.reshape(-1))
        for omega in dampings[::-1]:
            self._sweep(depth, omega)

    def _descend_twice(self, depth: int) -> None:
        """`level.x ← (2 M − M A M) level.r`: M once more on the residual of what M gave."""
        level = self.levels[depth]
        self._descend(depth)
        if level.solution is not None:
            return
        assert level.kept is not None
        level.kept[:] = level.x
        self._residual(depth)
        level.r, level.work = level.work, level.r
        self._descend(depth)
        level.x += level.kept

    def _sweep(self, depth: int, omega: np.float32) -> None:
        from relaxon.solvers.multigrid import part_kernels, sweeps

        level = self.levels[depth]
        if depth == 0:
            operator = (level.diagonal, *level.lower, self.wrap)
            sweeps.jacobi_sweep(level.x, level.r, omega, level.inverse, *operator, level.work)
        else:
            args = (*level.lower, level.diagonal, level.inverse, omega, level.x, level.r, True, level.work)
            part_kernels.graph_sweep(*args)
        level.x, level.work = level.work, level.x

    def _residual(self, depth: int) -> None:
        from relaxon.solvers.multigrid import part_kernels, sweeps

        level = self.levels[depth]
        if depth == 0:
            operator = (level.diagonal, *level.lower, self.wrap)
            sweeps.shared_residual(level.x, level.r, self._ones, *operator, level.work)
        else:
            args = (*level.lower, level.diagonal, level.inverse, np.float32(1), level.x, level.r, False, level.work)
            part_kernels.graph_sweep(*args)

    def _built(self, operator: PoissonOperator, loose: NDArray[np.bool_] | None) -> tuple[list[PartedLevel], float]:
        lower, diagonal, held, term, unit = _finest(operator, loose)
        top = _level(lower, diagonal)
        if int(np.count_nonzero(diagonal)) <= COARSEST:
            return [_solved(top, _graph_of(lower), (held + term).reshape(-1))], unit
        levels = [top]
        graph, sums, place = self._first_parts(top, held, term)
        factor = self.parting.factor
        while graph is not None:
            starts, others, couplings = graph
            held, term = sums
            rows = np.repeat(np.arange(len(held)), np.diff(starts))
            strength = np.bincount(rows, couplings, len(held)).astype(np.float64)
            diagonal = (factor * (strength + held) + term).astype(np.float32)
            level = _level((starts, others, (factor * couplings).astype(np.float32)), diagonal)
            level.kept = np.zeros_like(diagonal)
            levels.append(level)
            if len(held) <= COARSEST:
                _solved(level, level.lower, factor * held + term)
                break
            graph, sums, place = self._next_parts(level, (starts, others, couplings), strength, sums, place)
            factor *= self.parting.factor
        return levels, unit

    def _first_parts(self, level: PartedLevel, held: Single, term: Single) -> tuple[Any, ...]:
        """Part level 0; the graph of its parts, the sums of what holds them, and the blocks that they are of."""
        from relaxon.solvers.multigrid import part_kernels as kernels

        shape = level.diagonal.shape
        steps = np.array([min(n, 2) for n in shape])
        blocks = tuple((n + s - 1) // s for n, s in zip(shape, steps.tolist(), strict=True))
        strength, part = level.work, np.empty(shape, np.int32)
        count = np.empty(blocks, np.int32)
        kernels.add_couplings(*level.lower, self.wrap, strength)
        kernels.label_blocks(*level.lower, strength, steps, np.float32(self.parting.least), part, count)
        strength[...] = 0
        number = int(count.sum(dtype=np.int64))
        if number == 0:
            return None, None, None
        offset = (np.cumsum(count.reshape(-1)) - count.reshape(-1)).astype(np.int32).reshape(blocks)
        for axis, (n, step) in enumerate(zip(shape, steps.tolist(), strict=True)):
            if step == 2:
                offset = np.repeat(offset, 2, axis)[tuple(slice(0, n) if a == axis else slice(None) for a in range(3))]
        np.add(part, offset, out=part, where=part >= 0)
        flat = part.reshape(-1)
        level.first, level.members = _members(flat, number)
        graph = kernels.join_parts(level.first, level.members, flat, level.lower, self.wrap)
        sums = tuple(_summed(level, values.reshape(-1)) for values in (held, term))
        place = np.stack(np.unravel_index(np.repeat(np.arange(count.size), count.reshape(-1)), blocks))
        return graph, sums, place

    def _next_parts(
        self, level: PartedLevel, graph: Any, strength: Array, sums: Any, place: NDArray[Any]
    ) -> tuple[Any, ...]:
        """Part a graph in the same way: by the blocks of its nodes' blocks."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import connected_components

        starts, others, couplings = graph
        count = len(strength)
        rows = np.repeat(np.arange(count), np.diff(starts))
        coarse = place // 2
        block = np.ravel_multi_index(tuple(coarse), tuple(coarse.max(1) + 1))
        strong = couplings >= self.parting.least * np.sqrt(strength[rows] * strength[others])
        strong &= block[rows] == block[others]
        inside = csr_array((np.ones(int(strong.sum()), np.int8), (rows[strong], others[strong])), (count, count))
        _, found = connected_components(inside, directed=False)
        kept = np.flatnonzero(strength > 0)
        _, lead, own = np.unique(found[kept], return_index=True, return_inverse=True)
        if len(lead) == 0 or len(lead) > LEAST_COARSENING * len(kept):
            return None, None, None
        part = np.full(count, -1, np.int32)
        part[kept] = own
        level.first, level.members = _members(part, len(lead))
        here, there = part[rows], part[others]
        across = here != there
        joined = csr_array((couplings[across], (here[across], there[across])), (len(lead), len(lead)))
        joined.sum_duplicates()
        made = (joined.indptr.astype(np.int32), joined.indices.astype(np.int32), joined.data)
        return made, tuple(_summed(level, values) for values in sums), coarse[:, kept[lead]]


def _finest(operator: PoissonOperator, loose: NDArray[np.bool_] | None) -> tuple[Any, ...]:
    """Couplings, diagonal, what holds each cell to known values, the reaction's term, and the unit of all these."""
    from relaxon.solvers.multigrid import setup_kernels as kernels

    faces, unit = _single_faces(operator)
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


def _level(lower: tuple[Any, ...], diagonal: Single) -> PartedLevel:
    inverse = np.divide(np.float32(1), diagonal, out=np.zeros_like(diagonal), where=diagonal > LEAST_DIAGONAL)
    x, r, work = (np.zeros_like(diagonal) for _ in range(3))
    return PartedLevel(lower, diagonal, inverse, x, r, work)


def _members(part: Index, count: int) -> tuple[NDArray[np.int64], Index]:
    from relaxon.solvers.multigrid import part_kernels as kernels

    first = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(part[part >= 0], minlength=count), out=first[1:])
    members = np.empty(int(first[-1]), np.int32)
    kernels.list_members(part, first.copy(), members)
    return first, members


def _summed(level: PartedLevel, values: Any) -> Array:
    assert level.first is not None
    assert level.members is not None
    found: Array = np.add.reduceat(values[level.members], level.first[:-1], dtype=np.float64)
    return found


def _solved(level: PartedLevel, graph: tuple[Any, ...], held: NDArray[Any]) -> PartedLevel:
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
    level.solution = pseudo_inverse(matrix, held[level.index].astype(np.float64)).astype(np.float32)
    return level


def _graph_of(lower: tuple[Single, ...]) -> tuple[Any, ...]:
    """A small grid's couplings as rows."""
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
