"""Matrices of finite elements on simplices of random points, slivers included, and of elastic boxes."""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.families.bodies import cantilever
from relaxon.solvers.sparse.families.stencils import Array, Family, keep_free, scatter

CONTRAST = 4.0
"""Decades between the two coefficients of elements with contrast."""


def simplices(n: int, ndim: int, kappa: Callable[[Array], Array], rng: np.random.Generator) -> Any:
    """Make the matrix of linear elements of `−∇·(κ∇)` on a Delaunay mesh of random points, with Dirichlet values on its
    hull."""
    from scipy.spatial import Delaunay

    points = rng.random((n, ndim))
    points = points[np.lexsort((*points.T[1:], np.floor(points[:, 0] * n ** (1 / ndim))))]
    delaunay = Delaunay(points)
    mesh: NDArray[np.int64] = delaunay.simplices.astype(np.int64)
    corner = points[mesh]
    edges = corner[:, 1:] - corner[:, :1]
    volume = np.abs(np.linalg.det(edges))
    mesh, edges, volume, corner = (array[volume > 1e-14] for array in (mesh, edges, volume, corner))
    gradient = np.linalg.inv(edges).transpose(0, 2, 1)
    gradient = np.concatenate([-gradient.sum(axis=1, keepdims=True), gradient], axis=1)
    factor = volume * kappa(corner.mean(axis=1))
    elements = factor[:, None, None] * (gradient @ gradient.transpose(0, 2, 1))
    return keep_free(scatter(mesh, elements, n), np.setdiff1d(np.arange(n), delaunay.convex_hull))


def _one(centres: Array) -> Array:
    return np.ones(len(centres))


def _bubbles(centres: Array) -> Array:
    """Return a coefficient of 1 or 1e-4, in alternating cubes."""
    cubes = np.floor(centres * 6).astype(np.int64).sum(axis=1)
    return np.where(cubes % 2 == 0, 1.0, 10.0**-CONTRAST)


ELEMENTS: dict[str, Family] = {
    "triangles-2d": lambda n, rng: simplices(n, 2, _one, rng),
    "tetrahedra-3d": lambda n, rng: simplices(n, 3, _one, rng),
    "tetrahedra-contrast-3d": lambda n, rng: simplices(n, 3, _bubbles, rng),
    "elasticity-2d": lambda n, rng: cantilever(n, 2).matrix,
    "elasticity-3d": lambda n, rng: cantilever(n, 3).matrix,
}
