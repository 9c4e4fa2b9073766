"""The set-up of the fused V-cycle: levels, one after the other, from the cell types of a grid with κ = 1."""

# Imported on first use, for their weight: the compiled kernels (numba).
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.operator import Planes
from relaxon.solvers.kernels.memory import allocate, allocate_zeros
from relaxon.solvers.multigrid.coarsening import coarsen_types
from relaxon.solvers.multigrid.constants import (
    BEYOND_TRAINING,
    MOST_SMOOTHING,
    LearnedConstants,
    LevelConstants,
    chebyshev,
)
from relaxon.solvers.multigrid.cycle import Single
from relaxon.solvers.multigrid.levels import CodedLevel, FaceLevel, FusedLevel, Shape
from relaxon.solvers.multigrid.transfers import (
    COARSEST_UNKNOWNS,
    TransferTables,
    axes_to_halve,
    coarsen_shape,
    coarsest_inverse,
    is_coarsest,
    transfer_tables,
)

if TYPE_CHECKING:
    from relaxon.solvers.multigrid.passes import Transfer

SHARE_UNIT = 0.01
"""Shares of the finest level are whole multiples of this: 1, that of almost all cells, is one of them."""
MOST_SHARE = 2.5
"""The largest share that a byte can hold in that unit, rounded down."""
MOST_HALF_FACES = 12
"""The half faces of a cell along three axes: a face on a Dirichlet side counts twice."""


