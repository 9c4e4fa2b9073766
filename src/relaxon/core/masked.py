"""Masked arrays (`numpy.ma`; what netCDF and xarray give) where numbers are wanted: refused by name, or taken.

`numpy.asarray` drops a mask without a word, and what then stands in the array is the file's fill value: 9.97e36, say.
A mask is no number, so it is refused wherever an entry under it would be used. One that hides nothing, or lies wholly
where entries are not used (outside the fluid), is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOLID = 1
"""`CellType.SOLID`, from a module that this one must not import."""
FLUID = 0
REMEDIES = {
    "cells": "say what those cells are: cells.filled(1) makes them SOLID",
    "coefficient": "put a positive value there, with coefficient.filled(1.0), or make those cells SOLID",
    "operator": "a sparse matrix leaves out what is zero: build it from data.filled(0.0)",
    "matrix": "a sparse matrix leaves out what is zero: build it from data.filled(0.0)",
    "b": "put a value there, with filled(0.0), or make those cells SOLID",
    "x0": "put a value there, with filled(0.0)",
}
"""What to do about masked entries, by the argument; of tables, to leave the rows out."""


def plain_array(name: str, value: Any) -> NDArray[Any]:
    """Return `numpy.asarray(value)`; ValueError naming the argument where it holds masked entries."""
    array, mask = _with_mask(value)
    if mask is not None:
        raise _refusal(name, int(np.count_nonzero(mask)), mask.size)
    return array


def refuse_masks(**arguments: Any) -> None:
    """Raise ValueError for the first argument, by its name, that holds masked entries; look at nothing else."""
    for name, value in arguments.items():
        mask = None if value is None else _mask_of(value)
        if mask is not None:
            raise _refusal(name, int(np.count_nonzero(mask)), mask.size)


def fill_unused(name: str, value: Any, used: Callable[[], NDArray[np.bool_]], fill: float = 0.0) -> Any:
    """Return `value` with a mask over unused entries replaced by `fill`, as a plain array.

    `used` gives where entries are used, in the shape of a whole array; it is asked only where there is a mask. What
    holds no masked entry is returned as it is. ValueError naming the argument where a used entry is masked; of an array
    of another shape (a packed one) each entry is used.
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
    """Return `value` with NaN for its masked entries, as a plain array: for one that knows which entries are used. What
    holds no masked entry is returned as it is."""
    mask = None if value is None else _mask_of(value)
    if mask is None:
        return value
    array = _with_mask(value)[0]
    if array.dtype.kind not in "fc":
        array = array.astype(np.float64)
    return np.where(mask, array.dtype.type(np.nan), array)


def masked_refusal(name: str, value_count: int | None = None, size: int | None = None) -> str:
    """Return the sentence that refuses an argument for masked entries where they are used."""
    counted = "" if value_count is None else f", got {value_count} of {size}"
    return (
        f"{name} must have no masked entries where they are used{counted}: what lies under a mask is no number; "
        f"{REMEDIES.get(name.split('[')[0], f'put a value there, with {name}.filled(0.0), or leave those rows out')}"
    )


def fill_coefficient(coefficient: Any, cells: NDArray[np.uint8], periodic: tuple[bool, ...]) -> Any:
    """Return κ, an array of cells or one of faces for each axis, with masks over what does not enter replaced by 1."""
    if not isinstance(coefficient, tuple | list):
        return fill_unused("coefficient", coefficient, lambda: used_coefficients(cells, periodic), 1.0)
    if len(coefficient) != cells.ndim:
        return coefficient
    return [
        fill_unused(f"coefficient[{axis}]", face, partial(used_faces, cells, axis, periodic[axis]), 1.0)
        for axis, face in enumerate(coefficient)
    ]


def used_coefficients(cells: NDArray[np.uint8], periodic: tuple[bool, ...]) -> NDArray[np.bool_]:
    """Return where a cell's κ enters the system: in the fluid, and beside it but for SOLID cells, `cells.shape`."""
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


def used_faces(cells: NDArray[np.uint8], axis: int, wraps: bool) -> NDArray[np.bool_]:
    """Return where κ on the faces across an axis enters: beside the fluid, but for faces that touch SOLID."""
    width = [(0, 0)] * cells.ndim
    width[axis] = (1, 1)
    # A side that is not periodic counts as open: whether it carries a flux its boundary condition says.
    around = np.pad(cells, width, "wrap") if wraps else np.pad(cells, width, constant_values=2)
    below = around.take(range(cells.shape[axis] + 1), axis)
    above = around.take(range(1, cells.shape[axis] + 2), axis)
    found: NDArray[np.bool_] = ((below == FLUID) | (above == FLUID)) & (below != SOLID) & (above != SOLID)
    return found


def _mask_of(value: Any) -> NDArray[np.bool_] | None:
    """The mask of what holds masked entries; None where nothing is masked."""
    if type(value) is np.ndarray or isinstance(value, bool | int | float | complex | str | bytes):
        return None
    try:
        return _with_mask(value)[1]
    except (TypeError, ValueError, RuntimeError):
        return None  # what is wrong with it, the argument's own check says


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
    """An entry of a list, which may be a list of masked arrays itself."""
    array, mask = _with_mask(value)
    return np.ma.array(array, mask=np.False_ if mask is None else mask)


def _holds_masked(values: Any) -> bool:
    """Whether a list has masked arrays in it, at any depth."""
    return any(
        np.ma.is_masked(one) if isinstance(one, np.ma.MaskedArray) else _holds_masked(one)
        for one in values
        if isinstance(one, np.ma.MaskedArray | list | tuple)
    )


def _refusal(name: str, count: int, size: int) -> ValueError:
    return ValueError(masked_refusal(name, count, size))
