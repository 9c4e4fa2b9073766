"""Near-null vectors of a matrix, and the nodes to which its unknowns belong."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.system.properties import MatrixProperties
from relaxon.solvers.sparse.system.row_runs import locate_entries, sample_rows

Array = NDArray[np.float64]
SIZES = (3, 2)
"""Block sizes that are recognised."""
SAMPLE = 500
"""Number of nodes in the sample."""
FULL = 0.6
"""Mean fraction of a block's entries that are nonzero, at least, where blocks are those of nodes: 0.64 for cubes of one
material."""
ALIGNED = 0.1
"""Blocks that begin with a node are fuller by at least this than blocks that begin one unknown later; in a full band
they are not."""
APART, TOGETHER = 0.05, 0.25
"""Blocks are not those of nodes where constants of single unknowns leave more than the first fraction of a row's weight
and the constant of all leaves less than the second fraction of that, as with discontinuous elements."""


@dataclass(frozen=True, slots=True, eq=False)
class NearNullSpace:
    """The near-null vectors of a matrix and its nodes.

    `vectors` is `(n, k)` float64. Unknown `i` stands at `slots[i] % block_size` of node `slots[i] // block_size`;
    `slots` is None where unknown `i` stands at `i`. Nodes may lack unknowns.
    """

    vectors: Array
    block_size: int
    names: tuple[str, ...]
    """Names of the vectors, for messages."""
    slots: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, properties: MatrixProperties, matrix: Any) -> NearNullSpace | None:
        """Return the near-null space that validated properties declare for a canonical CSR matrix; None for none.

        Where vectors are given without a block size, nodes are recognised from the pattern.
        """
        if properties.coordinates is not None:
            ndim = properties.coordinates.shape[1]
            names = [f"the translation along axis {a}" for a in range(ndim)]
            names += [f"the rotation in the plane of axes {a} and {b}" for a, b in combinations(range(ndim), 2)]
            return cls(rigid_motions(properties.coordinates), ndim, tuple(names))
        size = properties.block_size
        if properties.near_null is not None:
            names = [f"column {k} of near_null" for k in range(properties.near_null.shape[1])]
            return cls(properties.near_null, size or recognise_block_size(matrix), tuple(names))
        return None if size is None else cls.constants(matrix.shape[0], size)

    @classmethod
    def constants(cls, unknowns: int, block_size: int) -> NearNullSpace:
        """Return the space of one constant for each unknown of a node."""
        names = tuple(f"the constant of unknown {place} of each node" for place in range(block_size))
        return cls(translations(unknowns, block_size), block_size, names)

    @property
    def said(self) -> str:
        """A short description, for messages."""
        count = self.vectors.shape[1]
        vectors = f"{count} near-null vector{'s' if count > 1 else ''}"
        return vectors if self.block_size == 1 else f"{vectors} of nodes of {self.block_size} unknowns"

    def part(self, kept: NDArray[np.int64]) -> NearNullSpace:
        """Return the near-null space of the principal submatrix of the unknowns `kept`, ascending.

        Nodes that keep no unknown are left out.
        """
        slots = kept if self.slots is None else self.slots[kept]
        node, place = np.divmod(slots, self.block_size)
        number = np.unique(node, return_inverse=True)[1]
        return NearNullSpace(self.vectors[kept], self.block_size, self.names, self.block_size * number + place)


def translations(unknowns: int, block_size: int) -> Array:
    """Return the translations, a constant for each of a node's unknowns, `(unknowns, block_size)`."""
    return np.tile(np.eye(block_size), (unknowns // block_size, 1))


def rigid_motions(points: Array) -> Array:
    """Return translations along the axes and infinitesimal rotations about the middle of `points`, `(m, d)`.

    `(d·m, 3)` in two dimensions and `(d·m, 6)` in three: `u_a = −(x_b − c_b)`, `u_b = x_a − c_a` for each pair of axes
    `a < b`, with the points scaled to a box of edge 1 so that all motions are of about one size.
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


def recognise_block_size(matrix: Any) -> int:
    """Return the number of unknowns of a node, judged by the pattern of a CSR matrix; 1 where it shows no nodes.

    The rows of a sample are cut into blocks: those of nodes are nearly full, and less so when shifted by one unknown.
    """
    n = matrix.shape[0]
    for size in SIZES:
        if n % size == 0 and n > 2 * size:
            full = _fill_part(matrix, size, 0)
            if full >= FULL and _fill_part(matrix, size, 1) <= full - ALIGNED and not _is_scalar(matrix, size):
                return size
    return 1


def _is_scalar(matrix: Any, size: int) -> bool:
    """Return whether the constant of all unknowns is nearer to a null vector than those of a block's single
    unknowns."""
    rows = (size * sample_rows(matrix.shape[0] // size, SAMPLE)[:, None] + np.arange(size)).ravel()
    places, lengths = locate_entries(matrix.indptr, rows)
    own, values = np.repeat(np.arange(len(rows)), lengths), matrix.data[places].real
    sums = np.bincount(size * own + matrix.indices[places] % size, values, size * len(rows)).reshape(-1, size)
    weight = np.maximum(np.bincount(own, np.abs(values), len(rows)), np.finfo(float).tiny)
    apart = float((np.abs(sums).sum(axis=1) / weight).mean())
    return apart > APART and float((np.abs(sums.sum(axis=1)) / weight).mean()) < TOGETHER * apart


def _fill_part(matrix: Any, size: int, shift: int) -> float:
    """Return the filled fraction of the blocks that a sample of nodes touches, where nodes begin at `shift`."""
    count = (matrix.shape[0] - shift) // size
    nodes = sample_rows(count, SAMPLE)
    rows = (shift + size * nodes[:, None] + np.arange(size)).ravel()
    places, lengths = locate_entries(matrix.indptr, rows)
    columns = matrix.indices[places].astype(np.int64)
    inside = (columns >= shift) & (columns < shift + size * count)
    keys = np.repeat(np.arange(len(rows)) // size, lengths) * (count + 1) + (columns - shift) // size
    keys = np.sort(keys[inside])  # `np.unique` takes three times as long for a few thousand
    blocks = int(np.count_nonzero(np.diff(keys, prepend=-1)))
    return float(len(keys)) / max(1, blocks * size**2)
