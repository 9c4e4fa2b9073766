"""Validation of a grid's arguments: each error names the argument, the value given and what was expected."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import validation
from relaxon.core.cell_types import CellType
from relaxon.core.masked import fill_unused, refuse_masks
from relaxon.solvers.grid.neighbours import gather
from relaxon.solvers.grid.sides import Boundary, Robin, Sides

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Kappa = Array | tuple[Array, ...] | None
Widths = tuple[float | Array, ...]
"""For each axis its cells' width: one number, or `(n,)` float64 where they differ."""
SpacingLike = float | Sequence[float | ArrayLike]
MAX_CELLS = 2**31 - 1
"""Unknowns are numbered with 32 bits, as SciPy's and PyAMG's sparse matrices number them."""
SMALLEST_WIDTH = 1e-100
"""The least width of a cell; the largest is its inverse. So the operator's 1/h², and sums of its squares, stay within
float64's range."""
MOST_STRETCH = 1e8
"""The largest allowed ratio of the widths along an axis: couplings span up to its fourth power."""


def validate_cells(cells: ArrayLike) -> NDArray[np.uint8]:
    """Return a read-only copy as bytes."""
    array = np.asarray(cells)
    if array.dtype.kind not in "iu":
        raise TypeError(f"cells must be integers (CellType values), got dtype {array.dtype}")
    if array.ndim not in (2, 3):
        raise ValueError(f"cells must have 2 or 3 axes, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"cells must not be empty, got shape {array.shape}")
    if array.size > MAX_CELLS:
        raise ValueError(f"cells must number at most {MAX_CELLS}, got {array.size}")
    low, high = int(array.min()), int(array.max())
    if low < CellType.FLUID or high > CellType.AIR:
        unknown = low if low < CellType.FLUID else high
        raise ValueError(f"cells must be FLUID (0), SOLID (1) or AIR (2), got the value {unknown}")
    own = np.array(array, dtype=np.uint8, order="C", copy=True)
    own.flags.writeable = False
    return own


def validate_spacing(spacing: float | Sequence[float], ndim: int) -> tuple[float, ...]:
    """Return one width an axis."""
    refuse_masks(spacing=spacing)
    entries = _entries(spacing, ndim)
    return tuple(_validate_width(_name_entry(spacing, axis), value) for axis, value in enumerate(entries))


def validate_widths(spacing: SpacingLike, shape: tuple[int, ...]) -> Widths:
    """Return one width an axis, or its cells' widths where they are given and differ."""
    refuse_masks(spacing=spacing)
    entries = _entries(spacing, len(shape))
    return tuple(
        _validate_width(_name_entry(spacing, axis), value) if np.ndim(value) == 0 else _validate_axis(axis, value, n)
        for axis, (value, n) in enumerate(zip(entries, shape, strict=True))
    )


def _entries(spacing: Any, ndim: int) -> list[Any]:
    if not isinstance(spacing, list | tuple) and np.ndim(spacing) == 0:
        return [spacing] * ndim
    values = list(spacing)
    if len(values) != ndim:
        raise ValueError(
            f"spacing must be one number or {ndim} entries (one an axis, a number or its cells' widths), "
            f"got {len(values)}"
        )
    return values


def _name_entry(spacing: Any, axis: int) -> str:
    return f"spacing[{axis}]" if isinstance(spacing, list | tuple) or np.ndim(spacing) else "spacing"


def _validate_width(name: str, value: object) -> float:
    width = validation.positive_float(name, value)
    if not SMALLEST_WIDTH <= width <= 1.0 / SMALLEST_WIDTH:
        raise ValueError(f"{name} must be from {SMALLEST_WIDTH:g} to {1.0 / SMALLEST_WIDTH:g}, got {width:g}")
    return width


def _validate_axis(axis: int, value: ArrayLike, n: int) -> float | Array:
    name = f"spacing[{axis}]"
    widths = np.array(validation.real_array(name, value), np.float64)
    if widths.shape != (n,):
        raise ValueError(f"{name} must be a number or {n} widths, one a cell, got shape {widths.shape}")
    least, most = float(widths.min()), float(widths.max())
    if not (least >= SMALLEST_WIDTH and most <= 1.0 / SMALLEST_WIDTH):
        wrong = least if least < SMALLEST_WIDTH else most
        raise ValueError(f"{name} must be from {SMALLEST_WIDTH:g} to {1.0 / SMALLEST_WIDTH:g}, got {wrong:g}")
    if most > MOST_STRETCH * least:
        raise ValueError(
            f"{name} must have widths that differ by a factor of at most {MOST_STRETCH:g}, got {least:g} to {most:g}"
        )
    if least == most:
        return least
    widths.flags.writeable = False
    return widths


def validate_coefficient(
    coefficient: ArrayLike | Sequence[ArrayLike] | None, cells: NDArray[np.uint8], boundary: Sides
) -> tuple[Kappa, tuple[Mask, ...] | None]:
    """Return a copy of κ, and where 1 stands in each of its arrays for ignored values; None if nowhere."""
    shape = cells.shape
    if coefficient is None:
        return None, None
    if not isinstance(coefficient, tuple | list):
        read = partial(cells_read, cells, boundary)
        kappa, gone = _validate_kappa("coefficient", np.asarray(coefficient), shape, read, closing=False)
        return kappa, None if gone is None else (gone,)
    if len(coefficient) != len(shape):
        raise ValueError(
            f"coefficient must be an array of the grid's shape or {len(shape)} arrays of face values, "
            f"got {len(coefficient)} arrays"
        )
    faces, ignored = [], []
    for axis, values in enumerate(coefficient):
        periodic = boundary[axis][0] is Boundary.PERIODIC
        expected = tuple(n + (a == axis) for a, n in enumerate(shape))
        read = partial(faces_read, cells, axis, periodic)
        face, gone = _validate_kappa(f"coefficient[{axis}]", values, expected, read, closing=True)
        if periodic and not np.array_equal(face.take(0, axis), face.take(-1, axis)):
            raise ValueError(f"coefficient[{axis}] must be equal on the first and last faces of a periodic axis")
        faces.append(face)
        ignored.append(np.zeros(expected, bool) if gone is None else gone)
    return tuple(faces), tuple(ignored) if any(gone.any() for gone in ignored) else None


def _validate_kappa(
    name: str, values: ArrayLike, shape: tuple[int, ...], read: Callable[[], Mask], closing: bool
) -> tuple[Array, Mask | None]:
    """Return a copy of κ, and where 1 stands in it for a value that is no coefficient.

    Such a value is allowed where nothing reads it, as `read` says. With `closing`, 0 is a coefficient."""
    array = validation.real_array(name, values, finite=False)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    own = np.array(array, np.float64, order="C", copy=True)
    low, high, unread = float(own.min()), float(own.max()), None
    if not ((low > 0 or (closing and low == 0)) and math.isfinite(high)):  # so too for NaN, which both show
        unread = ~read() & ~(np.isfinite(own) & (own >= 0 if closing else own > 0))
        own[unread] = 1.0
        validation.finite_entries(name, own)
        least = float(own.min())
        if least < 0 if closing else least <= 0:
            raise ValueError(f"{name} must be {'at least' if closing else 'greater than'} 0 everywhere, got {least}")
    own.flags.writeable = False
    return own, unread


def cells_read(cells: NDArray[np.uint8], boundary: Sides) -> Mask:
    """Return the cells whose κ enters the matrix: the fluid, and the AIR beside it."""
    lead = 3 - cells.ndim
    fluid = np.ascontiguousarray(cells == CellType.FLUID).reshape((1,) * lead + cells.shape)
    beside = fluid.copy()
    for axis, (low, _) in enumerate(boundary):
        gather(np.logical_or, fluid, lead + axis, low is Boundary.PERIODIC, beside)
    read: Mask = beside.reshape(cells.shape) & (cells != CellType.SOLID)
    return read


def faces_read(cells: NDArray[np.uint8], axis: int, periodic: bool) -> Mask:
    """Return the faces across `axis` whose κ enters the matrix: with fluid on one side and no wall on the other."""
    edge = (
        [cells.take([-1], axis), cells.take([0], axis)] if periodic else [cells.take([0], axis), cells.take([-1], axis)]
    )
    below = np.concatenate([edge[0], cells], axis)
    above = np.concatenate([cells, edge[1]], axis)
    some = (below == CellType.FLUID) | (above == CellType.FLUID)
    read: Mask = some & (below != CellType.SOLID) & (above != CellType.SOLID)
    return read


def validate_reaction(reaction: Any, fluid: Mask) -> tuple[float | Array | None, float | Array | None]:
    """Return σ with 0 outside the fluid, or None where it is 0 everywhere; and σ as it was given.

    The latter is checked again where other cells become fluid."""
    if reaction is None:
        return None, None
    if np.ndim(reaction) == 0:
        number = validation.non_negative_float("reaction", reaction)
        return number or None, number or None
    given = _cell_values("reaction", reaction, fluid)
    own = np.where(fluid, given, 0.0)
    validation.finite_entries("reaction", own)
    if own.min() < 0:
        raise ValueError(f"reaction must be at least 0 in the fluid, got {own.min()}")
    own.flags.writeable = False
    return own if own.any() else None, given


def validate_volume(volume: Any, fluid: Mask) -> tuple[Array | None, Array | None]:
    """Return the fractions with 1 outside the fluid, None where they are 1 everywhere; and as they were given."""
    if volume is None:
        return None, None
    given = _cell_values("volume", volume, fluid)
    own = np.where(fluid, given, 1.0)
    validation.finite_entries("volume", own)
    if not (own.min() > 0 and own.max() <= 1):
        wrong = own.min() if own.min() <= 0 else own.max()
        raise ValueError(f"volume must be greater than 0 and at most 1 in the fluid, got {wrong}")
    own.flags.writeable = False
    return None if own.min() == 1 else own, given


def _cell_values(name: str, values: Any, fluid: Mask) -> Array:
    """Return a read-only copy of an array of the cells."""
    array = validation.real_array(name, fill_unused(name, values, lambda: fluid, np.nan), finite=False)
    if array.shape != fluid.shape:
        either = "a number or " if name == "reaction" else ""
        raise ValueError(f"{name} must be {either}an array of the grid's shape {fluid.shape}, got {array.shape}")
    own = np.array(array, np.float64, order="C", copy=True)
    own.flags.writeable = False
    return own


def shut_cells(
    cells: NDArray[np.uint8], boundary: Sides, faces: Sequence[Array], reaction: float | Array | None, volume: Any
) -> Mask:
    """Return the FLUID cells whose faces are all closed, one by a coefficient of 0, and whose σ or volume is 0.

    `volume` is as the caller gave it, not yet checked.
    """
    fluid, passing = cells == CellType.FLUID, cells != CellType.SOLID
    is_open, closed = np.zeros(cells.shape, bool), np.zeros(cells.shape, bool)
    for axis, ((low, high), given) in enumerate(zip(boundary, faces, strict=True)):
        n = cells.shape[axis]
        face, other = np.moveaxis(given, axis, 0), np.moveaxis(passing, axis, 0)
        opened, shut = np.moveaxis(is_open, axis, 0), np.moveaxis(closed, axis, 0)
        inner = face[1:n] > 0
        for here, beside in ((slice(1, None), other[:-1]), (slice(0, -1), other[1:])):
            opened[here] |= inner & beside
            shut[here] |= ~inner & beside
        for end, side, value, opposite in ((0, low, face[0], other[-1]), (n - 1, high, face[n], other[0])):
            if side is Boundary.PERIODIC:
                lets = opposite & (n > 1)
            else:
                lets = np.asarray(side.h) > 0 if isinstance(side, Robin) else np.True_ & (side is not Boundary.NEUMANN)
            opened[end] |= (value > 0) & lets
            shut[end] |= (value == 0) & lets
    found: Mask = fluid & closed & ~is_open
    if reaction is not None:
        empty = np.shape(volume) == cells.shape and np.asarray(volume) == 0
        found &= (np.asarray(reaction) == 0) | empty
    return found
