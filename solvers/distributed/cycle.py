"""The fused V-cycle on a distributed grid: fine levels shared among the processes, coarse ones whole in each.

A process sets its levels up from its own cells and a margin of its neighbours', so wide that what is wrong at its end
has no influence on what is used; the levels are then cut down to `KEPT` planes beside the owned ones. The last shared
level is gathered, and everything below it is done by every process alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.distributed.communicator import Communicator
from relaxon.solvers.distributed.decomposition import Decomposition
from relaxon.solvers.distributed.halo import KEPT, Box, Halo, box_of
from relaxon.solvers.grid.operator import Planes
from relaxon.solvers.multigrid.building import (
    FusedLevel,
    LevelBuilder,
    Shape,
    Stage,
    along,
    chunks_of,
    coarse_nominal,
)
from relaxon.solvers.multigrid.constants import LearnedConstants
from relaxon.solvers.multigrid.fused import LevelCycle, visits_of
from relaxon.solvers.multigrid.single import Single
from relaxon.solvers.multigrid.transfers import TransferTables, axes_to_halve, coarsened

GATHERED_CELLS = 128_000
"""A level of at most so many cells is cheaper to do in every process than to share."""
MARGIN = 6
"""Cells beside the owned ones from which the last shared level is set up: two at the end may be wrong, and one more is
kept than the cycle looks at."""


class DistributedCycle(LevelCycle):
    """`z ← M r`, as `FusedCycle` on the whole grid to rounding. Every process calls it at the same time.

    Parameters
    ----------
    cells : of the margin's box, uint8, in the shape of `planes`.
    planes : of the operator on that box, whose cut sides are closed.
    whole : the whole grid's, given the cells of the level that is gathered: with their code where that is the finest,
        for the others it is not looked at.
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
        shared, stage = local.built(Stage.first(cells, planes), unknowns, plan.levels)
        self._boxes = [plan.box(communicator.rank, depth) for depth in range(plan.levels + 1)]
        self._halos = [plan.halo(communicator, depth) for depth in range(plan.levels + 1)]
        self._owners = [plan.box(rank, plan.levels).owned for rank in range(communicator.size)]
        stage = self._whole_stage(stage, plan.shapes[-1])
        builder = LevelBuilder(whole(stage.cells), constants)
        below, _ = builder.built(stage, unknowns)
        shared = [self._cut(level, depth) for depth, level in enumerate(shared)]
        super().__init__(shared + below, builder.wrap, visits_of(constants, plan.ndim))
        edge = (*self._boxes[-1].shape, plan.shapes[-1][2])
        self._edge_r, self._edge_z = np.zeros(edge, np.float32), np.zeros(edge, np.float32)
        gathered = below[0]
        self._edge_gain = None if gathered.gain is None else self._part(gathered.gain)
        if plan.levels == 0:
            gathered.r, gathered.x, gathered.z = (np.zeros(gathered.shape, np.float32) for _ in range(3))
        self.shape = (*self._boxes[0].shape, plan.shapes[0][2])
        self.info = {
            "levels": float(len(self.levels)),
            "shared_levels": float(plan.levels),
            "processes": float(communicator.size),
        }

    def apply(self, r: Single, x: Single, z: Single) -> None:
        """`z ← M r` for the owned cells; `x` is overwritten on the way, and the cells of `r` beside them. All of
        `shape`, float32.
        """
        finest = self.levels[0]
        if self._plan.levels == 0:
            assert finest.z is not None
            self._gather(r[self._boxes[0].own], finest.r)
            self.run(0)
            z[...] = self._part(finest.z)
            return
        finest.r, finest.x, finest.z = r, x, z
        self.run(0)

    def _descend(self, depth: int) -> None:
        from relaxon.solvers.multigrid import passes

        if depth >= self._plan.levels:
            super()._descend(depth)
            return
        level, below = self.levels[depth], self.levels[depth + 1]
        assert level.r is not None
        self._halos[depth].exchange(level.r)
        edge = depth + 1 == self._plan.levels
        gain = self._edge_gain if edge else below.gain
        coarse = self._edge_r if edge else below.r
        assert gain is not None
        assert coarse is not None
        own = self._boxes[depth + 1].own[0]
        passes.descend(level, gain[own], coarse[own], own)
        if edge:
            self._gather(coarse[self._boxes[-1].own], below.r)

    def _ascend(self, depth: int) -> None:
        from relaxon.solvers.multigrid import passes

        if depth >= self._plan.levels:
            super()._ascend(depth)
            return
        level, below = self.levels[depth], self.levels[depth + 1]
        assert below.z is not None
        if depth + 1 == self._plan.levels:
            self._edge_z[...] = self._part(below.z)
            gain, coarse = self._edge_gain, self._edge_z
        else:
            self._halos[depth + 1].exchange(below.z)
            gain, coarse = below.gain, below.z
        passes.ascend(level, gain, coarse)

    def _residual(self, level: FusedLevel, r: Single, z: Single, out: Single) -> None:
        from relaxon.solvers.multigrid import passes

        if self._plan.levels < 2:  # the second level is whole
            super()._residual(level, r, z, out)
            return
        self._halos[1].exchange(z)
        passes.residual(level, r, z, out)

    def _gather(self, owned: NDArray[Any], whole: NDArray[Any] | None) -> None:
        """Every process's owned cells of the level that is gathered, put together in each."""
        assert whole is not None
        pieces = self._communicator.gathered(owned)
        for (first, second), piece in zip(self._owners, pieces, strict=True):
            place = whole[first[0] : first[1], second[0] : second[1]]
            place[...] = piece.reshape(place.shape)

    def _part(self, whole: NDArray[Any]) -> NDArray[Any]:
        """This process's box of the level that is gathered."""
        rows = [np.arange(a, b) % n for (a, b), n in zip(self._boxes[-1].kept, whole.shape, strict=False)]
        return np.ascontiguousarray(whole[np.ix_(rows[0], rows[1])])

    def _whole_stage(self, stage: Stage, shape: Shape) -> Stage:
        """Where the set-up of the whole grid stands, from where those of its parts do."""
        mine = self._plan.box(self._communicator.rank, self._plan.levels, wide=True).own
        cells = np.empty(shape, np.uint8)
        self._gather(stage.cells[mine], cells)
        faces: tuple[Single, Single] | None = None
        if stage.faces is not None:
            faces = (np.empty((3, *shape), np.float32), np.empty((3, *shape), np.float32))
            for whole, parts in zip(faces, stage.faces, strict=True):
                for face, part in zip(whole, parts, strict=True):
                    self._gather(part[mine], face)
        return Stage(stage.depth, cells, faces, stage.nominal)

    def _cut(self, level: FusedLevel, depth: int) -> FusedLevel:
        """A level of the set-up's box, cut down to the cycle's."""
        wide, below = (self._plan.box(self._communicator.rank, depth + step, wide=True) for step in (0, 1))
        here, coarse = self._boxes[depth].within(wide), self._boxes[depth + 1].within(below)

        def cut(array: Any) -> Any:
            full = getattr(array, "shape", ()) == level.shape
            return np.ascontiguousarray(array[here]) if full else array

        assert level.tables is not None
        first, second, third = level.tables
        fine_shape = (*self._boxes[depth].shape, level.shape[2])
        r, x, z = (np.zeros(fine_shape, np.float32) if depth else None for _ in range(3))
        return replace(
            level,
            shape=fine_shape,
            operator=tuple(cut(part) for part in level.operator),
            smoother=tuple(cut(part) for part in level.smoother),
            chunks=chunks_of(fine_shape),
            gain=None if level.gain is None else cut(level.gain),
            share=cut(level.share),
            tables=(_cut_tables(first, here[0], coarse[0]), _cut_tables(second, here[1], coarse[1]), third),
            r=r,
            x=x,
            z=z,
        )


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
            _, coarse_shape = coarsened(shape, halved)
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

    def box(self, rank: int, depth: int, wide: bool = False) -> Box:
        """A process's box of a level: the cycle's, or the set-up's wide one."""
        by = self._coarsening[depth]
        width = (self.margin[0] // by[0], self.margin[1] // by[1]) if wide else (KEPT, KEPT)
        return box_of(self._decomposition, rank, self._periodic, width, by)

    def halo(self, communicator: Communicator, depth: int, wide: bool = False) -> Halo:
        """What brings the neighbours' cells into `box`."""
        return Halo(communicator, self._decomposition, self._periodic, self.box(communicator.rank, depth, wide))


def _cut_tables(tables: TransferTables, fine: slice, coarse: slice) -> TransferTables:
    """The tables between two ranges of an axis; cells outside them have no weight."""
    count, many = coarse.stop - coarse.start, fine.stop - fine.start
    if (count, many) == (len(tables.base), len(tables.own)):
        return tables

    def moved(target: NDArray[np.int64], weight: Single) -> tuple[NDArray[np.int64], Single]:
        place = target[fine] - coarse.start
        inside = (place >= 0) & (place < count)
        return np.clip(place, 0, count - 1), np.where(inside, weight[fine], 0).astype(np.float32)

    own, near = moved(tables.own, tables.near)
    other, far = moved(tables.other, tables.far)
    base = tables.base[coarse] - fine.start
    reached = base[:, None] + np.arange(tables.weights.shape[1])
    weights = np.where((reached >= 0) & (reached < many), tables.weights[coarse], 0).astype(np.float32)
    return replace(tables, own=own, other=other, near=near, far=far, base=base, weights=weights)
