"""Convection and diffusion by upwind finite volumes: nonsymmetric matrices with a divergence-free wind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.families.stencils import Family, assemble_grid, cut_axis, side

Array = NDArray[np.float64]
SKEW = (1.0, -0.6, 0.35)
"""Direction of the constant wind: along no axis, and against the numbering of one of them."""
PECLET = 10.0
"""Cell Péclet number of the gallery's families: the wind's largest component times the width, over the diffusion."""


def skew_winds(shape: tuple[int, ...]) -> list[Array]:
    """Return a constant wind on the faces along each axis, boundary faces included."""
    return [np.full(_faces(shape, axis), SKEW[axis]) for axis in range(len(shape))]


def recirculating_winds(shape: tuple[int, ...]) -> list[Array]:
    """Return a wind on closed streamlines in the planes of the first two axes, faster in the middle of a third.

    Winds on faces are differences of a stream function at the corners, so that flows into and out of a cell balance.
    """
    x, y = (np.linspace(0.0, 1.0, n + 1) for n in shape[:2])
    stream = np.sin(np.pi * x)[:, None] * np.sin(np.pi * y)[None, :]
    first, second = np.diff(stream, axis=1), -np.diff(stream, axis=0)
    winds = [first, second]
    if len(shape) == 3:
        height = np.sin(np.pi * (np.arange(shape[2]) + 0.5) / shape[2])
        winds = [wind[:, :, None] * height for wind in winds]
        winds.append(np.zeros(_faces(shape, 2)))
    largest = max(float(np.abs(wind).max()) for wind in winds)
    return [wind / largest for wind in winds]


def upwind(shape: tuple[int, ...], peclet: float, winds: list[Array]) -> Any:
    """Return the matrix of `−Δu + peclet · div(w u)` on cells of width 1, Dirichlet values on all sides."""
    diagonal, faces = np.zeros(shape), []
    for axis, wind in enumerate(winds):
        low, high, inner = (cut_axis(len(shape), axis, slice(*ends)) for ends in ((None, -1), (1, None), (1, -1)))
        forth, back = np.maximum(peclet * wind, 0.0), np.maximum(-peclet * wind, 0.0)
        diagonal[low] += 1.0 + forth[inner]
        diagonal[high] += 1.0 + back[inner]
        faces.append((-1.0 - back[inner], -1.0 - forth[inner]))
        for edge, outwards in ((0, back), (-1, forth)):
            place = cut_axis(len(shape), axis, edge)
            diagonal[place] += 2.0 + outwards[place]
    return assemble_grid(diagonal, faces)


def _faces(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return tuple(n + (a == axis) for a, n in enumerate(shape))


def in_wind(ndim: int, winds: Callable[[tuple[int, ...]], list[Array]]) -> Family:
    """Return the family of `upwind` on grids of `ndim` axes. In a recirculating wind no cell is downstream of all."""

    def make(n: int, _: np.random.Generator) -> Any:
        shape = (side(n, ndim),) * ndim
        return upwind(shape, PECLET, winds(shape))

    return make


CONVECTION: dict[str, Family] = {
    "convection-3d": in_wind(3, skew_winds),
    "recirculating-2d": in_wind(2, recirculating_winds),
}
