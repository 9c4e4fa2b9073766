"""The hierarchy of smoothed aggregation over nodes, in blocks of float32.

Source: P. Vaněk, J. Mandel, M. Brezina, "Algebraic multigrid by smoothed aggregation for second and fourth order
elliptic problems", Computing 56 (1996).
"""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxon.core.scaling import mean_scale
from relaxon.solvers.sparse.amg.coarsest import invert_definite
from relaxon.solvers.sparse.amg.hierarchy import is_scattered
from relaxon.solvers.sparse.nodal import pattern_kernels
from relaxon.solvers.sparse.nodal.blocks import (
    PARTS,
    Blocks,
    Couplings,
    Floats,
    Indices,
    multiply,
    over,
    product,
    row_starts,
    split_parts,
    transpose,
)
from relaxon.solvers.sparse.nodal.quality import deviation, relax_errors
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem
from relaxon.solvers.sparse.system.near_null import NearNullSpace

Array = NDArray[np.float64]
SQUARE = np.float32(0.25**2)
"""Couplings are strong from a quarter of the geometric mean of both nodes' strongest couplings; squared."""
STRICT = np.float32(0.8**2)
"""Where such aggregates do not fit, as with flat elements, couplings are strong from 0.8 of that mean; squared."""
MISFIT = 3.0
"""Deviation of smooth errors from near-null vectors on aggregates above which stricter aggregates are tried: bodies of
isotropic elements have 1.2 to 2.5, flat ones (1 : 10) 5.5."""
BETTER_FIT = 1.6
"""With stricter aggregates the deviation must be smaller by at least this factor."""
WIDE = 6.0
"""Largest mean number of blocks in a row of the prolongator: where smoothing with all couplings gives more, weak ones
are left out, as the rows of the next level would be wider still."""
DOMINATED = 0.2
"""Nodes whose couplings' norms sum to at most this fraction of their own block's are left to smoothing."""
DENSE = 150
"""Unknowns up to which a level is solved by a dense inverse."""
DENSE_AT_MOST = 3_000
"""The same where coarsening has come to a halt."""
HALTED = 0.9
"""A level that keeps more than this fraction of its unknowns is the last one."""
LEAST = 1e-6
"""Eigenvalues of the last level's matrix, scaled to a unit diagonal, below this fraction of the largest are
rounding."""
MAX_LEVELS = 20
OVERSHOOT = 4.0 / 3.0
"""The prolongator is smoothed by `I − ω D⁻¹A`, where `ω` is this over the largest eigenvalue of `D⁻¹A` (eq. 4.1)."""
POWER_STEPS = 6
"""Steps of the power method for that eigenvalue."""
SAFETY = 1.05
"""Factor by which the estimate of the power method, a lower bound, is raised."""


@dataclass(slots=True)
class BlockLevel:
    """A level: its matrix in sweeping order, and the transfer to the next level."""

    bounds: Indices
    matrix: Blocks
    middle: Indices
    inner: Indices
    couplings: Couplings
    inverse: Floats
    excess: Floats
    prolongator: Blocks | None = None
    restriction: Blocks | None = None
    coarse_bounds: Indices | None = None

    @property
    def size(self) -> int:
        """The number of unknowns of a node."""
        return self.matrix.height

    @property
    def unknowns(self) -> int:
        return self.matrix.rows * self.size

    @property
    def entries(self) -> int:
        return int(self.matrix.values.size)


def arrange(matrix: Blocks) -> BlockLevel:
    """Return the level of a matrix, the blocks of whose rows are brought into sweeping order in place."""
    rows, size = matrix.rows, matrix.height
    bounds = split_parts(rows)
    middle, inner = np.empty(rows, np.uint32), np.empty(rows, np.uint32)
    norms, most = np.empty(len(matrix.columns), np.float32), np.empty(rows, np.float32)
    diagonal, inverse = np.zeros((rows, size, size), np.float32), np.empty((rows, size, size), np.float32)
    excess = np.empty(rows * size, np.float32)
    longest = int((matrix.last - matrix.first).max())

    def memory() -> tuple[Indices, Floats]:
        return np.empty(longest, np.uint32), np.empty((longest, size, size), np.float32)

    over(
        bounds, pattern_kernels.arrange_rows, matrix.first, matrix.last, matrix.columns, matrix.values, middle, inner,
        norms, most, diagonal, excess, work=memory,
    )  # fmt: skip
    over(bounds, pattern_kernels.invert_blocks, diagonal, excess, inverse, work=lambda: (np.empty((2, size, size)),))
    return BlockLevel(bounds, matrix, middle, inner, Couplings(SQUARE, norms, most), inverse, excess)


