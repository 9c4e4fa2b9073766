"""Random small systems for the training: families with random parameters."""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from relaxon.solvers.sparse.families.bodies import cantilever, simplices
from relaxon.solvers.sparse.families.graphs import laplacian_of
from relaxon.solvers.sparse.families.stencils import finite_volumes, quadrilaterals, side

Array = NDArray[np.float64]
SHUFFLED, SHIFTED = 0.15, 0.15
"""Fractions of the systems whose rows are permuted at random, and of those that are a time step."""


def coefficients(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return κ of cells: 1, independent cells, alternating blocks, layers, or smooth; over up to six decades."""
    kind = rng.integers(6)
    decades = rng.uniform(0, 6)
    if kind <= 1:
        return np.ones(shape)
    if kind == 2:
        return np.asarray(np.exp(rng.uniform(0.3, 2.5) * rng.standard_normal(shape)))
    places = np.indices(shape)
    if kind == 3:
        thick = int(rng.integers(2, 8))
        layers = 10.0 ** (decades * rng.uniform(-0.5, 0.5, shape[0] // thick + 1))
        return np.asarray(layers[places[0] // thick])
    if kind == 4:
        blocks = places // int(rng.integers(3, 12))
        return np.where(blocks.sum(axis=0) % 2 == 0, 1.0, 10.0**decades)
    waves = np.zeros(shape)
    for _ in range(4):
        turn = rng.standard_normal(len(shape)) * 2 * np.pi / np.array(shape) * 2
        waves += np.cos(np.tensordot(turn, places, 1) + rng.uniform(0, 2 * np.pi))
    return np.asarray(10.0 ** (decades / 4 * waves))


def volumes(n: int, rng: np.random.Generator, ndim: int) -> Any:
    """Make a matrix of finite volumes, two thirds of the time on cells with equal sides."""
    shape = (side(n, ndim),) * ndim
    weights = np.ones(ndim) if rng.random() < 0.67 else 10.0 ** rng.uniform(0, 3.5, ndim)
    held = ("all", "first", "none")[rng.integers(3)]
    return finite_volumes(coefficients(shape, rng), tuple(float(w) for w in weights), held)


def turned_2d(n: int, rng: np.random.Generator) -> Any:
    """Make a matrix of bilinear elements with a diffusion up to 1 : 1e-4 along axes rotated by any angle."""
    angle, ratio = rng.uniform(0, np.pi), 10.0 ** -rng.uniform(0, 4)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return quadrilaterals(n, turn @ np.diag([1.0, ratio]) @ turn.T, (1.0, 10.0 ** rng.uniform(0, 0.7)))


def jumps_2d(n: int, rng: np.random.Generator) -> Any:
    """Make a matrix of finite volumes in which random cells conduct up to 1e8 times as well."""
    shape = (side(n, 2),) * 2
    kappa = np.where(rng.random(shape) < rng.uniform(0.05, 0.6), 10.0 ** rng.uniform(1, 8), 1.0)
    return finite_volumes(kappa, (1.0, 1.0))


def stretched_2d(n: int, rng: np.random.Generator) -> Any:
    """Make a matrix of bilinear elements up to thirty times as long as wide, with positive off-diagonals."""
    return quadrilaterals(n, np.eye(2), (1.0, 10.0 ** rng.uniform(0, 1.5)))


def boxes(n: int, rng: np.random.Generator) -> Any:
    """Make a 9- or 27-point stencil whose farther neighbours are coupled less."""
    ndim = int(rng.integers(2, 4))
    s, less = side(n, ndim), 10.0 ** -rng.uniform(0, 1)
    line = sparse.diags_array([less, 1.0, less], offsets=[-1, 0, 1], shape=(s, s))
    box = line
    for _ in range(ndim - 1):
        box = sparse.kron(box, line)
    return sparse.csr_array((1.0 + 2.0 * less) ** ndim * sparse.eye_array(s**ndim) - box)


def _of_elements(rng: np.random.Generator) -> Callable[[Array], Array]:
    """Return a coefficient of elements: 1, or stripes along a random axis over up to four decades."""
    decades, count, axis = rng.uniform(0, 4), rng.integers(2, 9), rng.integers(2)
    if rng.random() < 0.5:
        return lambda centres: np.ones(len(centres))
    return lambda centres: np.where(np.floor(count * centres[:, axis]) % 2 == 0, 1.0, 10.0**-decades)


def elastic_2d(n: int, rng: np.random.Generator) -> Any:
    """Make the matrix of an elastic square, half of the time with another unit in each direction."""
    a = cantilever(n, 2).matrix
    if rng.random() < 0.5:
        return a
    units = np.tile(10.0 ** rng.uniform(-1, 1, 2), a.shape[0] // 2)
    return sparse.csr_array(sparse.diags_array(units) @ a @ sparse.diags_array(units))


def nearest_2d(n: int, rng: np.random.Generator) -> Any:
    """Make the Laplacian of some nearest neighbours of random points in a square, weighted by distance."""
    from scipy.spatial import cKDTree

    points = rng.random((n, 2))
    count = int(rng.integers(4, 12))
    distance, index = cKDTree(points).query(points, k=count + 1)
    length = distance[:, 1:].ravel() * n**0.5
    weights = np.exp(-rng.uniform(0, 3) * length**2)
    return laplacian_of(np.repeat(np.arange(n), count), index[:, 1:].ravel(), weights, n, 10.0 ** rng.uniform(-5, -2))


def random_graph(n: int, rng: np.random.Generator) -> Any:
    """Make the Laplacian of a path and random edges, with weights over up to three decades."""
    rows, columns = rng.integers(n, size=(2, int(rng.uniform(1, 5) * n)))
    rows, columns = np.append(rows, np.arange(1, n)), np.append(columns, np.arange(n - 1))
    weights = 10.0 ** (rng.uniform(0, 1.5) * rng.uniform(-1, 1, len(rows)))
    return laplacian_of(rows, columns, weights, n, 10.0 ** rng.uniform(-5, -2))


def hubs(n: int, rng: np.random.Generator) -> Any:
    """Make the Laplacian of a graph whose vertices are chosen more often the lower their number."""
    count = int(rng.integers(2, 6))
    ends = (n * rng.random((n, count)) ** rng.uniform(1, 3)).astype(np.int64)
    rows = np.append(np.repeat(np.arange(n), count), np.arange(1, n))
    columns = np.append(ends.ravel(), np.arange(n - 1))
    return laplacian_of(rows, columns, np.ones(len(rows)), n, 10.0 ** rng.uniform(-5, -2))


def pieces(n: int, rng: np.random.Generator) -> Any:
    """Make two to five unconnected systems of other families, each in its own units."""
    count = int(rng.integers(2, 6))
    families = [family for family in PROBLEMS if family != "pieces"]
    found = [
        10.0 ** rng.uniform(-2, 2) * PROBLEMS[families[rng.integers(len(families))]](max(64, n // count), rng)
        for _ in range(count)
    ]
    return sparse.csr_array(sparse.block_diag(found, format="csr"))


PROBLEMS: dict[str, Callable[[int, np.random.Generator], Any]] = {
    "volumes-2d": lambda n, rng: volumes(n, rng, 2),
    "volumes-3d": lambda n, rng: volumes(n, rng, 3),
    "turned-2d": turned_2d,
    "triangles": lambda n, rng: simplices(n, 2, _of_elements(rng), rng),
    "tetrahedra": lambda n, rng: simplices(n, 3, _of_elements(rng), rng),
    "elastic-2d": elastic_2d,
    "jumps-2d": jumps_2d,
    "stretched-2d": stretched_2d,
    "boxes": boxes,
    "nearest-2d": nearest_2d,
    "random-graph": random_graph,
    "hubs": hubs,
    "pieces": pieces,
}


def random_matrix(family: str, n: int, rng: np.random.Generator) -> Any:
    """Make a matrix of about `n` unknowns, symmetric positive definite or singular by constants, in canonical CSR."""
    a = sparse.csr_array(PROBLEMS[family](n, rng))
    if rng.random() < SHIFTED:
        a = sparse.csr_array(a + 10.0 ** rng.uniform(-4, 0) * sparse.diags_array(a.diagonal()))
    if rng.random() < SHUFFLED:
        order = rng.permutation(a.shape[0])
        a = sparse.csr_array(a[order][:, order])
    a.sort_indices()
    return a
