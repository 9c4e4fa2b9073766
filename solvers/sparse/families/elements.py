"""Matrices of finite elements on simplices of random points (slivers among them), and of elastic bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.families.stencils import Array, held, scattered, side

CONTRAST = 4.0
"""Decades between the coefficients of the elements with contrast."""
POISSON_RATIO = 0.3


def simplices(n: int, ndim: int, kappa: Callable[[Array], Array], rng: np.random.Generator) -> Any:
    """Linear elements of `−∇·(κ∇)` on a Delaunay mesh of random points, held on its hull."""
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
    return held(scattered(mesh, elements, n), np.setdiff1d(np.arange(n), delaunay.convex_hull))


def _one(centres: Array) -> Array:
    return np.ones(len(centres))


def _bubbles(centres: Array) -> Array:
    """A coefficient of 1 or 1e-4, in cubes that alternate."""
    cubes = np.floor(centres * 6).astype(np.int64).sum(axis=1)
    return np.where(cubes % 2 == 0, 1.0, 10.0**-CONTRAST)


def triangles_2d(n: int, rng: np.random.Generator) -> Any:
    return simplices(n, 2, _one, rng)


def tetrahedra_3d(n: int, rng: np.random.Generator) -> Any:
    return simplices(n, 3, _one, rng)


def tetrahedra_contrast_3d(n: int, rng: np.random.Generator) -> Any:
    return simplices(n, 3, _bubbles, rng)


def elastic(n: int, ndim: int) -> Any:
    """Linear elasticity by bilinear or trilinear elements on a box clamped at one side, unknowns node by node."""
    s = side(n // ndim, ndim)
    node = np.arange((s + 1) ** ndim).reshape((s + 1,) * ndim)
    steps = np.indices((2,) * ndim).reshape(ndim, -1).T
    corners = np.stack([node[tuple(slice(o, s + o) for o in step)] for step in steps], -1).reshape(-1, 2**ndim)
    unknowns = (ndim * corners[:, :, None] + np.arange(ndim)).reshape(len(corners), -1)
    element = elastic_element(ndim)
    a = scattered(unknowns, np.broadcast_to(element, (len(corners), *element.shape)), ndim * node.size)
    free = node[1:].ravel()
    return held(a, (ndim * free[:, None] + np.arange(ndim)).ravel())


def elastic_element(ndim: int) -> Array:
    """The stiffness of a unit cell, two Gauss points an axis: `∫ λ (∇·u)(∇·v) + 2μ ε(u):ε(v)`, Young's modulus 1."""
    lame = POISSON_RATIO / ((1 + POISSON_RATIO) * (1 - 2 * POISSON_RATIO))
    shear = 1 / (2 * (1 + POISSON_RATIO))
    steps = np.indices((2,) * ndim).reshape(ndim, -1).T
    gauss = 0.5 + np.array([-0.5, 0.5]) / np.sqrt(3)
    k = np.zeros((ndim * len(steps),) * 2)
    for step in steps:
        point = gauss[step]
        shape = np.where(steps == 1, point, 1 - point)  # one-dimensional factors of each corner's function
        slope = np.where(steps == 1, 1.0, -1.0)
        gradient = np.stack(
            [slope[:, a] * np.prod(np.delete(shape, a, axis=1), axis=1) for a in range(ndim)], axis=1
        )  # (corner, axis)
        strain = np.einsum("ca,db->cadb", gradient, gradient)
        inner = np.einsum("ca,da->cd", gradient, gradient)
        both = lame * strain + shear * np.einsum("cadb->cbda", strain)
        both = both + shear * inner[:, None, :, None] * np.eye(ndim)[None, :, None, :]
        k += both.reshape(k.shape) / len(steps)
    return (k + k.T) / 2


def elasticity_2d(n: int, rng: np.random.Generator) -> Any:
    return elastic(n, 2)


def elasticity_3d(n: int, rng: np.random.Generator) -> Any:
    return elastic(n, 3)


ELEMENTS: dict[str, Callable[[int, np.random.Generator], Any]] = {
    "triangles-2d": triangles_2d,
    "tetrahedra-3d": tetrahedra_3d,
    "tetrahedra-contrast-3d": tetrahedra_contrast_3d,
    "elasticity-2d": elasticity_2d,
    "elasticity-3d": elasticity_3d,
}
