"""Smoothed aggregation: aggregates of whole neighbourhoods, their interpolation, and the matrix between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.threads import Call, divide, take_turns
from relaxon.solvers.sparse.amg import smoothed_aggregation_kernels as kernels
from relaxon.solvers.sparse.system.row_runs import count_runs, split_rows

if TYPE_CHECKING:
    from relaxon.solvers.sparse.amg.hierarchy import Level

Floats = NDArray[np.float32]
Indices = NDArray[np.uint32]
STRENGTH = 0.5
"""Couplings are strong from this fraction of the strongest ones. At 0.3 and below, the corners of stretched bilinear
elements count as strong, and nothing converges."""
OMEGA = 2 / 3
"""The step of the interpolation's smoothing: 4/3 over 2, an upper bound on the eigenvalues of `D_F⁻¹ A_F`."""
RUNS = 4
"""Runs of rows among which passes over a level of one block are divided."""
ROOM = 4.0
"""Entries at most first allocated for a product, over those of its first factor and its rows."""
SAMPLE, MANY, MARGIN = 512, 16, 1.3
"""Rows that tell how many entries a product of `MANY` times as many has, with a margin: memory between blocks is not
free where the system has large pages."""


@dataclass(slots=True)
class AggregateRows:
    """The rows of the matrix between aggregates, in the part of the arrays where their block's rows were."""

    bounds: Indices
    first: Indices
    last: Indices
    columns: Indices
    values: Floats
    surplus: NDArray[np.float64]
    weight: Floats
    most: Floats

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Its arrays, as kernels take them."""
        return (
            self.bounds, self.first, self.last, self.columns, self.values, self.surplus, self.weight, self.most
        )  # fmt: skip


@dataclass(slots=True)
class Sparse:
    """A matrix with the rows `columns[begin[i]:end[i]]`; `width` is its number of columns."""

    begin: Indices
    end: Indices
    columns: Indices
    values: Floats
    width: int

    @property
    def rows(self) -> int:
        return len(self.begin)


@dataclass(frozen=True, slots=True)
class KeptPatterns:
    """The patterns of an interpolation, for new values: the entry of `P` to which each coupling adds (`targets`), and
    the entry of `P` that is each entry of `Pᵀ` (`turned`)."""

    targets: Indices
    turned: NDArray[np.int64]


@dataclass(slots=True)
class Smoothed:
    """The interpolation `P` from a level's aggregates, and its transpose."""

    interpolation: Sparse
    restriction: Sparse
    kept: KeptPatterns | None = None
    """Known after the first update."""


def interpolate(
    level: Level, dominated: float, most: float, beside: Call
) -> tuple[NDArray[np.int32], Indices, tuple[Sparse, NDArray[np.float64]] | None]:
    """Return what `aggregate` and `build_interpolation` do; no interpolation where there are no aggregates, or more
    than `most`.

    A thread that has nothing else to do calls `beside`.
    """
    if len(level.bounds) > 2:
        aggregates = _Aggregates(level, dominated)
        take_turns(deque([beside, *aggregates.calls()]), level.chunks)
        group, offsets = aggregates.number()
        fits = 0 < int(offsets[-1]) <= most
        return group, offsets, build_interpolation(level, group, int(offsets[-1])) if fits else None
    found: list[_Interpolation] = []
    group, offsets = np.empty(0, np.int32), np.empty(0, np.uint32)

    def begin() -> None:
        nonlocal group, offsets
        group, offsets = aggregate(level, dominated)
        if 0 < int(offsets[-1]) <= most:
            found.append(_Interpolation(level, group, int(offsets[-1])))
            calls.extend(found[0].calls())

    calls: deque[Call] = deque([beside, begin])
    take_turns(calls, level.chunks)
    return group, offsets, found[0].finish() if found else None


def aggregate(level: Level, dominated: float) -> tuple[NDArray[np.int32], Indices]:
    """Aggregate neighbourhoods; return each row's aggregate, −1 for none, and the first aggregate of each block."""
    aggregates = _Aggregates(level, dominated)
    take_turns(deque(aggregates.calls()), level.chunks)
    return aggregates.number()