@dataclass(frozen=True, slots=True)
class FusedStage:
    """The state of the set-up: the next level's cells, and its faces where they have been computed."""

    depth: int
    cells: NDArray[np.uint8]
    """Cell types, of the level's shape."""
    faces: tuple[Single, Single] | None
    """Couplings of the open faces below each cell, and those to Dirichlet sides, along the three axes: `(3, …)`."""
    nominal: list[float]
    """The coupling of an open face along each axis; 0 along axes of one cell."""

    @classmethod
    def first(cls, cells: NDArray[np.uint8], planes: Planes) -> FusedStage:
        """Return the stage of the finest level, whose `cells` have the shape of `planes`."""
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

    def build(self, stage: FusedStage, unknowns: int, count: int | None = None) -> tuple[list[FusedLevel], FusedStage]:
        """Return the levels from `stage` on, and where the set-up then stands.

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
                diagonal = allocate(shape, np.float32)
                kernels.finish(cells, faces[0][0], faces[0][1], faces[0][2], faces[1], wrap, diagonal)
                last = not any(halved) or is_coarsest(diagonal)
            last = last and count is None
            coarse_cells, coarse_faces = cells, faces
            if not last:
                steps, coarse_shape = coarsen_shape(shape, halved)
                half = np.array([0.5 if h else 1.0 for h in halved], np.float32)
                coarse_faces = _empty_faces(coarse_shape)
                if coded:
                    kernels.coarsen_cells(cells, weights, self._sides, wrap, steps, half, *coarse_faces)
                else:
                    assert faces is not None
                    kernels.coarsen_faces(*faces, steps, wrap, half, *coarse_faces)
                coarse_cells = allocate(coarse_shape, np.uint8)
                coarsen_types(cells, steps, coarse_cells)
            values = self._constants_of(depth, sum(halved))
            level: FusedLevel
            if coded:
                level = self._build_coded_level(planes.code, values)
            else:
                assert faces is not None
                level = self._face_level(depth, diagonal, faces[0], values, nominal)
            found.append(level)
            if last:
                level.index, level.inverse = coarsest_inverse(
                    level.diagonal.astype(np.float64), level.couplings, level.unknown
                )
                return found, FusedStage(depth, cells, faces, nominal)
            self._add_transfer(level, halved, coarse_cells)
            cells, faces = coarse_cells, coarse_faces
            nominal = coarse_nominal(nominal, halved, cells.shape)
        return found, FusedStage(stage.depth + len(found), cells, faces, nominal)

    def _constants_of(self, depth: int, axes: int) -> LevelConstants:
        axes = max(axes, 1)
        constants = self._constants.get(axes) or chebyshev(axes)
        return constants.level(depth)

    def _stencil(self, values: LevelConstants, active: list[bool]) -> Single:
        """Return the constants across and one step along the last axis, `(2, 4)`; 0 along axes that are not active."""
        c = [np.float32(v) for v in values.stencil]
        zero = np.float32(0)

        def at(a: int, b: int, e: int) -> np.float32:
            return zero if (a and not active[0]) or (b and not active[1]) or (e and not active[2]) else c[a + b + e]

        return np.array([[at(a, b, e) for a in (0, 1) for b in (0, 1)] for e in (0, 1)], np.float32)

    def _build_coded_level(self, code: NDArray[np.uint8], values: LevelConstants) -> CodedLevel:
        from relaxon.solvers.grid.plane_kernels import planes_of
        from relaxon.solvers.multigrid import passes
        from relaxon.solvers.multigrid import setup_kernels as kernels

        active = [n > 1 for n in code.shape]
        stencil = self._stencil(values, active)
        table, unit = _multiplier_table(values, sum(active), reach_of(stencil))
        multiplier, wrap = allocate(code.shape, np.uint8), np.array(self.wrap)
        kernels.multiplier_codes(code, wrap, table, multiplier)
        weights = np.array([a or w for a, w in zip(active, self.wrap, strict=True)], np.float32)
        shape: Shape = (code.shape[0], code.shape[1], code.shape[2])
        none = passes.NO_VALUES
        operator = passes.LevelOperator(True, planes_of(code), none, none, none, none, weights, shape[2], wrap)
        smoother = passes.Smoother(planes_of(multiplier), none, unit, stencil)
        nominal = (float(weights[0]), float(weights[1]), float(weights[2]))
        return CodedLevel(shape, operator, smoother, nominal, (active[0], active[1], active[2]))

    def _face_level(
        self, depth: int, diagonal: Single, faces: Single, values: LevelConstants, nominal: list[float]
    ) -> FaceLevel:
        from relaxon.solvers.grid.plane_kernels import planes_of
        from relaxon.solvers.multigrid import passes
        from relaxon.solvers.multigrid import setup_kernels as kernels

        shape: Shape = (diagonal.shape[0], diagonal.shape[1], diagonal.shape[2])
        lower = (faces[0], faces[1], faces[2])
        kernels.keep_unknowns(diagonal, *lower)
        halved = axes_to_halve(shape, nominal)
        stencil = self._stencil(values, halved)
        multiplier, gain = allocate(shape, np.float32), allocate(shape, np.float32)
        wrap, ones = np.array(self.wrap), np.ones(3, np.float32)
        kernels.learned_arrays(diagonal, lower, wrap, nominal, values, reach_of(stencil), multiplier, gain)
        flat, lower0, lower1, lower2 = (planes_of(array) for array in (diagonal, *lower))
        operator = passes.LevelOperator(False, passes.NO_CODES, flat, lower0, lower1, lower2, ones, shape[2], wrap)
        smoother = passes.Smoother(passes.NO_CODES, planes_of(multiplier), np.float32(1), stencil)
        active = (halved[0], halved[1], halved[2])
        level = FaceLevel(shape, operator, smoother, (nominal[0], nominal[1], nominal[2]), active)
        if depth:
            level.gain = planes_of(gain)
            level.r, level.x, level.z = (allocate_zeros(level.gain.shape, np.float32) for _ in range(3))
        return level

    def _add_transfer(self, level: FusedLevel, halved: list[bool], coarse_cells: NDArray[np.uint8]) -> None:
        from relaxon.solvers.multigrid import passes
        from relaxon.solvers.multigrid import setup_kernels as kernels

        sides = [(bool(low), bool(high)) for low, high in self._sides]
        tables = [transfer_tables(n, h, w, s) for n, h, w, s in zip(level.shape, halved, self.wrap, sides, strict=True)]
        first, second, third = tables
        level.tables = (first, second, third)
        codes: NDArray[np.uint8]
        values: Single
        codes, values, unit = passes.NO_CODES, passes.NO_VALUES, SHARE_UNIT
        if level.operator.coded:
            codes = allocate(level.operator.codes.shape, np.uint8)
        else:
            values, unit = allocate(level.operator.diagonal.shape, np.float32), 1.0
        level.transfer = make_transfer(level.tables, halved[2], codes, values, np.float32(unit))
        opened = (coarse_cells != kernels.SOLID).astype(np.float32)
        kernels.shares(level.operator, level.transfer, opened, level.tables, np.float32(MOST_SHARE / SHARE_UNIT))


def make_transfer(
    tables: tuple[TransferTables, TransferTables, TransferTables],
    halved2: bool,
    codes: NDArray[np.uint8],
    values: Single,
    unit: np.float32,
) -> Transfer:
    """Return the transfer along three axes as the passes take it, with these shares."""
    from relaxon.solvers.multigrid.passes import Transfer

    first, second, third = tables
    down = (first.base, first.weights, second.base, second.weights, third.pads)
    return Transfer(codes, values, unit, halved2, *down, *first.spread, *second.spread)


def _empty_faces(shape: tuple[int, ...]) -> tuple[Single, Single]:
    return allocate((3, *shape), np.float32), allocate((3, *shape), np.float32)


def reach_of(stencil: Single) -> float:
    """Return the sum of the stencil's 27 points."""
    inner, outer = stencil
    return float(inner @ np.array([1.0, 2.0, 2.0, 4.0]) + outer @ np.array([2.0, 4.0, 4.0, 8.0]))


def along(shape: tuple[int, ...], nominal: list[float]) -> list[float]:
    """Return the couplings along axes longer than one cell, 0 for the others."""
    return [w if n > 1 else 0.0 for n, w in zip(shape, nominal, strict=True)]


def coarse_nominal(nominal: list[float], halved: list[bool], coarse: tuple[int, ...]) -> list[float]:
    """Return the coupling of an open face along each axis of the coarse level, whose shape is `coarse`."""
    size = 2 ** sum(halved)
    return along(coarse, [w * 0.5 * size / 2 if h else w * size for w, h in zip(nominal, halved, strict=True)])


@lru_cache(maxsize=16)
def _multiplier_table(values: LevelConstants, ndim: int, reach: float) -> tuple[NDArray[np.uint8], np.float32]:
    """Return a byte for each surrounding of a finest cell (half faces; unknowns beside it), and the unit."""
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
