"""Masked arrays (`numpy.ma`, as netCDF and xarray return them) where numbers are expected: refused or accepted.

`numpy.asarray` drops a mask silently, and the array then holds the file's fill value: 9.97e36, say. A masked entry is
not a number, so an argument is refused if a masked entry of it would be used. A mask that hides nothing, or only
entries that are not used (outside the fluid), is accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOLID = 1
"""The values of `CellType.SOLID` and `FLUID`; importing that module here would be circular."""
FLUID = 0
REMEDIES = {
    "cells": "say what those cells are: cells.filled(1) makes them SOLID",
    "coefficient": "put a positive value there, with coefficient.filled(1.0), or make those cells SOLID",
    "operator": "a sparse matrix leaves out what is zero: build it from data.filled(0.0)",
    "matrix": "a sparse matrix leaves out what is zero: build it from data.filled(0.0)",
    "b": "put a value there, with filled(0.0), or make those cells SOLID",
    "x0": "put a value there, with filled(0.0)",
}
"""What to do about masked entries, by argument; any other is a table's column, whose rows can be left out."""


def plain_array(name: str, value: Any) -> NDArray[Any]:
    """Return `numpy.asarray(value)`; ValueError naming the argument if it holds masked entries."""
    array, mask = _with_mask(value)
    if mask is not None:
        raise _refusal(name, int(np.count_nonzero(mask)), mask.size)
    return array


def refuse_masks(**arguments: Any) -> None:
    """Raise ValueError for the first argument that holds masked entries; nothing else is checked."""
    for name, value in arguments.items():
        mask = None if value is None else _mask_of(value)
        if mask is not None:
            raise _refusal(name, int(np.count_nonzero(mask)), mask.size)


def fill_unused(name: str, value: Any, used: Callable[[], NDArray[np.bool_]], fill: float = 0.0) -> Any:
    """Return `value` as a plain array in which masked entries that are not used are replaced by `fill`.

    `used` returns where entries are used, in the shape of a whole array; it is called only if there is a mask. In an
    array of any other shape (a packed one) every entry is used. A value without masked entries is returned as it is.

    Raises
    ------
    ValueError : naming the argument, if an entry that is used is masked.
    """
    mask = None if value is None else _mask_of(value)
    if mask is None:
        return value
    array, where = _with_mask(value)[0], used()
    bad = mask if mask.shape != where.shape else mask & where
    if bad.any():
        raise _refusal(name, int(np.count_nonzero(bad)), mask.size)
    return np.where(mask, fill, array)


def is_masked(value: Any) -> bool:
    """Return whether an array, or a list of arrays, holds masked entries."""
    return value is not None and _mask_of(value) is not None


def masks_as_nan(value: Any) -> Any:
    """Return `value` as a plain array with NaN for its masked entries, for a receiver that knows which are used.

    A value without masked entries is returned as it is.
    """
    mask = None if value is None else _mask_of(value)
    if mask is None:
        return value
    array = _with_mask(value)[0]
    if array.dtype.kind not in "fc":
        array = array.astype(np.float64)
    return np.where(mask, array.dtype.type(np.nan), array)


def describe_masked(name: str, value_count: int | None = None, size: int | None = None) -> str:
    """Return the message that refuses an argument in which entries that are used are masked."""
    counted = "" if value_count is None else f", got {value_count} of {size}"
    return (
        f"{name} must have no masked entries where they are used{counted}: what lies under a mask is no number; "
        f"{REMEDIES.get(name.split('[')[0], f'put a value there, with {name}.filled(0.0), or leave those rows out')}"
    )


def fill_coefficient(coefficient: Any, cells: NDArray[np.uint8], periodic: tuple[bool, ...]) -> Any:
    """Return κ, an array of cells or one of faces per axis, in which masked values that are not used are 1."""
    if not isinstance(coefficient, tuple | list):
        return fill_unused("coefficient", coefficient, lambda: find_used_coefficients(cells, periodic), 1.0)
    if len(coefficient) != cells.ndim:
        return coefficient
    return [
        fill_unused(f"coefficient[{axis}]", face, partial(find_used_faces, cells, axis, periodic[axis]), 1.0)
        for axis, face in enumerate(coefficient)
    ]


def find_used_coefficients(cells: NDArray[np.uint8], periodic: tuple[bool, ...]) -> NDArray[np.bool_]:
    """Return where a cell's κ enters the system: in the fluid, and in AIR cells beside it; of shape `cells.shape`."""
    fluid = cells == FLUID
    used: NDArray[np.bool_] = fluid.copy()
    for axis, wraps in enumerate(periodic):
        for step in (1, -1):
            beside = np.roll(fluid, step, axis)
            if not wraps:
                edge = [slice(None)] * cells.ndim
                edge[axis] = slice(0, 1) if step == 1 else slice(-1, None)
                beside[tuple(edge)] = False
            used |= beside & (cells != SOLID)
    return used


def find_used_faces(cells: NDArray[np.uint8], axis: int, wraps: bool) -> NDArray[np.bool_]:
    """Return where κ on the faces across an axis is used: beside the fluid, except on faces that touch SOLID."""
    width = [(0, 0)] * cells.ndim
    width[axis] = (1, 1)
    # A side that is not periodic counts as open; its boundary condition decides whether there is a flux.
    around = np.pad(cells, width, "wrap") if wraps else np.pad(cells, width, constant_values=2)
    below = around.take(range(cells.shape[axis] + 1), axis)
    above = around.take(range(1, cells.shape[axis] + 2), axis)
    found: NDArray[np.bool_] = ((below == FLUID) | (above == FLUID)) & (below != SOLID) & (above != SOLID)
    return found


def _mask_of(value: Any) -> NDArray[np.bool_] | None:
    """Return the mask of a value; None if nothing is masked."""
    if type(value) is np.ndarray or isinstance(value, bool | int | float | complex | str | bytes):
        return None
    try:
        return _with_mask(value)[1]
    except (TypeError, ValueError, RuntimeError):
        return None  # the argument's own check says what is wrong with it


def _with_mask(value: Any) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    if type(value) is np.ndarray:
        return value, None
    if isinstance(value, list | tuple) and _holds_masked(value):
        rows = np.ma.stack([_with_own_mask(one) for one in value])
        return np.asarray(rows), np.ma.getmaskarray(rows)
    # `asanyarray` keeps the mask of an object that gives a masked array of itself, as netCDF4's variables do.
    found = np.asanyarray(value) if hasattr(value, "__array__") else np.asarray(value)
    if isinstance(found, np.ma.MaskedArray) and np.ma.is_masked(found):
        return np.asarray(found), np.ma.getmaskarray(found)
    return np.asarray(found), None


def _with_own_mask(value: Any) -> Any:
    """Return an entry of a list as a masked array; the entry may be a list of masked arrays itself."""
    array, mask = _with_mask(value)
    return np.ma.array(array, mask=np.False_ if mask is None else mask)


def _holds_masked(values: Any) -> bool:
    """Return whether a list holds masked arrays, at any depth."""
    return any(
        np.ma.is_masked(one) if isinstance(one, np.ma.MaskedArray) else _holds_masked(one)
        for one in values
        if isinstance(one, np.ma.MaskedArray | list | tuple)
    )


def _refusal(name: str, count: int, size: int) -> ValueError:
    return ValueError(describe_masked(name, count, size))