class _Aggregates:
    """Aggregates of neighbourhoods, block by block."""

    def __init__(self, level: Level, dominated: float) -> None:
        self._level = level
        self._group, spare = np.empty(level.rows, np.int32), np.empty(level.rows, np.int32)
        self._counts = np.zeros(len(level.bounds) - 1, np.int64)
        self._arguments = (
            level.bounds, level.first, level.last, level.columns, level.values, level.diagonal, level.most,
            np.float32(STRENGTH**2), np.float32(dominated), self._group, spare, self._counts,
        )  # fmt: skip

    def calls(self) -> Iterator[Call]:
        """Return the calls that aggregate the rows of one block each."""
        return (partial(kernels.aggregate_rows, k, k + 1, *self._arguments) for k in range(len(self._counts)))

    def number(self) -> tuple[NDArray[np.int32], Indices]:
        """Number the aggregates of all blocks, which there are; return what `aggregate` does."""
        offsets = np.zeros(len(self._counts) + 1, np.uint32)
        np.cumsum(self._counts, out=offsets[1:])
        if len(self._counts) > 1:
            self._level.over(kernels.shift_groups, offsets, self._group)
        return self._group, offsets


def build_interpolation(level: Level, group: NDArray[np.int32], coarse: int) -> tuple[Sparse, NDArray[np.float64]]:
    """Build the interpolation `(I − ω D_F⁻¹ A_F) T`, `A_F` with strong couplings only; return it with its row sums."""
    interpolation = _Interpolation(level, group, coarse)
    take_turns(deque(interpolation.calls()), level.chunks)
    return interpolation.finish()


class _Interpolation:
    """The interpolation of `build_interpolation`, run of rows by run of rows."""

    def __init__(self, level: Level, group: NDArray[np.int32], coarse: int) -> None:
        n = level.rows
        self._total, self._bounds = np.empty(n), split_runs(level.bounds)
        size = len(level.columns) + n
        begin, end, columns = np.empty(n, np.uint32), np.empty(n, np.uint32), np.empty(size, np.uint32)
        self._p = p = Sparse(begin, end, columns, np.empty(size, np.float32), coarse)
        self._arguments = (
            self._bounds, level.first, level.last, level.columns, level.values, level.diagonal, level.surplus,
            level.most, np.float32(STRENGTH**2), OMEGA, group, coarse, p.begin, p.end, p.columns, p.values, self._total,
        )  # fmt: skip

    def calls(self) -> Iterator[Call]:
        """Return the calls that fill the rows of one run each."""
        runs = range(len(self._bounds) - 1)
        return (partial(kernels.fill_interpolation, k, k + 1, *self._arguments) for k in runs)

    def finish(self) -> tuple[Sparse, NDArray[np.float64]]:
        """Return the interpolation, which is filled, and its row sums."""
        return compact(self._p, self._bounds), self._total


def split_runs(bounds: Indices) -> Indices:
    """Return the blocks of a level, or where it is one block, runs of its rows for passes that need no blocks."""
    rows = int(bounds[-1])
    return bounds if len(bounds) > 2 else split_rows(rows, count_runs(rows, RUNS))


def split_coarse(offsets: Indices, bounds: Indices) -> Indices:
    """Return the first aggregate of each block, or where it is one block, of as many runs as there are of its rows."""
    return offsets if len(offsets) > 2 else split_rows(int(offsets[-1]), len(bounds) - 1)


def project_smoothed(
    level: Level, p: Sparse, total: NDArray[np.float64], offsets: Indices
) -> tuple[Smoothed, AggregateRows]:
    """Return an interpolation with its transpose, and `Pᵀ A P`; `total` are the row sums of `P`.

    The diagonal is among the entries but not used: it follows from the row sums, which are exact where `P` interpolates
    constants exactly.
    """
    bounds, chunks = split_runs(level.bounds), level.chunks
    below = split_coarse(offsets, bounds)
    r = transpose(p, bounds, chunks)
    a = Sparse(level.first, level.last, level.columns, level.values, level.rows)
    # Without a name, so that `A P` is released before the sums are computed.
    product = multiply(r, np.empty(0, np.float32), multiply(a, level.diagonal, p, bounds, chunks), below, chunks)
    image, surplus = np.empty(level.rows), np.empty(p.width)
    rows = level.first, level.last, level.columns, level.values, level.surplus
    divide(kernels.apply_to_sums, len(bounds) - 1, bounds, *rows, total, image, chunks=chunks)
    divide(
        kernels.sum_coarse_rows, len(below) - 1, below, r.begin, r.end, r.columns, r.values, image, surplus,
        chunks=chunks,
    )  # fmt: skip
    none = np.empty(0, np.float32)
    return Smoothed(p, r), AggregateRows(
        offsets, product.begin, product.end, product.columns, product.values, surplus, none, none
    )