def build_finest(system: MatrixSystem, near_null: NearNullSpace) -> tuple[BlockLevel, Array, Indices]:
    """Build the first level; return it, its near-null vectors `(nodes, size, k)`, and the place of each unknown on
    it."""
    slot = np.arange(system.unknowns) if near_null.slots is None else near_null.slots
    size = near_null.block_size
    nodes = int(slot.max()) // size + 1
    order = np.arange(nodes, dtype=np.uint32)
    place = order
    matrix = _gather_blocks(system, slot, size, order, place)
    bounds = split_parts(nodes)
    if len(bounds) > 2 and is_scattered(np.append(matrix.first, matrix.last[-1]), matrix.columns, nodes // PARTS):
        order = _order_breadth_first(matrix)
        place = np.empty_like(order)
        place[order] = np.arange(nodes, dtype=np.uint32)
        matrix = _gather_blocks(system, slot, size, order, place)
    at = (place[slot // size].astype(np.int64) * size + slot % size).astype(np.uint32)
    vectors = np.zeros((nodes * size, near_null.vectors.shape[1]))
    vectors[at] = near_null.vectors
    return arrange(matrix), vectors.reshape(nodes, size, -1), at


def _gather_blocks(system: MatrixSystem, slot: NDArray[np.int64], size: int, order: Indices, place: Indices) -> Blocks:
    """Return the matrix in blocks, with node `order[i]` as node `i`, scaled to a diagonal of about 1."""
    a, n, nodes = system.matrix, system.unknowns, len(order)
    unknown = np.full(nodes * size, n, np.uint32)
    unknown[slot] = np.arange(n, dtype=np.uint32)
    rows = a.indptr.view(np.uint32), a.indices.view(np.uint32)
    slots = slot.astype(np.uint32)
    scale = mean_scale(system.diagonal)
    bounds, counts = split_parts(nodes), np.empty(nodes, np.uint32)

    def seen() -> tuple[Indices]:
        return (np.zeros(nodes, np.uint32),)

    width = np.uint32(size)
    over(bounds, pattern_kernels.count_blocks, width, order, unknown, *rows, slots, counts, work=seen)
    first, last, total = row_starts(counts)
    columns, values = np.empty(total, np.uint32), np.zeros((total, size, size), np.float32)
    over(
        bounds, pattern_kernels.fill_blocks, width, order, place, unknown, *rows, a.data, scale, slots, first, columns,
        values, work=seen,
    )  # fmt: skip
    return Blocks(first, last, columns, values)


def _order_breadth_first(matrix: Blocks) -> Indices:
    """Return the nodes in an order in which neighbours are close to one another."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    indptr = np.append(matrix.first, matrix.last[-1]).astype(np.int32)
    graph = csr_array((np.ones(len(matrix.columns), np.int8), matrix.columns.astype(np.int32), indptr))
    return np.asarray(reverse_cuthill_mckee(graph, symmetric_mode=True), np.uint32)


def largest_eigenvalue(level: BlockLevel) -> float:
    """Return an estimate of the largest eigenvalue of `D⁻¹A`, by the power method."""
    matrix, rows = level.matrix, level.matrix.rows
    x = np.random.default_rng(0).standard_normal(level.unknowns).astype(np.float32)
    y = np.empty_like(x)
    own = np.arange(rows, dtype=np.uint32)
    inverse = Blocks(own, own + np.uint32(1), own, level.inverse)
    x /= np.sqrt(np.square(x, dtype=np.float64).sum())
    found = 0.0
    for _ in range(POWER_STEPS):
        multiply(level.bounds, matrix, x, y)
        multiply(level.bounds, inverse, y, x)
        found = float(np.sqrt(np.square(x, dtype=np.float64).sum()))
        if not found > 0:
            return 1.0
        x /= np.float32(found)
    return SAFETY * found


def aggregate(level: BlockLevel) -> tuple[NDArray[np.int32], int]:
    """Aggregate the nodes; return the aggregate of each, −1 where it is left to smoothing, and their number."""
    a = level.matrix
    group, counts = np.empty(a.rows, np.int32), np.zeros(len(level.bounds) - 1, np.int64)
    over(
        level.bounds, pattern_kernels.aggregate_nodes, a.first, level.middle, level.inner, a.last, a.columns,
        *level.couplings, np.float32(DOMINATED), group, counts,
    )  # fmt: skip
    offsets = np.concatenate([[0], np.cumsum(counts)])
    shift = np.repeat(offsets[:-1] - level.bounds[:-1], level.bounds[1:] - level.bounds[:-1])
    return np.where(group >= 0, group + shift, -1).astype(np.int32), int(offsets[-1])


def coarsen(level: BlockLevel, vectors: Array) -> tuple[BlockLevel, Array] | None:
    """Build the next level by aggregation, smoothing and projection; None where coarsening has come to a halt.

    `vectors` are the near-null vectors, `(nodes, size, k)`. Returned are the level and its near-null vectors.
    """
    rows, size, k = vectors.shape
    given = vectors.astype(np.float32)
    group, count, basis, coarse = choose_aggregates(level, vectors)
    if count == 0 or count * k > HALTED * rows * size:
        return None
    p = smooth_prolongator(level, given, group, basis, coarse)
    level.prolongator, level.restriction = p, transpose(p, count)
    level.coarse_bounds = split_parts(count)
    image = product(level.bounds, level.matrix, p, count)
    return arrange(product(level.coarse_bounds, level.restriction, image, count)), coarse


def choose_aggregates(level: BlockLevel, vectors: Array) -> tuple[NDArray[np.int32], int, Floats, Array]:
    """Choose aggregates; return each node's, their number, the orthonormal vectors on them and their `R`.

    Couplings are judged more strictly where the usual aggregates do not fit the errors that sweeps leave, and the
    stricter ones fit better.
    """
    group, count = aggregate(level)
    basis, coarse = orthonormalise(vectors, group, count)
    errors = relax_errors(level)
    misfit = deviation(level, errors, group, basis)
    if misfit <= MISFIT:
        return group, count, basis, coarse
    usual = level.couplings
    level.couplings = usual._replace(square=STRICT)
    fewer, others = aggregate(level)
    if others * vectors.shape[2] <= HALTED * level.unknowns:
        bases, triangles = orthonormalise(vectors, fewer, others)
        if BETTER_FIT * deviation(level, errors, fewer, bases) <= misfit:
            return fewer, others, bases, triangles
    level.couplings = usual
    return group, count, basis, coarse


def orthonormalise(vectors: Array, group: NDArray[np.int32], count: int) -> tuple[Floats, Array]:
    """Return orthonormal vectors on each aggregate, `(nodes, k, size)`, and `R (count, k, k)`, whose product with them
    are the given vectors."""
    rows, size, k = vectors.shape
    members = np.argsort(group, kind="stable").astype(np.uint32)
    begin = np.searchsorted(group[members], np.arange(count + 1)).astype(np.uint32)
    basis, coarse = np.zeros((rows, k, size), np.float32), np.zeros((count, k, k))
    over(split_parts(count), pattern_kernels.orthogonalise, begin, members, vectors.copy(), basis, coarse)
    return basis, coarse


def smooth_prolongator(
    level: BlockLevel, given: Floats, group: NDArray[np.int32], basis: Floats, coarse: Array
) -> Blocks:
    """Return the prolongator `(I − ω D⁻¹A) T`, where `T` has the block `basis[i]` in row `i` and column `group[i]`.

    `given` are the near-null vectors before orthonormalisation, `T coarse`.
    """
    a, count = level.matrix, len(coarse)
    rows, k, size = basis.shape
    own, held = np.arange(rows, dtype=np.uint32), group >= 0
    tentative = Blocks(own, own + held.astype(np.uint32), np.where(held, group, 0).astype(np.uint32), basis)
    p = product(level.bounds, a, tentative, count)
    if len(p.columns) > WIDE * rows:
        p = product(level.bounds, a, tentative, count, level.couplings)
        over(
            level.bounds, pattern_kernels.extend_prolongator, a.first, a.last, a.columns, a.values, *level.couplings,
            group, given, _invert_triangles(coarse), p.first, p.last, p.columns, p.values,
            work=lambda: (np.empty((size, k)),),
        )  # fmt: skip
    p = product(level.bounds, Blocks(own, own + np.uint32(1), own, level.inverse), p, count)
    p.values *= np.float32(-OVERSHOOT / largest_eigenvalue(level))
    row = np.repeat(own, p.last - p.first)
    mine = np.flatnonzero(p.columns == group[row].astype(np.uint32))
    p.values[mine] += basis[row[mine]]
    return p


def _invert_triangles(matrices: Array) -> Array:
    """Return the inverses of upper triangular matrices `(g, k, k)`; rows and columns without a pivot are zero."""
    pivots = np.einsum("gkk->gk", matrices)
    good = pivots > 0
    filled = matrices + np.where(good, 0.0, 1.0)[:, :, None] * np.eye(matrices.shape[1])
    return np.asarray(np.linalg.inv(filled) * good[:, :, None] * good[:, None])


@dataclass(frozen=True, slots=True)
class BlockHierarchy:
    """Levels from fine to coarse, and the inverse of the last one; `place[i]` is the place of unknown `i` on the first
    level, `scale` the factor of the values."""

    levels: tuple[BlockLevel, ...]
    solution: Floats
    place: Indices
    scale: float
    weights: None = None
    negative: float = 0.0
    """Unused: near-null vectors are known here, whatever the units of the unknowns; curvatures are found by the run."""

    @classmethod
    def of(cls, system: MatrixSystem) -> BlockHierarchy:
        near_null = system.near_null
        assert near_null is not None
        level, vectors, place = build_finest(system, near_null)
        levels = [level]
        while level.unknowns > DENSE and len(levels) < MAX_LEVELS:
            found = coarsen(level, vectors)
            if found is None:
                break
            level, vectors = found
            levels.append(level)
        solution = dense_inverse(level) if level.unknowns <= DENSE_AT_MOST else np.zeros((0, 0), np.float32)
        return cls(tuple(levels), solution, place, mean_scale(system.diagonal))

    @property
    def operator_complexity(self) -> float:
        """The entries of all levels over those of the first."""
        return sum(level.entries for level in self.levels) / max(1, self.levels[0].entries)


def dense_inverse(level: BlockLevel) -> Floats:
    """Return the inverse of a level's matrix on its numerical range, to the rounding of float32."""
    a, n, size = level.matrix, level.unknowns, level.size
    dense = np.zeros((n, n))
    rows = np.repeat(np.arange(a.rows), a.last - a.first)
    for c in range(size):
        for r in range(size):
            dense[rows * size + r, a.columns.astype(np.int64) * size + c] = a.values[:, c, r]
    dense = (dense + dense.T) / 2
    diagonal = dense.diagonal()
    root = np.where(diagonal > 0, 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 0.0)
    dense *= root
    dense *= root[:, None]
    dense[np.diag_indices(n)] += root == 0
    return np.ascontiguousarray(_invert_range(dense) * root * root[:, None], np.float32)


def _invert_range(matrix: Array) -> Array:
    """Return the inverse of a symmetric matrix on the part of its spectrum that is not rounding."""
    try:
        inverse = invert_definite(matrix)
        if LEAST * math.sqrt(np.square(inverse).sum() * np.square(matrix).sum()) < 1:  # a bound on the condition number
            return inverse
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(matrix)
    good = values > LEAST * values[-1]
    return np.asarray((vectors[:, good] / values[good]) @ vectors[:, good].T)
