"""Algebraic multigrid for nonsymmetric matrices like those of convection and diffusion: aggregates, sweeps downstream.

Sources: Y. Notay, "Aggregation-based algebraic multigrid for convection-diffusion equations", SIAM J. Sci. Comput. 34
(2012); J. Bey, G. Wittum, Appl. Numer. Math. 23 (1997). The rescaling of diffusion between levels is not in these.
"""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relaxon.core.scaling import mean_scale
from relaxon.solvers.sparse.downstream import cycle_kernels, levels_kernels
from relaxon.solvers.sparse.system.matrix_system import Array

Floats = NDArray[np.float32]
Indices = NDArray[np.uint32]
Groups = NDArray[np.int32]
STRENGTH = 0.25
"""A coupling of the symmetric part is strong from this fraction of the geometric mean of both rows' strongest ones."""
DOMINATED = 0.4
"""Rows whose off-diagonal magnitudes sum to less than this fraction of the diagonal converge by smoothing alone."""
DIFFUSION = 0.6
"""Factor of the diffusion between aggregates; see `levels_kernels.split_halves`. With 1 instead, a wind of cell Péclet
number 1 in two dimensions takes 19 iterations at 99,856 unknowns, with 0.6 it takes 7."""
PAIRINGS = 2
"""Matchings for each level: aggregates are pairs of pairs."""
DENSE, DENSE_AT_MOST = 100, 1_500
"""Rows up to which a level is solved by a dense inverse, and the same where coarsening has come to a halt."""
STALLED, HALTED = 0.7, 0.9
"""A level that keeps more than these fractions of its rows is coarsened again with couplings of any strength, and is
the last one."""
DIRECTED_PART = 0.01
"""Rows keep their order where fewer than this fraction of the entries have a direction."""
BUDGET = 4.0
"""Bound on the entries on all levels of a cycle, repeated visits included, over those of the first level."""
SINGULAR = 1e-10
"""Singular values of the last level's matrix below this fraction of the largest count as zero."""
MAX_LEVELS = 40


class _CoupledRows(NamedTuple):
    """The rows of a matrix without its diagonal: `values`, those of its symmetric part (`mean`), and both row sums."""

    first: Indices
    last: Indices
    columns: Indices
    values: Floats
    mean: Floats
    surplus: Array
    symmetric: Array
    weight: Floats
    most: Floats


@dataclass(slots=True)
class _DownstreamLevel:
    """A level in sweeping order: a row's entries before the diagonal end at `middle`."""

    first: Indices
    middle: Indices
    last: Indices
    columns: Indices
    values: Floats
    diagonal: Floats
    group: Groups = field(default_factory=lambda: np.empty(0, np.int32))

    @property
    def rows(self) -> int:
        return len(self.first)


class DownstreamMultigrid:
    """A cycle that approximates `A⁻¹` in float32; it is not linear, as coarse levels are solved by conjugate residuals.

    `matrix` is CSR, float64, with sorted int32 indices and a diagonal of one sign; most off-diagonals have the other.
    """

    def __init__(self, matrix: Any) -> None:
        levels, self.order, self.scale = _build_levels(matrix)
        counts = [level.rows for level in levels]
        rows = np.cumsum([0, *counts])
        entries = np.cumsum([0, *(len(level.columns) for level in levels)])
        self.info = {"levels": float(len(levels)), "operator_complexity": float((entries[-1] + rows[-1]) / matrix.nnz)}
        self._table = np.ones((len(levels), 3), np.int64)
        self._table[:, cycle_kernels.ROW], self._table[:, cycle_kernels.COUNT] = rows[:-1], counts
        self._table[:, cycle_kernels.STEPS] = _count_steps(np.diff(entries) + np.diff(rows))
        ends = [
            np.concatenate(
                [getattr(level, name) + np.uint32(at) for level, at in zip(levels, entries[:-1], strict=True)]
            )
            for name in ("first", "middle", "last")
        ]
        columns = [level.columns + np.uint32(at) for level, at in zip(levels, rows[:-1], strict=True)]
        diagonal = np.concatenate([level.diagonal for level in levels])
        inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
        group = np.full(int(rows[-1]), -1, np.int32)
        for index, level in enumerate(levels[:-1]):
            own = level.group
            group[rows[index] : rows[index + 1]] = np.where(own >= 0, own + np.int32(rows[index + 1]), -1)
        values = np.concatenate([level.values for level in levels])
        self._arrays = (*ends, np.concatenate(columns), values, diagonal, inverse, group, _invert_last(levels[-1]))
        count = len(levels)
        self._memory = np.zeros(count, np.int64), np.zeros(count), np.zeros(count)
        self._vectors = tuple(np.zeros(int(rows[-1]), np.float32) for _ in range(6))
        self._rows = counts[0]

    def apply(self, r: NDArray[Any]) -> Floats:
        """Return an approximation of `A⁻¹ r`, up to a power of two and a sign, in a new array; `r` is of moderate
        size."""
        right, found = (vector[: self._rows] for vector in self._vectors[:2])
        if self.order is None:
            right[...] = r
        else:
            np.take(r, self.order, out=right, mode="clip") if r.dtype == np.float32 else np.copyto(right, r[self.order])
        cycle_kernels.cycle(self._table, *self._arrays, *self._memory, *self._vectors)
        if self.order is None:
            return found.copy()
        z = np.empty(self._rows, np.float32)
        z[self.order] = found
        return z


