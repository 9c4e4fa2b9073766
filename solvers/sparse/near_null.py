"""Vectors that a matrix takes to nearly nothing, and which unknowns belong to a node."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.properties import MatrixProperties

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class NearNullSpace:
    """The near-null vectors of a matrix and its nodes.

    `vectors` is `(n, k)` float64. Unknown `i` stands at `slots[i] % block_size` of node `slots[i] // block_size`;
    `slots` is None where unknown `i` stands at `i`. Nodes may lack unknowns.
    """

    vectors: Array
    block_size: int
    slots: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, properties: MatrixProperties, unknowns: int) -> NearNullSpace | None:
        """Return what checked properties say; None where they say nothing of this."""
        if properties.coordinates is not None:
            return cls(rigid_motions(properties.coordinates), properties.coordinates.shape[1])
        size = properties.block_size
        if properties.near_null is not None:
            return cls(properties.near_null, size or 1)
        return None if size is None else cls(translations(unknowns, size), size)

    def part(self, kept: NDArray[np.int64]) -> NearNullSpace:
        """Return that of the principal submatrix of the unknowns `kept`, ascending; nodes without any are left out."""
        slots = kept if self.slots is None else self.slots[kept]
        node, place = np.divmod(slots, self.block_size)
        number = np.unique(node, return_inverse=True)[1]
        return NearNullSpace(self.vectors[kept], self.block_size, self.block_size * number + place)


def translations(unknowns: int, block_size: int) -> Array:
    """Return the constants of each of a node's unknowns, `(unknowns, block_size)`."""
    return np.tile(np.eye(block_size), (unknowns // block_size, 1))


def rigid_motions(points: Array) -> Array:
    """Return translations along the axes and infinitesimal rotations about the middle of `points`, `(m, d)`.

    `(d·m, 3)` in two dimensions and `(d·m, 6)` in three: `u_a = −(x_b − c_b)`, `u_b = x_a − c_a` for each pair of axes
    `a < b`, the points scaled to a box of edge 1 so that all are of one size.
    """
    count, ndim = points.shape
    low, high = points.min(axis=0), points.max(axis=0)
    centred = (points - (low + (high - low) / 2)) / (high - low).max()
    rotations = []
    for a, b in combinations(range(ndim), 2):
        motion = np.zeros((count, ndim))
        motion[:, a], motion[:, b] = -centred[:, b], centred[:, a]
        rotations.append(motion.ravel())
    return np.ascontiguousarray(np.column_stack([translations(count * ndim, ndim), *rotations]))
