"""The fused V-cycle on a distributed grid: fine levels shared among the processes, coarse ones whole in each.

A process sets its levels up from its own cells and a margin of its neighbours', so wide that what is wrong at its end
has no influence on what is used; the levels are then cut down to `KEPT` planes beside the owned ones. The last shared
level is gathered, and everything below it is done by every process alike.
"""

# Imported on first use, for its weight: `solvers.multigrid.passes`.

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.distributed.communicator import Communicator
from relaxon.solvers.distributed.decomposition import Decomposition
from relaxon.solvers.distributed.halo import KEPT, Halo, HaloBox, box_of
from relaxon.solvers.grid.operator import Planes
from relaxon.solvers.multigrid.constants import LearnedConstants
from relaxon.solvers.multigrid.cycle import CycleLevel, Single, run_cycle
from relaxon.solvers.multigrid.fused import LevelCycle, set_visits
from relaxon.solvers.multigrid.level_builder import FusedStage, LevelBuilder, along, coarse_nominal, make_transfer
from relaxon.solvers.multigrid.levels import FusedLevel, Shape
from relaxon.solvers.multigrid.transfers import TransferTables, axes_to_halve, coarsen_shape

GATHERED_CELLS = 128_000
"""A level of at most so many cells is cheaper to do in every process than to share."""
MARGIN = 6
"""Cells beside the owned ones from which the last shared level is set up: two at the end may be wrong, and one more is
kept than the cycle looks at."""


@dataclass(slots=True)
class SharedLevel(CycleLevel):
    """A process's part of a level, cut down to the cycle's box: the steps of the cycle with exchanges on the way."""

    level: FusedLevel
    """The arrays on the box. Its transfer gathers into the owned coarse planes alone."""
    halo: Halo
    below: HaloBox
    """The process's box of the level below."""
    visits: int

    def smooth_residual_restrict(self, below: Any) -> None:
        from relaxon.solvers.multigrid import passes

        self.exchange(self.level.r)
        own = self.below.own[0]
        passes.smooth_residual_restrict(self.level, below.level.gain[own], below.level.r[own])

    def prolong_correct_smooth(self, below: Any) -> None:
        from relaxon.solvers.multigrid import passes

        below.exchange(below.level.z)
        passes.prolong_correct_smooth(self.level, below.level.gain, below.level.z)

    def begin_visit(self) -> None:
        self.exchange(self.level.z)
        self.level.begin_visit()

    def end_visit(self) -> None:
        self.level.end_visit()

    def exchange(self, planes: Single) -> None:
        """Bring the neighbours' cells of one of the level's arrays up to date."""
        self.halo.exchange(planes.reshape(self.level.shape))


@dataclass(slots=True)
class LastSharedLevel(SharedLevel):
    """The shared level above the one that every process has whole."""

    cycle: DistributedCycle
    gain: Single
    """Of the level below, on this process's box, as planes; as are `r` and `z`."""
    r: Single
    z: Single

    def smooth_residual_restrict(self, below: FusedLevel) -> None:
        from relaxon.solvers.multigrid import passes

        self.exchange(self.level.r)
        own = self.below.own
        passes.smooth_residual_restrict(self.level, self.gain[own[0]], self.r[own[0]])
        self.cycle.gather(self.r.reshape(*self.below.shape, -1)[own], below.r.reshape(below.shape))

    def prolong_correct_smooth(self, below: FusedLevel) -> None:
        from relaxon.solvers.multigrid import passes

        self.z[...] = _flatten(self.cycle.cut_out(below.z.reshape(below.shape)))
        passes.prolong_correct_smooth(self.level, self.gain, self.z)


