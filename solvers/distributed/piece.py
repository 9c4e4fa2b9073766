"""A process's piece of a grid of any kind: its arguments checked and joined with those of its neighbours."""

# Imported on first use, for its weight: `solvers.grid.stencil_kernels`.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.core.masked import plain_array
from relaxon.solvers.distributed.halo import Part
from relaxon.solvers.grid.arguments import (
    Widths,
    shut_cells,
    validate_coefficient,
    validate_reaction,
    validate_volume,
)
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.grid.poisson_grid import CellType, CheckedGrid, PoissonGrid, Robin
from relaxon.solvers.grid.sides import Boundary, Side, Sides

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Given:
    """What a process gives beside its cells, checked for its form alone."""

    coefficient: Array | tuple[Array, ...] | None
    reaction: float | Array | None
    volume: Array | None

    @classmethod
    def of(cls, shape: tuple[int, ...], coefficient: Any, reaction: Any, volume: Any) -> Given:
        """Take the arguments of a part of this shape; TypeError or ValueError naming what is wrong."""
        kappa: Array | tuple[Array, ...] | None = None
        if isinstance(coefficient, tuple | list):
            if len(coefficient) != len(shape):
                raise ValueError(
                    f"coefficient must be an array of the part's shape or {len(shape)} arrays of face values, "
                    f"got {len(coefficient)} arrays"
                )
            kappa = tuple(
                _array(f"coefficient[{axis}]", face, tuple(n + (a == axis) for a, n in enumerate(shape)))
                for axis, face in enumerate(coefficient)
            )
        elif coefficient is not None:
            kappa = _array("coefficient", coefficient, shape)
        sigma: float | Array | None = None
        if reaction is not None:
            number = np.ndim(reaction) == 0
            sigma = (
                validation.non_negative_float("reaction", reaction) if number else _array("reaction", reaction, shape)
            )
        return cls(kappa, sigma, None if volume is None else _array("volume", volume, shape))

    @property
    def kinds(self) -> tuple[float, float, float]:
        """What was given, as numbers to compare among processes; the two forms of σ go together."""
        kappa = 0.0 if self.coefficient is None else (2.0 if isinstance(self.coefficient, tuple) else 1.0)
        return kappa, float(self.reaction is not None), float(self.volume is not None)


def _array(name: str, values: Any, shape: tuple[int, ...]) -> Array:
    array = validation.real_array(name, plain_array(name, values), finite=False)
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape} of this process's part, got {array.shape}")
    return np.array(array, np.float64)


class WidthsOfPart(np.ndarray[Any, np.dtype[np.float64]]):
    """The widths of some of an axis's cells, whose mean is that of all: conductances are over the mean volume."""

    whole: float

    def mean(self, *_: Any, **__: Any) -> Any:
        """Return the mean width of the whole axis."""
        return self.whole


def widths_of(part: Part, spacing: Widths, shape: tuple[int, ...]) -> Widths:
    """Return the widths of a part's cells, along axes that are stretched."""
    found: list[Any] = []
    for axis, widths in enumerate(spacing):
        if not isinstance(widths, np.ndarray):
            found.append(widths)
            continue
        low, high = part.box.kept[axis] if axis < len(shape) - 1 else (0, shape[axis])
        own = widths[np.arange(low, high) % shape[axis]].view(WidthsOfPart)
        own.whole = float(widths.mean())
        found.append(own)
    return tuple(found)


def sides_of(part: Part, boundary: Sides) -> Sides:
    """The sides of a part: closed where it is cut; the h of a Robin side is that of its cells, 0 beside the owned."""
    found = []
    for axis, pair in enumerate(boundary):
        low, high = (_of_part(part, side, axis, len(boundary)) for side in pair)
        if axis < len(boundary) - 1:
            (start, stop), (first, last) = part.box.kept[axis], part.box.owned[axis]
            low, high = (Boundary.NEUMANN if start < first else low), (Boundary.NEUMANN if stop > last else high)
        found.append((low, high))
    return tuple(found)


