"""Widths, distances and volumes of a grid's cells, as factors of its conductances and rows.

Along axis `a`, with widths `w` of mean `s`, the face between cells `i − 1` and `i` couples them by
`κ_f / (d s_a) · Π_b w_b/s_b` over the other axes `b`, with `d` the distance of their centres: area over distance, over
the mean volume. Where all widths are equal that is `κ_f / h²`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from relaxon.solvers.grid.poisson_grid import PoissonGrid

Array = NDArray[np.float64]
Widths = tuple[float | Array, ...]


def mean_width(widths: float | Array) -> float:
    """Return the mean width of an axis."""
    return float(widths.mean()) if isinstance(widths, np.ndarray) else widths


def row_weights(spacing: Widths, shape: tuple[int, ...], volume: Array | None) -> Array | None:
    """Return each cell's volume over the mean one, times the part that is not cut away; None for 1 everywhere."""
    if not any(isinstance(widths, np.ndarray) for widths in spacing):
        return volume
    found = np.ones(shape) if volume is None else volume.copy()
    for axis, widths in enumerate(spacing):
        if isinstance(widths, np.ndarray):
            found *= _along(widths / widths.mean(), axis, len(shape))
    found.flags.writeable = False
    return found


def face_scale(grid: PoissonGrid, axis: int) -> float | Array:
    """Return what κ is multiplied with on the faces across an axis: `1/h²`, or an array.

    The array has `n + 1` entries along `axis`, and as many as there are cells, or 1, along the others. At the ends of
    an axis that is not periodic the distance is the outer cell's width.
    """
    widths = grid.spacing[axis]
    if not grid.stretched:
        return mean_width(widths) ** -2
    along = 1.0 / (distances(widths, grid.shape[axis], grid.periodic[axis]) * mean_width(widths))
    return _along(along, axis, grid.ndim) * side_area(grid, axis)


def side_area(grid: PoissonGrid, axis: int) -> Array:
    """Return the area of a cell's faces across an axis over the mean one, of length 1 along it."""
    area = np.ones((1,) * grid.ndim)
    for other, across in enumerate(grid.spacing):
        if other != axis and isinstance(across, np.ndarray):
            area = area * _along(across / across.mean(), other, grid.ndim)
    return area


def distances(widths: float | Array, n: int, periodic: bool) -> Array:
    """Return the distances of the centres beside each of an axis's faces `(n + 1,)`; at its ends the cell's width."""
    cells = np.broadcast_to(widths, n)
    ends = (cells[-1:], cells[:1]) if periodic else (cells[:1], cells[-1:])
    found: Array = (np.concatenate([ends[0], cells]) + np.concatenate([cells, ends[1]])) / 2
    return found


def half_shares(widths: Array, n: int, periodic: bool) -> tuple[Array, Array]:
    """Return the parts of those distances that lie in the cell below each face and in the one above it, `(n + 1,)`."""
    ends = (widths[-1:], widths[:1]) if periodic else (widths[:1], widths[-1:])
    below, above = np.concatenate([ends[0], widths]), np.concatenate([widths, ends[1]])
    total = below + above
    return below / total, above / total


def film_scale(grid: PoissonGrid, axis: int) -> float | Array:
    """Return what the h of a Robin side is multiplied with, beside `face_scale` for κ."""
    return side_area(grid, axis) / mean_width(grid.spacing[axis])


def in_series(film: Array | float, inside: Array | float) -> Array:
    """Return the conductance of two in series: `film · inside / (film + inside)`, 0 where either is."""
    return np.asarray(share_of(film, inside) * inside)


def share_of(one: Array | float, other: Array | float) -> Array:
    """Return `one / (one + other)`, 0 where both are."""
    part, rest = np.broadcast_arrays(np.asarray(one, np.float64), np.asarray(other, np.float64))
    total = part + rest
    share: Array = np.divide(part, total, out=np.zeros(total.shape), where=total > 0)
    return share


def _along(values: Array, axis: int, ndim: int) -> Array:
    return values.reshape([-1 if other == axis else 1 for other in range(ndim)])
