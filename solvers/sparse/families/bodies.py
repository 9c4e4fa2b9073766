"""Matrices of finite elements: elastic bodies with the coordinates of their nodes, clamped and floating, of one or two
materials; and diffusion on simplices of random points, slivers included.

Linear elasticity with small strains: `∫ λ (∇·u)(∇·v) + 2μ ε(u):ε(v)`, with Young's modulus 1 unless stated otherwise.
"""

# Imported on first use, for its weight: scipy.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.families.stencils import Array, Family, find_family, keep_free, scatter, side

POISSON_RATIO, NEARLY_INCOMPRESSIBLE = 0.3, 0.45
CONTRAST = 1e4
"""Ratio of Young's moduli where there are two materials."""
SLENDERNESS = 16
"""Ratio of a beam's length and width."""
MOVED = 0.3
"""Largest displacement of a grid point, relative to the distance of points."""
FLAT = 1e-6
"""Simplices of smaller volume, in units of the grid, are left out."""
DECADES = 4.0
"""Decades between the two coefficients of elements with contrast."""
SLIVER = 1e-14
"""Least volume of the simplices of random points."""


@dataclass(frozen=True, slots=True, eq=False)
class ElasticBody:
    """A stiffness matrix, `(n, n)` CSR float64, with unknowns node by node, and the nodes' coordinates, `(n/d, d)`."""

    matrix: Any
    coordinates: Array


def box(
    shape: tuple[int, ...],
    spacing: tuple[float, ...] | None = None,
    poisson_ratio: float = POISSON_RATIO,
    modulus: Array | None = None,
    clamped: bool = True,
) -> ElasticBody:
    """Make a box of `shape` bilinear or trilinear elements, clamped on the first side of the first axis.

    `modulus` is Young's modulus, of the shape of the elements.
    """
    ndim = len(shape)
    spacing = (1.0,) * ndim if spacing is None else spacing
    node = np.arange(int(np.prod([s + 1 for s in shape]))).reshape([s + 1 for s in shape])
    steps = np.indices((2,) * ndim).reshape(ndim, -1).T
    parts = [node[tuple(slice(o, s + o) for o, s in zip(step, shape, strict=True))] for step in steps]
    corners = np.stack(parts, -1).reshape(-1, 2**ndim)
    element = elastic_element(spacing, poisson_ratio)
    elements = np.broadcast_to(element, (len(corners), *element.shape))
    if modulus is not None:
        elements = modulus.reshape(-1, 1, 1) * element
    points = np.stack(
        np.meshgrid(*(h * np.arange(s + 1) for h, s in zip(spacing, shape, strict=True)), indexing="ij"), -1
    )
    free = node[1:].ravel() if clamped else node.ravel()
    return _body(corners, elements, points.reshape(-1, ndim), free)


def _body(corners: NDArray[np.int64], elements: Array, points: Array, free: NDArray[np.int64]) -> ElasticBody:
    """Return the body on the nodes `free`, assembled from elements with `corners (e, k)` among the nodes at
    `points`."""
    ndim = points.shape[1]
    unknowns = (ndim * corners[:, :, None] + np.arange(ndim)).reshape(len(corners), -1)
    matrix = scatter(unknowns, elements, points.size)
    matrix = keep_free(matrix, (ndim * free[:, None] + np.arange(ndim)).ravel())
    matrix.sort_indices()
    return ElasticBody(matrix, points[free])


def elastic_element(spacing: tuple[float, ...], poisson_ratio: float = POISSON_RATIO) -> Array:
    """Return the stiffness of a cell of that size, with two Gauss points an axis, Young's modulus 1: `(d·2^d,
    d·2^d)`."""
    ndim = len(spacing)
    lame = poisson_ratio / ((1 + poisson_ratio) * (1 - 2 * poisson_ratio))
    shear = 1 / (2 * (1 + poisson_ratio))
    steps = np.indices((2,) * ndim).reshape(ndim, -1).T
    gauss = 0.5 + np.array([-0.5, 0.5]) / np.sqrt(3)
    k = np.zeros((ndim * len(steps),) * 2)
    for step in steps:
        point = gauss[step]
        shape = np.where(steps == 1, point, 1 - point)  # one-dimensional factors of each corner's function
        slope = np.where(steps == 1, 1.0, -1.0)
        gradient = np.stack(
            [slope[:, a] * np.prod(np.delete(shape, a, axis=1), axis=1) / spacing[a] for a in range(ndim)], axis=1
        )  # (corner, axis)
        k += _strain_energy(gradient, lame, shear) * float(np.prod(spacing)) / len(steps)
    return (k + k.T) / 2


def _strain_energy(gradient: Array, lame: float, shear: float) -> Array:
    """Return `λ (∇·u)(∇·v) + 2μ ε(u):ε(v)` for the corners' functions, with gradients `(…, corner, axis)`."""
    count, ndim = gradient.shape[-2:]
    strain = np.einsum("...ca,...db->...cadb", gradient, gradient)
    inner = np.einsum("...ca,...da->...cd", gradient, gradient)
    both = lame * strain + shear * np.einsum("...cadb->...cbda", strain)
    both = both + shear * inner[..., :, None, :, None] * np.eye(ndim)[:, None, :]
    return np.asarray(both.reshape(*gradient.shape[:-2], count * ndim, count * ndim))