def _of_part(part: Part, side: Side, axis: int, ndim: int) -> Side:
    if not isinstance(side, Robin) or np.ndim(side.h) == 0:
        return side
    place = (*part.box.own[: ndim - 1], slice(None))
    whole = np.zeros([n for other, n in enumerate(part.shape3[3 - ndim :]) if other != axis])
    whole[tuple(cut for other, cut in enumerate(place) if other != axis)] = side.h
    return Robin(whole)


class PieceOperator(PoissonOperator):
    """`A` of the whole grid on the owned cells of a piece, of arrays that are 0 beside them."""

    def __init__(self, grid: PoissonGrid, part: Part) -> None:
        super().__init__(grid)
        self.part = part
        self._wide = np.zeros(part.shape3)

    def apply(self, x: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
        """`out ← A x`, 0 beside the owned cells; every process calls it."""
        return self._apply_couplings(x, out, self.couplings)

    def magnitudes(self, x: NDArray[Any]) -> NDArray[Any]:
        """`|A| |x|`."""
        lower = self.couplings
        return self._apply_couplings(np.abs(x), np.empty_like(x), (-lower[0], -lower[1], -lower[2]))

    def _apply_couplings(self, x: NDArray[Any], out: NDArray[Any], lower: tuple[NDArray[Any], ...]) -> NDArray[Any]:
        from relaxon.solvers.grid import stencil_kernels

        self._wide[...] = x
        self.part.exchange(self._wide)
        stencil_kernels.apply_variable(self._wide, self.diagonal, *lower, self.wrap, out)
        self.part.keep_owned(out)
        return out


def piece_of(part: Part, cells: NDArray[np.uint8], given: Given, spacing: Widths, boundary: Sides) -> Neighbourhood:
    """Bring each process's own cells and what it gives beside its neighbours'; every process calls it."""
    shape = part.shape3[3 - len(boundary) :]

    def around(values: Any) -> Any:
        return part.spread(values).reshape(shape) if isinstance(values, np.ndarray) else values

    kappa: Any = given.coefficient
    if isinstance(kappa, tuple):
        pairs = [(_layers(face, axis, 0, -1), _layers(face, axis, 1, None)) for axis, face in enumerate(kappa)]
        kappa = tuple((around(low), around(high)) for low, high in pairs)
    else:
        kappa = around(kappa)
    return Neighbourhood(
        part, around(cells), kappa, around(given.reaction), around(given.volume), spacing, sides_of(part, boundary)
    )


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What is given for a part and beside it, to be checked."""

    part: Part
    cells: NDArray[np.uint8]
    coefficient: Any
    """κ of cells, or for each axis κ on the faces below and above the cells."""
    reaction: Any
    volume: Any
    spacing: Widths
    boundary: Sides

    def checked(self) -> CheckedGrid:
        """Return the grid of the part; TypeError or ValueError where something is not valid in it."""
        cells, kappa = self.cells, self.coefficient
        if isinstance(kappa, tuple):
            kappa = tuple(_join_faces(axis, low, high) for axis, (low, high) in enumerate(kappa))
        kappa, _ = validate_coefficient(kappa, cells, self.boundary)
        reaction, _ = validate_reaction(self.reaction, cells == CellType.FLUID)
        if isinstance(kappa, tuple) and not all(face.all() for face in kappa):
            shut = shut_cells(cells, self.boundary, kappa, reaction, self.volume)
            cells = np.where(shut, np.uint8(CellType.SOLID), cells)
        volume, _ = validate_volume(self.volume, cells == CellType.FLUID)
        return CheckedGrid(cells, self.spacing, self.boundary, kappa, reaction, volume)


def _join_faces(axis: int, low: Array, high: Array) -> Array:
    """Return the faces along an axis, from those below and above each cell."""
    below, above = _layers(low, axis, 1, None), _layers(high, axis, 0, -1)
    other = (below != above) & np.isfinite(below) & np.isfinite(above)
    if other.any():
        raise ValueError(
            f"coefficient[{axis}] must be the same in both processes beside a face that they share, got "
            f"{above[other][0]} and {below[other][0]}"
        )
    return np.concatenate([low, _layers(high, axis, -1, None)], axis)


def _layers(array: Array, axis: int, start: int, stop: int | None) -> Array:
    return array[(slice(None),) * axis + (slice(start, stop),)]
