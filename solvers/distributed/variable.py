"""The V-cycle for any coefficients on a distributed grid: fine levels shared among the processes, coarse ones whole.

A process keeps `REACH` planes of its neighbours beside its part of a shared level, and brings them up to date twice a
cycle: the residual on the way down, and the coarse correction on the way up. What is computed at their outer end is
wrong, one plane more with each sweep, and does not reach the owned cells. The first level that is not shared is
gathered, and everything below it is done by every process alike.
"""

# Imported on first use, for its weight: `solvers.multigrid.variable_kernels`.

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.distributed import cycle as fused
from relaxon.solvers.distributed.decomposition import Range
from relaxon.solvers.distributed.halo import Part, Shape, box_of
from relaxon.solvers.distributed.nullspace import DistributedNullSpace
from relaxon.solvers.distributed.piece import PieceOperator
from relaxon.solvers.distributed.system import null_space_of
from relaxon.solvers.grid.couplings import by_layer, film_parts, open_faces, reaction_term, side_couplings
from relaxon.solvers.grid.poisson_grid import Boundary, Robin
from relaxon.solvers.grid.sides import Sides
from relaxon.solvers.multigrid.cycle import Array, CycleLevel, Single, SingleCycle, run_cycle
from relaxon.solvers.multigrid.deflation import DeflatedCycle, select_weak, sum_by_component
from relaxon.solvers.multigrid.transfers import COARSEST_UNKNOWNS, axes_to_halve, coarsen_shape
from relaxon.solvers.multigrid.variable_levels import VariableLevel, VariableLevelBuilder, VariableStage

if TYPE_CHECKING:
    from relaxon.solvers.distributed.grid import DistributedPoissonGrid

SWEEPS = 2
SMALL = 64
"""On levels with more cells than this for each of `COARSEST_UNKNOWNS`, unknowns are not counted."""
REACH = 4
"""Planes of the neighbours beside a part. On the way down all of them are right after the first sweep, three after the
second and two of the residual, and restriction reads one. On the way up three are right after prolongation and one
after two sweeps. The number is even, as coarse cells are pairs counted from the first kept one."""


@dataclass(slots=True)
class SharedStage:
    """Where the set-up stands: the shape of the whole next level, and this process's cells of it."""

    shape: Shape
    coarsening: tuple[int, int]
    cells: VariableStage


@dataclass(slots=True)
class SharedVariableLevel(CycleLevel):
    """A process's part of a level, and the coarse cells that it takes from: `x`, `r` and `diagonal` of them."""

    cycle: DistributedVariableCycle
    part: Part
    level: VariableLevel
    ranges: tuple[Range, Range]
    """Of these coarse cells, along the axes that may be cut."""
    owned: tuple[slice, slice]
    """The owned ones among them."""
    planes: Shape
    x: Single
    r: Single
    diagonal: Single
    visits: int = 1

    def view(self, array: Single) -> Single:
        """Return an array of the coarse cells in the order of a box's axes."""
        return array.reshape(self.planes)

    def smooth_residual_restrict(self, below: SharedVariableLevel | VariableLevel) -> None:
        from relaxon.solvers.multigrid import variable_kernels as kernels

        level = self.level
        assert level.transfer is not None
        self.part.exchange(level.r)
        level.smooth_to_residual()
        kernels.restrict(level.work, level.transfer, self.diagonal, self.r)
        owned = self.view(self.r)[self.owned]
        if isinstance(below, SharedVariableLevel):
            below.part.own(below.level.r)[...] = owned
        else:
            below.r[...] = self.cycle.gather(owned)

    def prolong_correct_smooth(self, below: SharedVariableLevel | VariableLevel) -> None:
        self.fill_coarse(below, "x")
        self.level.correct(self)
        self.level.smooth()

    def fill_coarse(self, below: SharedVariableLevel | VariableLevel, name: str) -> None:
        """Take an array of the level below for the coarse cells."""
        target = self.view(getattr(self, name))
        if isinstance(below, SharedVariableLevel):
            source = getattr(below.level, name)
            below.part.exchange(source)
            starts = [kept[0] for kept in below.part.box.kept]
            cut = tuple(slice(a - s, b - s) for (a, b), s in zip(self.ranges, starts, strict=True))
            target[...] = below.part.view(source)[cut]
            return
        whole = self.cycle.planes_of(getattr(below, name))
        rows = [np.arange(a, b) % n for (a, b), n in zip(self.ranges, whole.shape, strict=False)]
        target[...] = whole[np.ix_(rows[0], rows[1])]