def compact(a: Sparse, bounds: Indices) -> Sparse:
    """Return a matrix without the gaps between its blocks, in the memory of the given one, of which the rest is given
    back."""
    place = 0
    for lo, hi in pairwise(bounds):
        if hi > lo:
            first, last = int(a.begin[lo]), int(a.end[hi - 1])
            for part in (a.columns, a.values):
                part[place : place + last - first] = part[first:last]
            for ends in (a.begin, a.end):
                ends[lo:hi] -= np.uint32(first - place)
            place += last - first
    for part in (a.columns, a.values):
        part.resize(place, refcheck=False)
    return a


def _count_entries(a: Sparse, lo: int, hi: int) -> int:
    """Return the number of entries in the rows `lo … hi − 1`."""
    return int(np.sum(a.end[lo:hi] - a.begin[lo:hi], dtype=np.int64))


def transpose(a: Sparse, bounds: Indices, chunks: int) -> Sparse:
    """Return `Aᵀ`, the entries of each row in the order of `a`'s rows."""
    count = len(bounds) - 1
    counts = np.zeros((a.width, count), np.uint32)
    divide(kernels.count_columns, count, bounds, a.begin, a.end, a.columns, counts, chunks=chunks)
    begin = np.empty(a.width + 1, np.uint32)
    kernels.place_columns(counts, begin)
    rows, values = np.empty(len(a.columns), np.uint32), np.empty(len(a.columns), np.float32)
    divide(
        kernels.transpose_rows, count, bounds, a.begin, a.end, a.columns, a.values, counts, rows, values, chunks=chunks
    )
    return Sparse(begin[:-1], begin[1:], rows, values, a.rows)


def multiply(a: Sparse, diagonal: Floats, b: Sparse, bounds: Indices, chunks: int) -> Sparse:
    """Return `(A + diag) B`, with gaps between blocks."""
    begin, end = np.empty(a.rows, np.uint32), np.empty(a.rows, np.uint32)
    count = len(bounds) - 1
    left: tuple[Any, ...] = (a.begin, a.end, a.columns, a.values, diagonal)
    right: tuple[Any, ...] = (b.begin, b.end, b.columns, b.values, b.width)
    each = ROOM
    if a.rows > MANY * SAMPLE:
        run = np.array([a.rows // 2, a.rows // 2 + SAMPLE], np.uint32)
        size = _count_entries(a, *run) + SAMPLE
        limits, full = np.array([0, int(ROOM * size)], np.uint32), np.zeros(1, np.int64)
        columns, values = np.empty(limits[1], np.uint32), np.empty(limits[1], np.float32)
        kernels.multiply_rows(0, 1, run, limits, *left, *right, begin, end, columns, values, full)
        each = ROOM if full[0] else min(ROOM, MARGIN * int(end[run[1] - 1]) / size)
    entries = np.array([_count_entries(a, lo, hi) for lo, hi in pairwise(bounds)])
    room = (each * (entries + np.diff(bounds))).astype(np.int64) + 64
    full = np.zeros(count, np.int64)
    while True:
        limits = np.zeros(count + 1, np.uint32)
        np.cumsum(room, out=limits[1:])
        size = int(np.sum(room))
        columns, values = np.empty(size, np.uint32), np.empty(size, np.float32)
        divide(
            kernels.multiply_rows, count, bounds, limits, *left, *right, begin, end, columns, values, full,
            chunks=chunks,
        )  # fmt: skip
        if not full.any():
            return Sparse(begin, end, columns, values, b.width)
        room = np.where(full > 0, 2 * room, room)
