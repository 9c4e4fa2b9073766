"""The exact fractions of a grid's faces and cells outside a disc or a cylinder, as cut-cell methods need them.

Source: for the method, Y. T. Ng, C. Min, F. Gibou, "An Efficient Fluid-Solid Coupling Algorithm for Single-Phase
Flows", J. Comput. Phys. 228 (2009).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
POINTS = 8
"""The number of points of Gauss's quadrature over a cell's width; the chords at the points are exact."""
LEAST = 1e-6
"""Fractions of faces below this count as closed: such a face carries nothing, and makes a cell's row tiny."""


def outside_disc(
    shape: tuple[int, int], h: float, centre: Sequence[float], radius: float
) -> tuple[tuple[Array, Array], Array]:
    """Return the open fractions of faces, one array an axis, and of the cells, of a grid of square cells around a disc.

    `(nx + 1, ny)` and `(nx, ny + 1)` float64 from 0 to 1, and `shape` float64; lengths in units of `h`, the first
    cell's corner at 0.

    Examples
    --------
    >>> import numpy as np
    >>> from relaxon.solvers.cut_cells import outside_disc
    >>> faces, volume = outside_disc((40, 40), 1 / 40, (0.5, 0.5), 0.3)
    >>> bool(abs(volume.mean() - (1 - np.pi * 0.3**2)) < 1e-5)
    True
    """
    nodes: list[Array] = [np.arange(n + 1.0) * h - float(c) for n, c in zip(shape, centre, strict=True)]
    below, above = (_open_parts(nodes[1], nodes[0], radius), _open_parts(nodes[0], nodes[1], radius).T)
    points, weights = np.polynomial.legendre.leggauss(POINTS)
    # Split where the chord begins and ends, the integrand is smooth but for its root at the disc's ends.
    volume = np.zeros(shape)
    for point, weight in zip(points, weights, strict=True):
        volume += 0.5 * weight * _open_parts(nodes[1], nodes[0][:-1] + 0.5 * h * (1 + point), radius)
    faces = tuple(np.where(part < LEAST, 0.0, part) for part in (below, above))
    return (faces[0], faces[1]), volume


def _open_parts(nodes: Array, at: Array, radius: float) -> Array:
    """Return the part of each interval between `nodes` outside the disc, on lines at these distances: `(at, n)`."""
    half = np.sqrt(np.maximum(radius**2 - at**2, 0.0))[:, None]
    low, high = nodes[None, :-1], nodes[None, 1:]
    covered = np.maximum(np.minimum(high, half) - np.maximum(low, -half), 0.0)
    part: Array = 1.0 - covered / (high - low)
    return np.clip(part, 0.0, 1.0)