class DistributedCycle(LevelCycle):
    """`z ← M r`, as `FusedCycle` on the whole grid to rounding. Every process calls it at the same time.

    Parameters
    ----------
    cells : of the margin's box, uint8, in the shape of `planes`.
    planes : of the operator on that box, whose cut sides are closed.
    whole : the whole grid's, given the cells of the level that is gathered: with their code where that is the finest;
        for the others the code is not looked at.
    unknowns : of the whole grid.
    """

    def __init__(
        self,
        communicator: Communicator,
        plan: Plan,
        cells: NDArray[np.uint8],
        planes: Planes,
        whole: Callable[[NDArray[np.uint8]], Planes],
        unknowns: int,
        constants: dict[int, LearnedConstants],
    ) -> None:
        self._communicator, self._plan = communicator, plan
        self.unit = planes.unit
        local = LevelBuilder(planes, constants)
        wide, stage = local.build(FusedStage.first(cells, planes), unknowns, plan.levels)
        self._boxes = [plan.box(communicator.rank, depth) for depth in range(plan.levels + 1)]
        self._owners = [plan.box(rank, plan.levels).owned for rank in range(communicator.size)]
        stage = self._whole_stage(stage, plan.shapes[-1])
        below, _ = LevelBuilder(whole(stage.cells), constants).build(stage, unknowns)
        shared = [self._cut(level, depth) for depth, level in enumerate(wide)]
        set_visits(shared + below, constants, plan.ndim)
        self._finest = (shared + below)[0]
        self._levels: list[CycleLevel] = [
            *(self._share(level, depth, below[0]) for depth, level in enumerate(shared)),
            *below,
        ]
        self.shape = (*self._boxes[0].shape, plan.shapes[0][2])
        if plan.levels == 0:
            size = (self._finest.shape[0], math.prod(self._finest.shape[1:]))
            self._finest.r, self._finest.x, self._finest.z = (np.zeros(size, np.float32) for _ in range(3))
        self.info = {
            "levels": float(len(self._levels)),
            "shared_levels": float(plan.levels),
            "processes": float(communicator.size),
        }

    def apply(self, r: Single, x: Single, z: Single) -> None:
        """`z ← M r` for the owned cells; `x` is overwritten on the way, and the cells of `r` beside them. All of
        `shape`, float32.
        """
        finest = self._finest
        if self._plan.levels == 0:
            self.gather(r[self._boxes[0].own], finest.r.reshape(finest.shape))
            run_cycle(self._levels)
            z[...] = self.cut_out(finest.z.reshape(finest.shape))
            return
        finest.r, finest.x, finest.z = _flatten(r), _flatten(x), _flatten(z)
        run_cycle(self._levels)

    def gather(self, owned: NDArray[Any], whole: NDArray[Any]) -> None:
        """Put every process's owned cells of the level that is gathered together in each."""
        pieces = self._communicator.gathered(owned)
        for (first, second), piece in zip(self._owners, pieces, strict=True):
            place = whole[first[0] : first[1], second[0] : second[1]]
            place[...] = piece.reshape(place.shape)

    def cut_out(self, whole: NDArray[Any]) -> NDArray[Any]:
        """Return this process's box of the level that is gathered."""
        rows = [np.arange(a, b) % n for (a, b), n in zip(self._boxes[-1].kept, whole.shape, strict=False)]
        return np.ascontiguousarray(whole[np.ix_(rows[0], rows[1])])

    def _whole_stage(self, stage: FusedStage, shape: Shape) -> FusedStage:
        """Return where the set-up of the whole grid stands, from where those of its parts do."""
        mine = self._plan.box(self._communicator.rank, self._plan.levels, wide=True).own
        cells = np.empty(shape, np.uint8)
        self.gather(stage.cells[mine], cells)
        faces: tuple[Single, Single] | None = None
        if stage.faces is not None:
            faces = (np.empty((3, *shape), np.float32), np.empty((3, *shape), np.float32))
            for whole, parts in zip(faces, stage.faces, strict=True):
                for face, part in zip(whole, parts, strict=True):
                    self.gather(part[mine], face)
        return FusedStage(stage.depth, cells, faces, stage.nominal)

    def _cut(self, level: FusedLevel, depth: int) -> FusedLevel:
        """Return a level of the set-up's box, cut down to the cycle's."""
        wide, below = (self._plan.box(self._communicator.rank, depth + step, wide=True) for step in (0, 1))
        here, coarse = self._boxes[depth].within(wide), self._boxes[depth + 1].within(below)
        flat = (level.shape[0], level.shape[1] * level.shape[2])

        def cut(array: Any) -> Any:
            if getattr(array, "shape", ()) != flat:
                return array
            return _flatten(np.ascontiguousarray(array.reshape(level.shape)[here]))

        assert level.tables is not None
        assert level.transfer is not None
        first, second, third = level.tables
        tables = (_cut_tables(first, here[0], coarse[0]), _cut_tables(second, here[1], coarse[1]), third)
        codes, values, unit, halved2 = level.transfer[:4]
        transfer, own = make_transfer(tables, halved2, cut(codes), cut(values), unit), self._boxes[depth + 1].own[0]
        shape = (*self._boxes[depth].shape, level.shape[2])
        r, x, z = (np.zeros((shape[0], shape[1] * shape[2]), np.float32) if depth else None for _ in range(3))
        return replace(
            level,
            shape=shape,
            operator=level.operator._replace(**{k: cut(v) for k, v in level.operator._asdict().items()}),
            smoother=level.smoother._replace(**{k: cut(v) for k, v in level.smoother._asdict().items()}),
            gain=cut(level.gain),
            transfer=transfer._replace(base0=transfer.base0[own], gather0=transfer.gather0[own]),
            tables=tables,
            r=r,
            x=x,
            z=z,
        )

    def _share(self, level: FusedLevel, depth: int, gathered: FusedLevel) -> SharedLevel:
        """Return a level that has been cut, with what its exchanges take."""
        halo, below = self._plan.halo(self._communicator, depth), self._boxes[depth + 1]
        if depth + 1 < self._plan.levels:
            return SharedLevel(level, halo, below, level.visits)
        assert gathered.gain is not None
        gain = _flatten(self.cut_out(gathered.gain.reshape(gathered.shape)))
        return LastSharedLevel(level, halo, below, level.visits, self, gain, np.zeros_like(gain), np.zeros_like(gain))