def cantilever(n: int, ndim: int) -> ElasticBody:
    """Make a square or a cube, clamped on one side."""
    return box((side(n // ndim, ndim),) * ndim)


def beam(n: int, ndim: int) -> ElasticBody:
    """Make a slender body, clamped at one end, which bends a thousand times more easily than it stretches."""
    s = side(n // (ndim * SLENDERNESS), ndim)
    return box((SLENDERNESS * s, *(s,) * (ndim - 1)))


def inclusions(n: int, ndim: int) -> ElasticBody:
    """Make a body of stiff bricks in soft mortar, clamped on one side."""
    s = side(n // ndim, ndim)
    bricks = np.indices((s,) * ndim) * 6 // s
    return box((s,) * ndim, modulus=np.where(bricks.sum(axis=0) % 2 == 0, 1.0, CONTRAST))


BOXES: dict[str, Callable[[int, int], ElasticBody]] = {
    "cantilever": cantilever,
    # Without supports: rigid motions are null vectors.
    "floating": lambda n, ndim: box((side(n // ndim, ndim) - 1,) * ndim, clamped=False),
    "beam": beam,
    "inclusions": inclusions,
    # Of elements ten times as long as high.
    "flat": lambda n, ndim: box((side(n // ndim, ndim),) * ndim, (1.0,) * (ndim - 1) + (0.1,)),
    # A cantilever of rubber.
    "incompressible": lambda n, ndim: box((side(n // ndim, ndim),) * ndim, poisson_ratio=NEARLY_INCOMPRESSIBLE),
}


def elastic_simplices(n: int, ndim: int, rng: np.random.Generator) -> ElasticBody:
    """Make a body of linear elements on a Delaunay mesh of randomly moved grid points, clamped on one side."""
    s = side(n // ndim, ndim)
    grid = np.indices((s + 1,) * ndim).reshape(ndim, -1).T
    moved = np.where((grid > 0) & (grid < s), MOVED * rng.uniform(-1.0, 1.0, grid.shape), 0.0)
    points = np.asarray(grid + moved, np.float64)
    mesh, _, volume, gradient, _ = _linear_elements(points, FLAT)
    lame = POISSON_RATIO / ((1 + POISSON_RATIO) * (1 - 2 * POISSON_RATIO))
    elements = volume[:, None, None] * _strain_energy(gradient, lame, 1 / (2 * (1 + POISSON_RATIO)))
    return _body(mesh, elements, points, np.flatnonzero(grid[:, 0] > 0))


def _linear_elements(points: Array, least: float) -> tuple[NDArray[np.int64], Array, Array, Array, NDArray[np.int64]]:
    """Return the corners of a Delaunay mesh's simplices above a `least` volume, their centres, volumes and the
    gradients `(e, corner, axis)` of their linear functions, and the points on the hull."""
    from scipy.spatial import Delaunay

    delaunay = Delaunay(points)
    mesh: NDArray[np.int64] = delaunay.simplices.astype(np.int64)
    corner = points[mesh]
    edges = corner[:, 1:] - corner[:, :1]
    volume = np.abs(np.linalg.det(edges))
    mesh, edges, volume, corner = (array[volume > least] for array in (mesh, edges, volume, corner))
    gradient = np.linalg.inv(edges).transpose(0, 2, 1)
    gradient = np.concatenate([-gradient.sum(axis=1, keepdims=True), gradient], axis=1)
    return mesh, corner.mean(axis=1), volume, gradient, delaunay.convex_hull


BODIES: dict[str, Callable[[int, np.random.Generator], ElasticBody]] = {
    f"{name}-{ndim}d": (lambda n, rng, make=make, ndim=ndim: make(n, ndim))
    for name, make in BOXES.items()
    for ndim in (2, 3)
} | {
    "triangles-2d": lambda n, rng: elastic_simplices(n, 2, rng),
    "tetrahedra-3d": lambda n, rng: elastic_simplices(n, 3, rng),
}


def make_body(name: str, n: int, seed: int) -> ElasticBody:
    """Make the body of a name, as `gallery.elastic_body` does."""
    family, n = find_family(name, BODIES, n)
    return family(n, np.random.default_rng(seed))


def simplices(n: int, ndim: int, kappa: Callable[[Array], Array], rng: np.random.Generator) -> Any:
    """Make the matrix of linear elements of `−∇·(κ∇)` on a Delaunay mesh of random points, with Dirichlet values on its
    hull."""
    points = rng.random((n, ndim))
    points = points[np.lexsort((*points.T[1:], np.floor(points[:, 0] * n ** (1 / ndim))))]
    mesh, centres, volume, gradient, hull = _linear_elements(points, SLIVER)
    factor = volume * kappa(centres)
    elements = factor[:, None, None] * (gradient @ gradient.transpose(0, 2, 1))
    return keep_free(scatter(mesh, elements, n), np.setdiff1d(np.arange(n), hull))


def _one(centres: Array) -> Array:
    return np.ones(len(centres))


def _bubbles(centres: Array) -> Array:
    """Return a coefficient of 1 or 1e-4, in alternating cubes."""
    cubes = np.floor(centres * 6).astype(np.int64).sum(axis=1)
    return np.where(cubes % 2 == 0, 1.0, 10.0**-DECADES)


ELEMENTS: dict[str, Family] = {
    "triangles-2d": lambda n, rng: simplices(n, 2, _one, rng),
    "tetrahedra-3d": lambda n, rng: simplices(n, 3, _one, rng),
    "tetrahedra-contrast-3d": lambda n, rng: simplices(n, 3, _bubbles, rng),
    "elasticity-2d": lambda n, rng: cantilever(n, 2).matrix,
    "elasticity-3d": lambda n, rng: cantilever(n, 3).matrix,
}