def _build_levels(matrix: Any) -> tuple[list[_DownstreamLevel], Indices | None, float]:
    """Build all levels; return them, the order of the first one's rows where it is not the matrix's, and the scale
    factor of its values."""
    level, rows, order, scale = _build_finest(matrix)
    levels = [level]
    while level.rows > DENSE and len(levels) < MAX_LEVELS:
        group, coarse = _coarsen(rows, STRENGTH)
        if len(coarse.first) > STALLED * level.rows:
            group, coarse = _coarsen(rows, 0.0)
        if len(coarse.first) == 0 or len(coarse.first) > HALTED * level.rows:
            break
        level.group = group
        level, rows = _arrange(coarse)
        levels.append(level)
    return levels, order, scale


def _build_finest(matrix: Any) -> tuple[_DownstreamLevel, _CoupledRows, Indices | None, float]:
    """Build the first level, in downstream order where there is a direction."""
    n = matrix.shape[0]
    indptr, indices, data, back = _find_facing(matrix)
    order, place, stack, cursor = (np.empty(n, np.uint32) for _ in range(4))
    directed = levels_kernels.order_downstream(indptr, indices, data, back, order, place, stack, cursor)
    kept: Indices | None = order
    if directed < DIRECTED_PART * len(data):
        order = place = np.arange(n, dtype=np.uint32)
        kept = None
    entries = matrix.diagonal()
    scale = math.copysign(mean_scale(entries), entries[0])
    first, middle, last = (np.empty(n, np.uint32) for _ in range(3))
    columns, (values, mean) = np.empty(len(data), np.uint32), (np.empty(len(data), np.float32) for _ in range(2))
    diagonal, most = np.empty(n, np.float32), np.zeros(n, np.float32)
    surplus, symmetric = np.empty(n), np.empty(n)
    levels_kernels.fill_finest(
        order, place, indptr, indices, data, back, scale, first, middle, last, columns, values, mean, diagonal,
        surplus, symmetric,
    )  # fmt: skip
    used = int(last[-1])
    columns, values, mean = columns[:used], values[:used], mean[:used]
    level = _DownstreamLevel(first, middle, last, columns, values, diagonal)
    return level, _CoupledRows(first, last, columns, values, mean, surplus, symmetric, diagonal, most), kept, scale


def _find_facing(matrix: Any) -> tuple[Indices, Indices, Array, Array]:
    """Return the matrix with `a_ji` for each `a_ij`; where its pattern is not symmetric, zeros are added."""
    back = np.empty(matrix.nnz)
    indptr, indices = matrix.indptr.view(np.uint32), matrix.indices.view(np.uint32)
    if levels_kernels.find_facing(indptr, indices, matrix.data, indptr[:-1].copy(), back) == 0:
        return indptr, indices, matrix.data, back
    from scipy.sparse import coo_array

    entries = matrix.tocoo()
    rows, columns = np.concatenate([entries.row, entries.col]), np.concatenate([entries.col, entries.row])
    both = coo_array((np.concatenate([entries.data, np.zeros(entries.nnz)]), (rows, columns)), shape=matrix.shape)
    full = both.tocsr()  # sums duplicates, keeps zeros
    full.sort_indices()
    indptr, indices = full.indptr.astype(np.uint32), full.indices.astype(np.uint32)
    back = np.empty(full.nnz)
    levels_kernels.find_facing(indptr, indices, full.data, indptr[:-1].copy(), back)
    return indptr, indices, full.data, back