class Plan:
    """Which levels are shared, and how wide the margin is from which they are set up.

    Parameters
    ----------
    planes : of any operator with the grid's spacing.
    shape : of the whole grid, in the order of `planes`.
    """

    def __init__(self, decomposition: Decomposition, planes: Planes, shape: Shape, periodic: tuple[bool, bool]) -> None:
        self._decomposition, self._periodic = decomposition, periodic
        self.ndim = len(decomposition.shape)
        nominal = along(shape, [float(w) for w in np.asarray(planes.weights, np.float32)])
        self.shapes: list[Shape] = [shape]
        """Of each shared level, and of the one that is gathered."""
        self._coarsening = [(1, 1)]
        self.margin = (0, 0)
        cut = [axis for axis in range(2) if decomposition.parts[axis] > 1]
        while math.prod(shape) > GATHERED_CELLS:
            halved = axes_to_halve(shape, nominal)
            if not any(halved):
                return
            _, coarse_shape = coarsen_shape(shape, halved)
            before = self._coarsening[-1]
            steps = [2 if h else 1 for h in halved[:2]]
            after = (before[0] * steps[0], before[1] * steps[1])
            margin = [MARGIN * after[axis] // steps[axis] for axis in range(2)]
            for axis in cut:
                inner = decomposition.bounds[axis][1:-1]
                if any(place % after[axis] for place in inner) or decomposition.thinnest(axis) < margin[axis]:
                    return
                if decomposition.thinnest(axis) < KEPT * after[axis]:
                    return
                if periodic[axis] and decomposition.shape[axis] % after[axis]:
                    return
            nominal = coarse_nominal(nominal, halved, coarse_shape)
            shape = (coarse_shape[0], coarse_shape[1], coarse_shape[2])
            self.shapes.append(shape)
            self._coarsening.append(after)
            self.margin = (margin[0], margin[1])

    @property
    def levels(self) -> int:
        return len(self.shapes) - 1

    def box(self, rank: int, depth: int, wide: bool = False) -> HaloBox:
        """Return a process's box of a level: the cycle's, or the set-up's wide one."""
        by = self._coarsening[depth]
        width = (self.margin[0] // by[0], self.margin[1] // by[1]) if wide else (KEPT, KEPT)
        return box_of(self._decomposition, rank, self._periodic, width, by)

    def halo(self, communicator: Communicator, depth: int, wide: bool = False) -> Halo:
        """Return what brings the neighbours' cells into `box`."""
        return Halo(communicator, self._decomposition, self._periodic, self.box(communicator.rank, depth, wide))


def _flatten(array: NDArray[Any]) -> NDArray[Any]:
    """Return the same memory as planes."""
    return array.reshape(len(array), -1)


def _cut_tables(tables: TransferTables, fine: slice, coarse: slice) -> TransferTables:
    """Return the tables between two ranges of an axis; cells outside them have no weight."""
    count, many = coarse.stop - coarse.start, fine.stop - fine.start
    if (count, many) == (len(tables.base), len(tables.own)):
        return tables

    def move(target: NDArray[np.int64], weight: Single) -> tuple[NDArray[np.int64], Single]:
        place = target[fine] - coarse.start
        inside = (place >= 0) & (place < count)
        return np.clip(place, 0, count - 1), np.where(inside, weight[fine], 0).astype(np.float32)

    own, near = move(tables.own, tables.near)
    other, far = move(tables.other, tables.far)
    base = tables.base[coarse] - fine.start
    reached = base[:, None] + np.arange(tables.weights.shape[1])
    weights = np.where((reached >= 0) & (reached < many), tables.weights[coarse], 0).astype(np.float32)
    return replace(tables, own=own, other=other, near=near, far=far, base=base, weights=weights)
