"""The set-up of the fused V-cycle: levels, one after the other, from the cell types of a grid with κ = 1."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.operator import Planes
from relaxon.solvers.multigrid.coarsening import coarsen_types
from relaxon.solvers.multigrid.constants import (
    BEYOND_TRAINING,
    MOST_SMOOTHING,
    LearnedConstants,
    LevelConstants,
    chebyshev,
)
from relaxon.solvers.multigrid.single import Single
from relaxon.solvers.multigrid.transfers import (
    COARSEST_UNKNOWNS,
    TransferTables,
    axes_to_halve,
    coarsened,
    coarsest_inverse,
    is_coarsest,
    transfer_tables,
)

Shape = tuple[int, int, int]
SHARE_UNIT = 0.01
"""Shares of the finest level are whole multiples of this: 1, that of almost all cells, is one of them."""
MOST_SHARE = 2.5
MOST_HALF_FACES = 12
"""A cell's faces with those on Dirichlet sides counted twice, along three axes."""
_NO_COUPLING = np.zeros((1, 1, 1), np.float32)


@dataclass(slots=True)
class FusedLevel:
    """One level. The last one has `inverse` and `index` in place of smoother and transfer."""

    shape: Shape
    operator: tuple[Any, ...]
    smoother: tuple[Any, ...]
    chunks: int
    nominal: tuple[float, float, float]
    """The coupling of an open face an axis."""
    active: tuple[bool, bool, bool]
    """The axes that the stencil smooths along."""
    wrap: NDArray[np.bool_]
    """Along which axes the level goes around `(3,)`."""
    gain: Single | None
    """What a correction to this level's coarse cells is multiplied with; None on the finest level."""
    tables: tuple[TransferTables, TransferTables, TransferTables] | None = None
    halved2: bool = False
    share: Any = None
    share_unit: Any = 1.0
    index: NDArray[np.int64] | None = None
    inverse: Single | None = None
    r: Single | None = None
    x: Single | None = None
    z: Single | None = None
    again: tuple[Single, Single] | None = None
    """Work space of a second visit."""

    arrays: tuple[Any, ...] | None = field(default=None, init=False, repr=False)
    """What `passes` made of the level's arrays at first use."""

    def couplings(self, wrap: tuple[bool, bool, bool]) -> tuple[Single, Single, Single]:
        """To the cell below along each axis, 0 unless both are unknowns: made where the level is coded."""
        if not self.operator[3]:
            return (self.operator[4], self.operator[5], self.operator[6])
        found = []
        for axis in range(3):
            both = (self.unknown & np.roll(self.unknown, 1, axis)) * self.operator[2][axis]
            if not wrap[axis]:
                both[tuple(slice(0, 1) if a == axis else slice(None) for a in range(3))] = 0
            found.append(both.astype(np.float32))
        return (found[0], found[1], found[2])

    def twin(self) -> FusedLevel:
        """Return the same level with work space of its own."""
        made = copy(self)
        made.r, made.x, made.z = (None if array is None else np.zeros_like(array) for array in (self.r, self.x, self.z))
        made.again = None
        return made

    @property
    def unknown(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.operator[0] != 0
        return found


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a set-up stands: the next level's cells, and its faces where they have been made."""

    depth: int
    cells: NDArray[np.uint8]
    """Cell types, of the level's shape."""
    faces: tuple[Single, Single] | None
    """Couplings of the open faces below each cell, and those to Dirichlet sides, along the three axes: `(3, …)`."""
    nominal: list[float]
    """The coupling of an open face an axis; 0 along axes of one cell."""

    @classmethod
    def first(cls, cells: NDArray[np.uint8], planes: Planes) -> Stage:
        """The finest level, whose `cells` have the shape of `planes`."""
        cells = cells.reshape(planes.shape)
        weights = [float(w) for w in np.asarray(planes.weights, np.float32)]
        return cls(0, cells, None, along(cells.shape, weights))


class LevelBuilder:
    """Builds levels with the sides and the constants of one grid.

    Parameters
    ----------
    planes : of the operator whose finest level is built first.
    constants : see `FusedCycle`.
    """

    def __init__(self, planes: Planes, constants: dict[int, LearnedConstants]) -> None:
        self.wrap = (bool(planes.wrap[0]), bool(planes.wrap[1]), bool(planes.wrap[2]))
        self._planes = planes
        self._sides = planes.sides
        self._constants = constants

    def built(self, stage: Stage, unknowns: int, count: int | None = None) -> tuple[list[FusedLevel], Stage]:
        """The levels from `stage` on, and where the set-up then stands.

        `unknowns` are those of the finest level. With `count`, so many levels and none of them the last; else down to
        the one that is solved exactly.
        """
        from relaxon.solvers.multigrid import setup_kernels as kernels

        planes = self._planes
        weights = np.asarray(planes.weights, np.float32)
        cells, faces, nominal = stage.cells, stage.faces, stage.nominal
        wrap = np.array(self.wrap)
        found: list[FusedLevel] = []
        while count is None or len(found) < count:
            depth, shape = stage.depth + len(found), cells.shape
            halved = axes_to_halve(shape, nominal)
            coded = depth == 0 and planes.linear
            if not coded and faces is None:
                faces = _empty_faces(shape)
                kernels.open_faces(kernels.read_only(cells), weights, self._sides, wrap, *faces)
            if coded:
                last = not any(halved) or unknowns <= COARSEST_UNKNOWNS
            else:
                assert faces is not None
                diagonal = np.empty(shape, np.float32)
                kernels.finish(cells, faces[0][0], faces[0][1], faces[0][2], faces[1], wrap, diagonal)
                last = not any(halved) or is_coarsest(diagonal)
            last = last and count is None
            coarse_cells, coarse_faces = cells, faces
            if not last:
                steps, coarse_shape = coarsened(shape, halved)
                half = np.array([0.5 if h else 1.0 for h in halved], np.float32)
                coarse_faces = _empty_faces(coarse_shape)
                if coded:
                    kernels.coarsen_cells(cells, weights, self._sides, wrap, steps, half, *coarse_faces)
                else:
                    assert faces is not None
                    kernels.coarsen_faces(*faces, steps, wrap, half, *coarse_faces)
                coarse_cells = np.empty(coarse_shape, np.uint8)
                coarsen_types(cells, steps, coarse_cells)
            values = self._of(depth, sum(halved))
            if coded:
                level = self._coded_level(planes.code, values, wrap)
            else:
                assert faces is not None
                level = self._level(depth, diagonal, faces[0], values, nominal)
            found.append(level)
            if last:
                _make_coarsest(level, self.wrap)
                return found, Stage(depth, cells, faces, nominal)
            self._add_transfer(level, halved, coarse_cells)
            cells, faces = coarse_cells, coarse_faces
            nominal = coarse_nominal(nominal, halved, cells.shape)
        return found, Stage(stage.depth + len(found), cells, faces, nominal)

    def _of(self, depth: int, axes: int) -> LevelConstants:
        axes = max(axes, 1)
        constants = self._constants.get(axes) or chebyshev(axes)
        return constants.level(depth)

    def _stencil(self, values: LevelConstants, active: list[bool]) -> tuple[Single, Single]:
        """The constants across and one step along the last axis; nothing along axes that are not active."""
        c = [np.float32(v) for v in values.stencil]
        zero = np.float32(0)

        def at(a: int, b: int, e: int) -> np.float32:
            return zero if (a and not active[0]) or (b and not active[1]) or (e and not active[2]) else c[a + b + e]

        inner = [at(0, 0, 0), at(0, 1, 0), at(1, 0, 0), at(1, 1, 0)]
        outer = [at(0, 0, 1), at(0, 1, 1), at(1, 0, 1), at(1, 1, 1)]
        return np.array(inner, np.float32), np.array(outer, np.float32)

    def _coded_level(self, code: NDArray[np.uint8], values: LevelConstants, wrap: NDArray[np.bool_]) -> FusedLevel:
        from relaxon.solvers.multigrid import setup_kernels as kernels

        active = [n > 1 for n in code.shape]
        inner, outer = self._stencil(values, active)
        table, unit = _multiplier_table(values, sum(active), reach_of(inner, outer))
        multiplier = np.empty(code.shape, np.uint8)
        kernels.multiplier_codes(code, wrap, table, multiplier)
        one = np.float32(1)
        couplings = np.array([a or w for a, w in zip(active, self.wrap, strict=True)], np.float32)
        operator = (code, one, couplings, True, _NO_COUPLING, _NO_COUPLING, _NO_COUPLING)
        smoother = (multiplier, unit, inner, outer)
        every = (float(couplings[0]), float(couplings[1]), float(couplings[2]))
        shape: Shape = (code.shape[0], code.shape[1], code.shape[2])
        return FusedLevel(
            shape, operator, smoother, chunks_of(shape), every, (active[0], active[1], active[2]), wrap, None
        )

    def _level(
        self, depth: int, diagonal: Single, faces: Single, values: LevelConstants, nominal: list[float]
    ) -> FusedLevel:
        from relaxon.solvers.multigrid import setup_kernels as kernels

        shape: Shape = (diagonal.shape[0], diagonal.shape[1], diagonal.shape[2])
        lower = (faces[0], faces[1], faces[2])
        kernels.keep_unknowns(diagonal, *lower)
        halved = axes_to_halve(shape, nominal)
        inner, outer = self._stencil(values, halved)
        multiplier, gain = np.empty(shape, np.float32), np.empty(shape, np.float32)
        wrap = np.array(self.wrap)
        kernels.learned_arrays(diagonal, lower, wrap, nominal, values, reach_of(inner, outer), multiplier, gain)
        one = np.float32(1)
        operator = (diagonal, one, np.ones(3, np.float32), False, *lower)
        smoother = (multiplier, one, inner, outer)
        level = FusedLevel(
            shape,
            operator,
            smoother,
            chunks_of(shape),
            (nominal[0], nominal[1], nominal[2]),
            (halved[0], halved[1], halved[2]),
            wrap,
            gain if depth else None,
        )
        if depth:
            level.r, level.x, level.z = (np.zeros(shape, np.float32) for _ in range(3))
        return level

    def _add_transfer(self, level: FusedLevel, halved: list[bool], coarse_cells: NDArray[np.uint8]) -> None:
        from relaxon.solvers.multigrid import setup_kernels as kernels

        sides = [(bool(low), bool(high)) for low, high in self._sides]
        tables = [transfer_tables(n, h, w, s) for n, h, w, s in zip(level.shape, halved, self.wrap, sides, strict=True)]
        a, b, c = tables
        level.tables, level.halved2 = (a, b, c), halved[2]
        opened = (coarse_cells != kernels.SOLID).astype(np.float32)
        coded = bool(level.operator[3])
        level.share = np.empty(level.shape, np.uint8 if coded else np.float32)
        level.share_unit = np.float32(SHARE_UNIT if coded else 1.0)
        most = np.float32(MOST_SHARE / SHARE_UNIT if coded else 1e30)
        kernels.shares(
            level.operator[0], opened, level.tables, halved[2], self.wrap[2], level.share_unit, most, level.share
        )


def _empty_faces(shape: tuple[int, ...]) -> tuple[Single, Single]:
    return np.empty((3, *shape), np.float32), np.empty((3, *shape), np.float32)


def reach_of(inner: Single, outer: Single) -> float:
    """The sum of the stencil's 27 points."""
    return float(inner @ np.array([1.0, 2.0, 2.0, 4.0]) + outer @ np.array([2.0, 4.0, 4.0, 8.0]))


def along(shape: tuple[int, ...], nominal: list[float]) -> list[float]:
    """The couplings along axes longer than one cell, 0 for the others."""
    return [w if n > 1 else 0.0 for n, w in zip(shape, nominal, strict=True)]


def coarse_nominal(nominal: list[float], halved: list[bool], coarse: tuple[int, ...]) -> list[float]:
    """The coupling of an open face of the coarse level, whose shape is `coarse`, an axis."""
    size = 2 ** sum(halved)
    return along(coarse, [w * 0.5 * size / 2 if h else w * size for w, h in zip(nominal, halved, strict=True)])


def chunks_of(shape: Shape) -> int:
    """Into how many runs of planes a level is divided among threads."""
    from relaxon.solvers.kernels.compiled import threads_for

    return min(threads_for(math.prod(shape)), shape[0])


@lru_cache(maxsize=16)
def _multiplier_table(values: LevelConstants, ndim: int, reach: float) -> tuple[NDArray[np.uint8], np.float32]:
    """A byte for each surrounding of a finest cell (half faces, unknowns beside, on edges, corners), and its unit."""
    faces, edges, corners = 2 * ndim, 2 * ndim * (ndim - 1), 8 if ndim == 3 else 0
    half, beside, edge, corner = np.meshgrid(
        np.arange(MOST_HALF_FACES + 1),
        np.arange(faces + 1),
        np.arange(edges + 1),
        np.arange(corners + 1),
        indexing="ij",
    )
    d = np.maximum(half, 1)
    edge_part = edge / max(edges, 1)
    corner_part = corner / corners if corners else np.ones(half.shape)
    seen = np.stack([half / faces, beside / d, edge_part, corner_part, beside / faces], -1).astype(np.float32)
    multiplier = values.network(seen)[..., 0] / d
    held = np.where(half > BEYOND_TRAINING * faces, MOST_SMOOTHING / (reach * np.maximum(half - beside, 1)), np.inf)
    multiplier = np.minimum(multiplier, held)
    # Combinations that no cell can have would only coarsen the unit.
    possible = (half > 0) & (beside <= half)
    unit = np.float32(multiplier[possible].max() / 255)
    code = np.clip(np.rint(multiplier / unit), 1, 255)
    return np.where(half > 0, code, 0).astype(np.uint8), unit


def _make_coarsest(level: FusedLevel, wrap: tuple[bool, bool, bool]) -> None:
    level.index, level.inverse = coarsest_inverse(
        np.asarray(level.operator[0], np.float64), level.couplings(wrap), level.unknown
    )