def _coarsen(rows: _CoupledRows, strength: float) -> tuple[Groups, _CoupledRows]:
    """Return each row's aggregate, −1 for those left to smoothing, and the sums of the matrix over aggregates."""
    whole: Groups | None = None
    for pairing in range(PAIRINGS):
        n, size = len(rows.first), len(rows.columns)
        group, heads, link, members = (np.empty(n, np.int32) for _ in range(4))
        count = levels_kernels.pair_rows(
            rows.first, rows.last, rows.columns, rows.mean, rows.weight, rows.symmetric, rows.most, strength,
            -1.0 if pairing else DOMINATED, group, heads, link, members,
        )  # fmt: skip
        if whole is None:
            whole = group
        else:
            levels_kernels.compose_groups(group, whole)
        ends = np.empty(count, np.uint32), np.empty(count, np.uint32)
        columns, values, mean = np.empty(size, np.uint32), np.empty(size, np.float32), np.empty(size, np.float32)
        figures = np.empty(count), np.empty(count), np.empty(count, np.float32), np.empty(count, np.float32)
        used = levels_kernels.merge_rows(
            count, group, heads, link, rows.first, rows.last, rows.columns, rows.values, rows.mean, rows.surplus,
            rows.symmetric, rows.weight, rows.most, np.empty(count, np.uint32), *ends, columns, values, mean, *figures,
        )  # fmt: skip
        rows = _CoupledRows(*ends, columns[:used], values[:used], mean[:used], *figures)
    assert whole is not None
    return whole, rows


def _arrange(rows: _CoupledRows) -> tuple[_DownstreamLevel, _CoupledRows]:
    """Return a coarse level from sums over aggregates, with rescaled diffusion; their arrays are overwritten."""
    n = len(rows.first)
    middle, diagonal = np.empty(n, np.uint32), np.empty(n, np.float32)
    longest = int((rows.last - rows.first).max()) if n else 0
    spare = np.empty(longest, np.uint32), np.empty(longest, np.float32), np.empty(longest, np.float32)
    levels_kernels.split_halves(
        rows.first, middle, rows.last, rows.columns, rows.values, rows.mean, *spare, rows.surplus, diagonal, DIFFUSION
    )
    level = _DownstreamLevel(rows.first, middle, rows.last, rows.columns.copy(), rows.values.copy(), diagonal)
    return level, rows._replace(weight=diagonal)


def _count_steps(entries: NDArray[np.int64]) -> list[int]:
    """Return the number of steps of a visit on each level, so that the work of a cycle is bounded."""
    taken, visits, spent = [1], 1, 1.0
    for own in entries[1:] / entries[0]:
        twice = spent + 2 * visits * own <= BUDGET
        taken.append(2 if twice else 1)
        visits *= taken[-1]
        spent += visits * own
    return taken


def _invert_last(level: _DownstreamLevel) -> Floats:
    """Return the inverse on the last level, the pseudoinverse where it is singular; empty where it would be too
    large."""
    n = level.rows
    if n > DENSE_AT_MOST:
        return np.empty((0, 0), np.float32)
    dense = np.diag(level.diagonal.astype(np.float64))
    for i in range(n):
        part = slice(int(level.first[i]), int(level.last[i]))
        dense[i, level.columns[part]] = level.values[part]
    inverse = np.linalg.pinv(dense, rcond=SINGULAR) if n <= DENSE else _dense_inverse(dense)
    return np.ascontiguousarray(inverse, np.float32)


def _dense_inverse(dense: Array) -> Any:
    try:
        return np.linalg.inv(dense)
    except np.linalg.LinAlgError:
        return np.linalg.pinv(dense, rcond=SINGULAR)
