"""The rows of a matrix that sum to zero, up to the rounding of the precision in which its entries were computed.

A matrix computed in float32 has row sums of some 1e-7 of its entries where they should be 0, whatever dtype it is
stored in.
"""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.nullspace import NullSpace
from relaxon.solvers.sparse.system.inspection import ROW_SUM_ROUNDINGS, find_components, reaches_all
from relaxon.solvers.sparse.system.inspection_kernels import NEARLY, SUM, hold_open

Array = NDArray[np.float64]
SINGLE_BITS = 24
"""Bits of the significand of a float32 number."""
FULL_PART = 0.1
"""Fraction of entries with a nonzero bit among the last two of the significand from which a matrix counts as rounded to
float32: three in four numbers rounded to float32 have one, short decimals and integers have none."""


def find_constant_null_vectors(
    matrix: Any, single: bool, state: NDArray[np.uint8] | None = None
) -> tuple[NullSpace, NDArray[np.bool_], bool]:
    """Return the components whose row sums all vanish, the rows of which that holds only to the rounding of float32,
    and whether it would hold for further components had their entries been float32.

    `single` tells that the caller's entries were float32; for a float64 matrix that is found out where it matters.
    `state` is what `inspect` says of the rows, where known.
    """
    n = matrix.shape[0]
    known = state is not None  # by the compiled inspection: large, with int32 indices and a symmetric pattern
    open_row, nearly, suspected, looked = np.empty(n, np.bool_), np.zeros(n, np.bool_), False, False
    if state is None:
        open_row, nearly = _open_rows(matrix)
    else:
        opened, rounded = hold_open(state, open_row)
        if rounded:
            nearly = (state & SUM) == NEARLY
        elif opened == n or (opened and _reach_all(matrix, open_row, known)):
            return NullSpace(None, np.zeros(1, np.int64)), nearly, False
        looked = not rounded
    if nearly.any() and not (single or is_rounded_to_single(matrix.data)):
        suspected = _holds_component(matrix, nearly, open_row & ~nearly, known)
        nearly[:] = False
    open_row &= ~nearly
    none = NullSpace(None, np.zeros(1, np.int64)), np.zeros(n, bool), suspected
    if open_row.all() or (not looked and open_row.any() and _reach_all(matrix, open_row, known)):
        return none
    count, component = _components(matrix, known)
    held = np.zeros(count, bool)
    held[component[open_row]] = True
    if held.all():
        return none
    labels = np.where(held, 0, np.cumsum(~held)).astype(np.int32)[component]
    sizes = np.bincount(labels, minlength=int(np.count_nonzero(~held)) + 1)
    return NullSpace(labels.reshape(1, 1, n), sizes), nearly & (labels > 0), suspected


def _open_rows(matrix: Any) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the rows whose sum is not zero to the rounding of float64, and those among them where it is to float32's.

    Fewer roundings are allowed in float32: a shift of the diagonal that it can hold must not be taken for rounding.
    """
    sums, magnitude = np.abs(np.asarray(matrix.sum(axis=1)).ravel()), np.asarray(abs(matrix).sum(axis=1)).ravel()
    entries = np.diff(matrix.indptr)
    open_row = sums > ROW_SUM_ROUNDINGS * np.finfo(np.float64).eps * entries * magnitude
    return open_row, open_row & (sums <= np.finfo(np.float32).eps * np.sqrt(entries) * magnitude)


def _holds_component(matrix: Any, rows: NDArray[np.bool_], others: NDArray[np.bool_], known: bool) -> bool:
    """Return whether some component has one of `rows` and none of `others`."""
    if others.any() and _reach_all(matrix, others, known):
        return False
    count, component = _components(matrix, known)
    held = np.zeros(count, bool)
    held[component[others]] = True
    return bool((rows & ~held[component]).any())


def _reach_all(matrix: Any, held: NDArray[np.bool_], known: bool) -> bool:
    """Return whether every row is found to be connected to one of those that are held, of which there are some.

    False means only that it was not found. `known` as for `_components`.
    """
    if known:
        return reaches_all(matrix, held.copy())
    if not matrix.data.all():
        return False
    from scipy.sparse.csgraph import breadth_first_order

    reached = breadth_first_order(matrix, int(held.argmax()), return_predecessors=False)
    return bool(len(reached) == matrix.shape[0])


def _components(matrix: Any, known: bool) -> tuple[int, NDArray[np.int32]]:
    """Return the number of connected components and that of each row; stored zeros connect nothing.

    `known` tells that the pattern is symmetric, with int32 indices.
    """
    if not matrix.data.all():
        matrix = matrix.copy()
        matrix.eliminate_zeros()
    if known:
        return find_components(matrix)
    from scipy.sparse.csgraph import connected_components

    count, component = connected_components(matrix, directed=False)
    return int(count), component


def is_rounded_to_single(data: Array) -> bool:
    """Return whether float64 numbers were rounded to float32: all are float32 numbers, many with full significands."""
    with np.errstate(over="ignore"):
        single = data.astype(np.float32)
    if not np.array_equal(single, data):
        return False
    significand = np.ldexp(np.frexp(np.abs(data))[0], SINGLE_BITS).astype(np.int64)
    return bool(np.count_nonzero(significand % 4) > FULL_PART * len(data))


def close_rows(matrix: Any, rows: NDArray[np.bool_]) -> None:
    """Adjust the diagonal of `rows`, in place and within its rounding, so that they sum to zero in float64."""
    index = np.flatnonzero(rows)
    if len(index):
        places = np.flatnonzero(np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)) == matrix.indices)
        diagonal = dict(zip(matrix.indices[places].tolist(), places.tolist(), strict=True))
        sums = np.asarray(matrix.sum(axis=1)).ravel()
        matrix.data[[diagonal[row] for row in index.tolist()]] -= sums[index]