class DistributedVariableCycle(SingleCycle):
    """`z ← M r` on arrays of the operator's part, as `VariableCycle` on the whole grid to rounding.

    Every process calls it at the same time.
    """

    def __init__(self, operator: PieceOperator, grid: DistributedPoissonGrid) -> None:
        self._communicator, self._decomposition, self._operator = grid.communicator, grid.decomposition, operator
        self._flat = grid.ndim == 2
        shape: Shape = (1, *grid.shape) if self._flat else grid.shape  # type: ignore[assignment]
        around = (False,) * (3 - grid.ndim) + grid.around
        self._periodic = (around[1], False) if self._flat else (around[0], around[1])
        self._cut = [axis for axis in range(2) if grid.decomposition.parts[axis] > 1]
        wrap = np.array([wraps and n > 1 for wraps, n in zip(around, shape, strict=True)])
        local_wrap = wrap.copy()
        for axis in self._cut:  # the parts' cut axes are not periodic
            local_wrap[axis + self._flat] = False
        every = not (grid.closes or any(str(side) == "robin" for pair in grid.boundary for side in pair))
        builder, self._local = (
            VariableLevelBuilder(w, grid.ndim, every, grid.closes or grid.reacts, "jacobi", SWEEPS)
            for w in (wrap, local_wrap)
        )
        self._shared: list[SharedVariableLevel] = []
        self._shapes: list[Shape] = []
        self.unit = 1.0
        stage = self._first_stage(shape, grid.reacts, self._inside_parts(grid.boundary))
        while (part := self._part_of(stage)) is not None:
            after = self._share(stage, part)
            if after is None:
                break
            stage = after
        self._end, self.shape = stage.coarsening, stage.shape
        gather = partial(self._gather_cells, by=stage.coarsening, shape=stage.shape)
        self._whole = builder.build(self._map_stage(stage, gather))
        self._levels: list[Any] = [*self._shared, *self._whole]
        for shared, below in itertools.pairwise(self._levels[: len(self._shared) + 1]):
            shared.fill_coarse(below, "diagonal")
        cells = [math.prod(stage_shape) for stage_shape in self._shapes]
        total = sum(cells) + sum(level.diagonal.size for level in self._whole)
        self.info = {
            "levels": float(len(self._levels)),
            "grid_complexity": total / math.prod(shape),
            "shared_levels": float(len(self._shared)),
            "processes": float(self._communicator.size),
        }

    # --- the cycle ----------------------------------------------------------------------------------------------------

    def unscaled(self, r: Array, scale: float = 1.0) -> Single:
        part = self._operator.part
        given = (scale * part.own(r)).astype(np.float32)
        found = np.zeros(part.shape3, np.float32)
        if self._shared:
            first = self._shared[0]
            first.part.own(first.level.r)[...] = given
            run_cycle(self._levels)
            part.own(found)[...] = first.part.own(first.level.x)
        else:
            self._whole[0].r[...] = self.gather(given)
            run_cycle(self._levels)
            whole = self.planes_of(self._whole[0].x)
            part.own(found)[...] = whole[tuple(slice(*cut) for cut in part.box.owned)]
        return found

    def __call__(self, r: Array, z: Array) -> None:
        square = float(np.square(r).sum())  # 0 beside the owned cells
        norm = math.sqrt(self._communicator.totals(np.array([square]))[0])
        if norm == 0.0 or not math.isfinite(norm):
            z[...] = r
            return
        np.multiply(self.unscaled(r, 1.0 / norm), norm / self.unit, out=z)

    def gather(self, owned: NDArray[Any]) -> NDArray[Any]:
        """Return every process's owned cells of the level that is gathered, put together."""
        return self._gather_cells(owned, self._end, self.shape)

    def planes_of(self, whole: NDArray[Any]) -> NDArray[Any]:
        """Return an array of a whole level in the order of a box's axes; shares memory."""
        n0, n1, n2 = whole.shape
        return whole.reshape((n1, n0, n2)) if self._flat else whole

    # --- set-up -------------------------------------------------------------------------------------------------------

    def _first_stage(self, shape: Shape, reacts: bool, inside: NDArray[np.float64]) -> SharedStage:
        """Return the finest level's faces, on the operator's part, over the strongest of all."""
        grid = self._operator.grid
        faces, sides, term = open_faces(grid), by_layer(side_couplings(grid)), reaction_term(grid)
        largest = [float(f.max()) for f in faces] + [float(values.max(initial=0.0)) for _, _, values in sides]
        largest += [] if term is None else [float(term.max())]
        self.unit = float(np.concatenate(self._communicator.gathered(np.array([max(largest)]))).max()) or 1.0
        single = [(face / self.unit).astype(np.float32) for face in faces]
        known = np.zeros((3, *grid.shape3), np.float32)
        for axis, layer, values in sides:
            known[axis][layer] = values / self.unit
        single.append(known)
        if reacts:
            single.append(np.zeros(grid.shape3, np.float32) if term is None else (term / self.unit).astype(np.float32))
        return SharedStage(shape, (1, 1), VariableStage(grid.cells.reshape(grid.shape3), single, inside))

    def _part_of(self, stage: SharedStage) -> Part | None:
        """Return this process's part of a level, with `REACH` planes of its neighbours; None if it is not shared."""
        by, split = stage.coarsening, self._decomposition
        if math.prod(stage.shape) <= fused.GATHERED_CELLS or not self._cut:
            return None
        if any(split.thinnest(axis) < REACH * by[axis] for axis in self._cut):
            return None
        return self._part(REACH, by, stage.shape[2])

    def _part(self, width: int, by: tuple[int, int], length: int) -> Part:
        return Part(self._communicator, self._decomposition, self._periodic, width, by, length)

    def _share(self, stage: SharedStage, part: Part) -> SharedStage | None:
        """Add a level to the shared ones and return where the set-up then stands.

        None where the level below cannot be cut.
        """
        cells = self._map_stage(stage, part.spread)
        diagonal, couplings = self._local.make_diagonal(cells, part.exchange)
        halved = axes_to_halve(stage.shape, self._mean_couplings(part, cells.faces))
        few = self._is_last(stage.shape, part.own(diagonal))
        steps, coarse_shape = coarsen_shape(stage.shape, halved)
        by = (int(steps[1]), 1) if self._flat else (int(steps[0]), int(steps[1]))
        after = (stage.coarsening[0] * by[0], stage.coarsening[1] * by[1])
        if few or not any(halved) or not self._cuts_at(after):
            return None
        level, below = self._local.coarsen(cells, diagonal, couplings, halved)
        self._shared.append(self._share_level(part, level, by, after, below.cells.shape))
        self._shapes.append(stage.shape)
        return SharedStage((coarse_shape[0], coarse_shape[1], coarse_shape[2]), after, below)

    def _share_level(
        self, part: Part, level: VariableLevel, by: tuple[int, int], after: tuple[int, int], shape: tuple[int, ...]
    ) -> SharedVariableLevel:
        """Return a shared level with room for the coarse cells under all of its part."""
        starts = [kept[0] // step for kept, step in zip(part.box.kept, by, strict=True)]
        planes: Shape = (shape[1], shape[0], shape[2]) if self._flat else (shape[0], shape[1], shape[2])
        ranges = ((starts[0], starts[0] + planes[0]), (starts[1], starts[1] + planes[1]))
        owned = self._find_owned(self._communicator.rank, after)
        first, second = (slice(a - s, b - s) for (a, b), s in zip(owned, starts, strict=True))
        x, r, diagonal = (np.zeros(shape, np.float32) for _ in range(3))
        return SharedVariableLevel(self, part, level, ranges, (first, second), planes, x, r, diagonal)

    def _map_stage(self, stage: SharedStage, spread: Callable[[NDArray[Any]], NDArray[Any]]) -> VariableStage:
        """Return a stage's arrays on other cells, which `spread` fills from each process's owned ones."""

        def move(array: NDArray[Any]) -> NDArray[Any]:
            return spread(self._take_owned(stage, array))

        given = stage.cells
        faces = [move(face) for face in given.faces[:3]]
        faces.append(np.stack([move(side) for side in given.faces[3]]))
        faces += [move(term) for term in given.faces[4:]]
        return VariableStage(move(given.cells), faces, given.inside, None if given.least is None else move(given.least))

    def _take_owned(self, stage: SharedStage, array: NDArray[Any]) -> NDArray[Any]:
        """Return the owned cells of a stage's array: of the operator's part, or of the last shared level's."""
        if not self._shared:
            return self._operator.part.own(array)
        last = self._shared[-1]
        return last.view(array)[last.owned]

    def _gather_cells(self, owned: NDArray[Any], by: tuple[int, int], shape: Shape) -> NDArray[Any]:
        """Return every process's owned cells of a level, put together in an array of its shape."""
        whole = np.empty(shape, owned.dtype)
        planes = self.planes_of(whole)
        for rank, piece in enumerate(self._communicator.gathered(owned)):
            place = planes[tuple(slice(*cut) for cut in self._find_owned(rank, by))]
            place[...] = piece.reshape(place.shape)
        return whole

    def _find_owned(self, rank: int, by: tuple[int, int]) -> tuple[Range, Range]:
        return box_of(self._decomposition, rank, self._periodic, (0, 0), by).owned

    def _cuts_at(self, by: tuple[int, int]) -> bool:
        """Return whether the level whose cells are so wide can be cut where the finest one is."""
        split = self._decomposition
        for axis in self._cut:
            if any(place % by[axis] for place in split.bounds[axis][1:-1]) or split.thinnest(axis) < by[axis]:
                return False
            if self._periodic[axis] and split.shape[axis] % by[axis]:
                return False
        return True

    def _is_last(self, shape: Shape, owned: Single) -> bool:
        """Return `is_coarsest` of the diagonals of all processes."""
        count = int(self._communicator.totals(np.array([np.count_nonzero(owned)]))[0])
        return math.prod(shape) < SMALL * COARSEST_UNKNOWNS and count <= COARSEST_UNKNOWNS

    def _mean_couplings(self, part: Part, faces: list[Single]) -> list[float]:
        """Return the mean of the open faces along each axis, over all processes."""
        own = [part.own(face) for face in faces[:3]]
        sums = [float(face.sum(dtype=np.float64)) for face in own] + [float(np.count_nonzero(face)) for face in own]
        totals = self._communicator.totals(np.array(sums))
        return [float(total / max(count, 1.0)) for total, count in zip(totals[:3], totals[3:], strict=True)]

    def _inside_parts(self, boundary: Sides) -> NDArray[np.float64]:
        """Return `variable.inside_parts`, with the mean over a Robin side's cells in all processes."""
        grid, found = self._operator.grid, np.zeros((3, 2))
        sums = np.zeros((3, 2, 2))
        for axis, pair in enumerate(boundary):
            for end, side in enumerate(pair):
                if side in (Boundary.DIRICHLET, Boundary.DIRICHLET_NODE):
                    found[3 - len(boundary) + axis, end] = 1.0 if side is Boundary.DIRICHLET else 0.5
        own = (*self._operator.part.box.own[: grid.ndim - 1], slice(None))
        for (axis, end), (held, part) in film_parts(grid).items():
            mine = tuple(slice(0, 1) if a == axis else cut for a, cut in enumerate(own))
            sums[3 - grid.ndim + axis, end] = float((held * part)[mine].sum()), float(held[mine].sum())
        total = self._communicator.totals(sums.reshape(-1)).reshape(3, 2, 2)
        np.divide(total[..., 0], total[..., 1], out=found, where=total[..., 1] > 0)
        return found


def distributed_cycle(operator: PieceOperator, grid: DistributedPoissonGrid) -> SingleCycle:
    """Return `deflation.variable_cycle` of the whole grid, of which `operator` is a part; every process calls it."""
    cycle = DistributedVariableCycle(operator, grid)
    if not grid.reacts and not any(isinstance(side, Robin) for pair in grid.boundary for side in pair):
        return cycle
    components = null_space_of(operator, grid, holding_by_little=False)
    if components.labels is None:
        return cycle
    count = components.dimension + 1
    mine = sum_by_component(operator, components.labels, count)
    held, strength = grid.communicator.totals(np.concatenate(mine)).reshape(2, count)
    found = select_weak(held, strength, components.sizes, max(grid.shape))
    if found is None:
        return cycle
    number, sizes, weakly_held = found
    space = DistributedNullSpace(number[components.labels], sizes, grid.communicator, components.cells)
    return DeflatedCycle(cycle, space, weakly_held)
