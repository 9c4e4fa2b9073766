"""Matrices of graphs: neighbours in space, heavy-tailed degrees, random weights, many parts."""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from relaxon.solvers.sparse.families.stencils import Array, Family, assemble, finite_volumes

NEIGHBOURS = 6
"""Number of neighbours of a point."""
SHIFT = 1e-4
"""Added to the diagonal of Laplacians to make them regular."""


def laplacian_of(rows: NDArray[Any], columns: NDArray[Any], weights: Array, n: int, shift: float) -> Any:
    """Return `Σ w (e_i − e_j)(e_i − e_j)ᵀ + shift·I`; loops are left out, multiple edges are summed."""
    keep = rows != columns
    rows, columns, weights = rows[keep], columns[keep], weights[keep]
    number = np.arange(n)
    entries = [-weights, -weights, weights, weights, np.full(n, shift)]
    return assemble(
        np.concatenate([rows, columns, rows, columns, number]),
        np.concatenate([columns, rows, rows, columns, number]),
        np.concatenate(entries),
        n,
    )


def neighbours_3d(n: int, rng: np.random.Generator) -> Any:
    """Make the Laplacian of six nearest neighbours of random points in random order, weighted by distance."""
    from scipy.spatial import cKDTree

    points = rng.random((n, 3))
    distance, index = cKDTree(points).query(points, k=min(NEIGHBOURS + 1, n))
    count = index.shape[1] - 1
    rows = np.repeat(np.arange(n), count)
    length = distance[:, 1:].ravel() * n ** (1 / 3)
    return laplacian_of(rows, index[:, 1:].ravel(), np.exp(-(length**2)), n, SHIFT)


def heavy_tailed(n: int, rng: np.random.Generator) -> Any:
    """Make the Laplacian of a graph grown by preferential attachment, three edges a vertex, with hubs of hundreds."""
    edges = 3
    targets = np.empty(2 * edges * n, np.int64)  # the ends of every edge: draws from it prefer the well connected
    targets[: 2 * edges] = np.arange(2 * edges) % 2
    filled = 2 * edges
    draws = rng.random((n, edges))
    ends = np.zeros((n, edges), np.int64)
    for vertex in range(2, n):
        ends[vertex] = targets[(draws[vertex] * filled).astype(np.int64)]
        targets[filled : filled + edges] = ends[vertex]
        targets[filled + edges : filled + 2 * edges] = vertex
        filled += 2 * edges
    return laplacian_of(np.repeat(np.arange(n), edges), ends.ravel(), np.ones(n * edges), n, SHIFT)


def random_weights(n: int, rng: np.random.Generator) -> Any:
    """Make the Laplacian of a random graph with weights over four decades, fixed at one vertex, without geometry."""
    rows, columns = rng.integers(n, size=(2, 3 * n))
    rows, columns = np.append(rows, np.arange(1, n)), np.append(columns, np.arange(n - 1))
    a = laplacian_of(rows, columns, 10.0 ** rng.uniform(-2, 2, len(rows)), n, 0.0)
    return sparse.csr_array(a + sparse.diags_array(np.eye(1, n)[0]))


def chain(n: int, rng: np.random.Generator) -> Any:
    """Make a one-dimensional Laplacian, whose factor has no fill."""
    return sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tocsr()


def parts(n: int, rng: np.random.Generator) -> Any:
    """Make unconnected grids of many sizes, half of them singular, and rows with only a diagonal entry."""
    blocks: list[Any] = []
    left = n
    while left > 0:
        s = int(min(rng.integers(2, 60), max(1, left**0.5)))
        alone = s == 1 or rng.random() < 0.1
        if alone:
            s = min(left, 5)
            blocks.append(sparse.diags_array(10.0 ** rng.uniform(-3, 3, s)))
            left -= s
        else:
            kappa = np.full((s, s), 10.0 ** rng.uniform(-3, 3))
            blocks.append(finite_volumes(kappa, (1.0, 1.0), "first" if rng.random() < 0.5 else "none"))
            left -= s * s
    a = sparse.csr_array(sparse.block_diag(blocks, format="csr"))
    order = rng.permutation(a.shape[0])
    return sparse.csr_array(a[order][:, order])


GRAPHS: dict[str, Family] = {
    "neighbours-3d": neighbours_3d,
    "heavy-tailed": heavy_tailed,
    "random-weights": random_weights,
    "chain": chain,
    "parts": parts,
}
