"""The hierarchy of levels, each of which has the aggregates of the one above as its unknowns, in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.scaling import mean_scale_of_many
from relaxon.solvers.kernels.team_kernels import run_team
from relaxon.solvers.kernels.threads import Call, Work, divide
from relaxon.solvers.sparse.amg import coarsening_kernels as kernels
from relaxon.solvers.sparse.amg import levels_kernels
from relaxon.solvers.sparse.amg.coarsest import dense_inverse
from relaxon.solvers.sparse.amg.constants import DEFAULTS, MOST_MATCHINGS, Constants
from relaxon.solvers.sparse.amg.levels_kernels import COUNTS, ENTRIES, PIECES
from relaxon.solvers.sparse.amg.lower import WEAK, Lower, sample_couplings
from relaxon.solvers.sparse.amg.quality import Fit
from relaxon.solvers.sparse.amg.quality_kernels import RUN_OF_ROWS, count_lined
from relaxon.solvers.sparse.amg.smoothed_aggregation import (
    STRENGTH,
    AggregateRows,
    Smoothed,
    interpolate,
    project_smoothed,
)
from relaxon.solvers.sparse.amg.units import find_weights, scale_unknowns
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem
from relaxon.solvers.sparse.system.row_runs import count_threads, split_rows

Floats = NDArray[np.float32]
DENSE_AT_MOST = 1500
"""Rows up to which the last level is solved by a dense inverse where coarsening has come to a halt."""
STALLED = 0.7
"""A level that keeps more than this fraction of its rows is coarsened again with couplings of any strength."""
BLOCK, BLOCKS, DIVIDED = 20_000, 8, 40_000
"""Least rows of a block, largest number of blocks, and rows from which a level is divided into blocks."""
SCATTERED = 0.05
"""Rows are put in breadth-first order where more than this fraction of the couplings leave their block."""
MAX_LEVELS = 40
SHRINKS = 0.6
"""Fraction of rows and entries for which there is room from the second matching on: one half, and a margin."""
MISFIT, MISFIT_BELOW = 1.45, 0.9
"""Deviation of smooth errors from constants on aggregates above which smoothed aggregation is tried instead of pairs:
on the first level, and below a level that uses it. Pairs of pairs have 1.0 for a Laplacian in two dimensions, 1.5 for
bilinear elements stretched 1 : 10, and 2.0 for lines."""
CLOSE, MANY, UNEVEN = 1.2, 12, 0.15
"""Deviation up to which pairs of pairs are paired once more, entries of a row from which they are, in the mean, and the
largest fraction of weak couplings: where a row has many equal couplings, eights fit nearly as well as fours, and levels
below have half the rows. Tetrahedra have 16 entries a row and 0.1 of weak couplings, with contrast 0.2 to 0.35."""
BETTER_FIT = 1.6
"""Factor by which the deviation must be smaller with smoothed aggregation."""
LINED, LOOKED_AT = 0.8, 64
"""Fraction of rows with two strong couplings from which a level is made of lines, and the runs of rows in a sample."""
FILLED = 2.7
"""Largest mean number of entries in a row of a smoothed interpolation: with more, coarse matrices fill in."""
ISOLATED = 1e-4
"""Fraction of its largest diagonal entry to which an aggregate's coupling to others must sum for a smoothed
interpolation, whose products have the rounding of float32."""
HALTED = 0.9
"""A level that keeps more than this fraction of its rows even then is the last one."""
OF_SET_UP = ("first", "middle", "inner", "last", "columns", "values", "diagonal", "most", "surplus")
"""The arrays of a level that only a set-up reads."""
NEGATIVE, ROUNDING = 0.01, 1e-6
"""Fractions of its row's strongest coupling and of the first diagonal up to which a negative entry is rounding."""


@dataclass(slots=True)
class Level:
    """One level: its matrix in sweeping order, its aggregates, and the transfer to the next level."""

    bounds: NDArray[np.uint32]
    first: NDArray[np.uint32]
    middle: NDArray[np.uint32]
    inner: NDArray[np.uint32]
    last: NDArray[np.uint32]
    columns: NDArray[np.uint32]
    values: Floats
    diagonal: Floats
    inverse: Floats
    excess: Floats
    most: Floats
    surplus: NDArray[np.float64]
    sums: Floats
    labels: NDArray[np.int32] | None
    counts: NDArray[np.uint32]
    """What `levels_kernels.arrange_rows` has counted in pieces of the rows."""
    group: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    offsets: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(1, np.uint32))
    targets: NDArray[np.uint32] | None = None
    """The entry of the next level to which each entry is added, known after the first update."""
    places: NDArray[np.uint32] | None = None
    """On the first level, the place of each of the matrix's entries, known after the first update."""
    smoothed: Smoothed | None = None
    released: bool = False
    """Whether the arrays that only a set-up reads have been."""
    takes_one_step: bool = False
    """Whether a cycle takes one step on each visit, whatever the levels below."""
    half: Lower | None = None
    """The part of the matrix that a cycle reads, where the rest was released before there is a cycle."""

    @property
    def lower(self) -> Lower:
        """The part of the matrix that a cycle reads, as a copy."""
        return Lower.of(self) if self.half is None else self.half

    def give_up(self) -> None:
        """Release the arrays that only a set-up reads, and keep what a cycle reads."""
        self.half = self.lower
        self.released = True
        for name in OF_SET_UP:
            setattr(self, name, getattr(self, name)[:0].copy())

    @property
    def rows(self) -> int:
        return len(self.sums)

    @property
    def entries(self) -> int:
        return int(self.counts[ENTRIES::COUNTS].sum()) + self.rows

    @property
    def chunks(self) -> int:
        return count_threads(self.rows, entries=len(self.columns))

    def over(self, kernel: Any, *args: Any, work: Work | None = None) -> None:
        """Run a kernel over the level's blocks; `work` returns the scratch memory of one thread."""
        divide(kernel, len(self.bounds) - 1, self.bounds, *args, chunks=self.chunks, work=work)


def split_blocks(rows: int) -> NDArray[np.uint32]:
    """Return the bounds of a level's blocks, which depend on its size alone."""
    # An even number, as there are two threads most often.
    count = max(1, min(rows // BLOCK // 2 * 2, BLOCKS)) if rows >= DIVIDED else 1
    return split_rows(rows, count)


def build_finest(system: MatrixSystem, relaxation: float) -> tuple[Level, NDArray[np.uint32] | None, float]:
    """Build the first level; return it, the order of its rows where that is not the matrix's, and its scale factor."""
    a, n = system.matrix, system.unknowns
    indptr, indices = a.indptr.view(np.uint32), a.indices.view(np.uint32)
    scale = mean_scale_of_many(system.diagonal)
    labels = None if system.null.labels is None else system.null.labels.reshape(-1)
    bounds = split_blocks(n)
    order = None
    begin, end, columns, values = indptr[:-1], indptr[1:], indices, a.data
    if len(bounds) > 2 and is_scattered(indptr, indices, n // (len(bounds) - 1)):
        order, place = np.empty(n, np.uint32), np.empty(n, np.uint32)
        levels_kernels.order_breadth_first(indptr, indices, order, place)
        begin, end = np.zeros(n, np.uint32), np.empty(n, np.uint32)
        np.cumsum(np.diff(a.indptr)[order[:-1]], out=begin[1:])
        columns, values = np.empty(a.nnz, np.uint32), np.empty(a.nnz)
        divide(
            levels_kernels.permute_rows, PIECES, split_rows(n, PIECES), order, place, indptr, indices, a.data, begin,
            end, columns, values, chunks=count_threads(n),
        )  # fmt: skip
        if is_scattered(np.append(begin, np.uint32(a.nnz)), columns, n // (len(bounds) - 1)):
            bounds = bounds[[0, -1]]  # a graph without geometry, whose structure blocks would not respect
        labels = None if labels is None else labels[order]
    held = bool((system.diagonal > 0).all())
    level = arrange(bounds, begin, end, columns, values, scale, None, labels, relaxation, held)
    return level, order, scale


def is_scattered(indptr: NDArray[np.uint32], indices: NDArray[np.uint32], reach: int) -> bool:
    """Return whether many couplings, in a sample of rows, reach farther than the length of a block."""
    count, far = levels_kernels.count_far(max(1, (len(indptr) - 1) // 2000), reach, indptr, indices)
    return bool(far > SCATTERED * count)


def arrange(
    bounds: NDArray[np.uint32],
    begin: NDArray[np.uint32],
    end: NDArray[np.uint32],
    columns: NDArray[np.uint32],
    values: NDArray[Any],
    scale: float,
    surplus: NDArray[np.float64] | None,
    labels: NDArray[np.int32] | None,
    relaxation: float,
    with_diagonal: bool = False,
) -> Level:
    """Return the level of given rows, with entries in any order; `surplus` are row sums, None to compute them.

    Where each row has a diagonal entry, `with_diagonal` saves the room for it.
    """
    n, fresh = len(begin), surplus is None
    sums = np.empty(n) if surplus is None else surplus
    size = (len(columns) if fresh else count_entries(begin, end)) - (n if with_diagonal else 0)
    first, middle, inner, last = (np.empty(n, np.uint32) for _ in range(4))
    diagonal, inverse, excess, most, short = (np.empty(n, np.float32) for _ in range(5))
    out_columns, out_values = np.empty(size, np.uint32), np.empty(size, np.float32)
    counts = np.empty(COUNTS * PIECES, np.uint32)
    run_team(
        levels_kernels.arrange_rows, bounds, counts, np.uint32(with_diagonal), begin, end, columns, values, scale,
        relaxation, fresh, sums, diagonal, inverse, excess, most, short, first, middle, inner, last, out_columns,
        out_values, members=count_threads(n, entries=size),
    )  # fmt: skip
    if fresh and labels is not None:
        sums[labels > 0] = short[labels > 0] = 0.0
    return Level(
        bounds, first, middle, inner, last, out_columns, out_values, diagonal, inverse, excess, most, sums, short,
        labels, counts,
    )  # fmt: skip


def coarsen(
    level: Level,
    constants: Constants,
    strength: float,
    anyone: bool,
    beside: Call | None = None,
    deepens: Callable[[NDArray[np.int32]], bool] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.uint32], AggregateRows]:
    """Pair rows, then pairs; return each row's aggregate, the first aggregate of each block, and `Pᵀ A P`.

    Before its part in the first matching a thread calls `beside`. Where `deepens` says so of the aggregates, they are
    paired once more.
    """
    n, count, members = level.rows, len(level.bounds) - 1, level.chunks
    given = AggregateRows(
        level.bounds, level.first, level.last, level.columns, level.values, level.surplus, level.diagonal, level.most
    )
    group, again, heads, link, size = (np.empty(n, np.int32) for _ in range(5))
    counts, room = np.empty(count, np.int64), np.empty(2 * PIECES, np.uint32)
    rows, done = [given], np.zeros(1, np.int64)
    total, entries, most, wanted = n, level.entries - n, SHRINKS, constants.matchings
    while (begun := int(done[0])) < wanted:  # again where there is more than usual, or groups are paired once more
        shares = SHRINKS ** np.arange(wanted - begun)
        rows += [allocate_rows(int(most * total * share), count, int(entries * share)) for share in shares]
        seen = np.empty((members, len(rows[begun + 1].first)), np.uint32)
        sets = rows + [given] * (MOST_MATCHINGS + 1 - len(rows))  # so that a kernel has the same types
        run_team(
            kernels.match_repeatedly, done, wanted, np.float32(strength**2),
            np.float32(constants.dominated), anyone, tuple(one.arrays for one in sets), group, again, counts, room,
            heads, link, size, seen, members=members, beside=beside,
        )  # fmt: skip
        rows, beside, most = rows[: done[0] + 1], None, 1.0
        total, entries = int(rows[-1].bounds[-1]), int(room[PIECES:].sum()) if done[0] > begun else entries
        for name in ("first", "last", "surplus", "weight", "most"):
            setattr(rows[-1], name, getattr(rows[-1], name)[:total])
        if done[0] == constants.matchings < MOST_MATCHINGS and deepens is not None and deepens(group):
            wanted += 1
    return group, rows[-1].bounds, rows[-1]


def allocate_rows(total: int, blocks: int, entries: int) -> AggregateRows:
    """Allocate the rows of `total` aggregates in `blocks` blocks, with that many entries."""
    return AggregateRows(
        np.zeros(blocks + 1, np.uint32), np.empty(total, np.uint32), np.empty(total, np.uint32),
        np.empty(entries, np.uint32), np.empty(entries, np.float32), np.empty(total), np.empty(total, np.float32),
        np.empty(total, np.float32),
    )  # fmt: skip


def count_entries(begin: NDArray[np.uint32], end: NDArray[np.uint32]) -> int:
    """Return the number of entries in rows with these begins and ends."""
    return int(np.sum(end, dtype=np.int64) - np.sum(begin, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Levels from fine to coarse, and the inverse of the last one's matrix, which is empty where that has too many
    rows.

    `order[i]` is the matrix's row that is row `i` of the first level, None where they are the same. `scale` is the
    factor of the values, `constants` are those of the set-up and of the cycle. With `weights` the first level's matrix
    is `W A W`: the argument of the cycle must be multiplied by them before, and its result after.
    """

    levels: tuple[Level, ...]
    solution: NDArray[np.float64]
    order: NDArray[np.uint32] | None
    scale: float
    constants: Constants
    weights: NDArray[np.float64] | None = None
    negative: float = 0.0
    """The curvature of an aggregate's vector where one is negative, else 0."""

    @classmethod
    def of(cls, system: MatrixSystem, constants: Constants = DEFAULTS, whole: bool = True) -> Hierarchy:
        """Set up the levels of a matrix; without `whole`, each releases early what only a set-up reads."""
        weights = find_weights(system)
        level, order, scale = build_finest(scale_unknowns(system, weights), constants.relaxation)
        levels, negative, rounding = [level], 0.0, ROUNDING * float(level.diagonal.max(initial=0.0))
        allowed: float | None = MISFIT
        while level.rows > constants.dense and len(levels) < MAX_LEVELS:
            following = build_next_level(level, constants, allowed)
            if following is None:
                break
            allowed = None if level.smoothed is None else MISFIT_BELOW
            level.takes_one_step = len(levels) == 1 or level.entries > constants.twice * levels[-2].entries
            if not whole:
                level.give_up()
            level = following
            levels.append(level)
            negative = float(find_negative(level, rounding).min(initial=scale * negative)) / scale
        if level.rows <= DENSE_AT_MOST:
            return cls(tuple(levels), dense_inverse(level), order, scale, constants, weights, negative)
        level.group = np.full(level.rows, -1, np.int32)
        level.offsets = np.zeros(len(level.bounds), np.uint32)
        return cls(tuple(levels), np.zeros((0, 0)), order, scale, constants, weights, negative)

    @property
    def operator_complexity(self) -> float:
        """The entries of all levels over those of the first."""
        return sum(level.entries for level in self.levels) / max(1, self.levels[0].entries)


def build_next_level(level: Level, constants: Constants, allowed: float | None) -> Level | None:
    """Aggregate a level's rows, and build the level of the aggregates; None where coarsening has come to a halt.

    Aggregates are pairs of pairs, paired once more where these fit closely, or where their deviation is above
    `allowed`, those of smoothed aggregation if these fit better. With `allowed` None the deviation is not computed.
    Lines are too far from pairs of pairs to try these first.
    """
    fit, found, misfit = Fit(level), None, 0.0

    def is_close(group: NDArray[np.int32]) -> bool:
        nonlocal misfit
        misfit = fit.deviation(group)
        many = constants.matchings == 2 and level.entries >= MANY * level.rows
        return many and misfit <= CLOSE and is_even(level)

    if allowed is not None and is_made_of_lines(level):
        found = build_smoothed_level(level, constants, fit, allowed)
    if found is not None:
        return found
    beside, deepens = (None, None) if allowed is None else (fit.relax, is_close)
    group, offsets, rows = coarsen(level, constants, constants.strength, False, beside, deepens)
    if allowed is not None:
        found = build_smoothed_level(level, constants, fit, misfit) if misfit > allowed else None
        if found is not None:
            return found
    if len(rows.first) > STALLED * level.rows:
        group, offsets, rows = coarsen(level, constants, 0.0, True)
        if len(rows.first) > HALTED * level.rows:
            return None
    level.group, level.offsets = group, offsets
    return build_below(level, rows, constants)


def is_made_of_lines(level: Level) -> bool:
    """Return whether most rows, in a sample, have two strong couplings, as cells stretched in one direction have."""
    found = count_lined(
        LOOKED_AT, level.first, level.last, level.columns, level.values, level.most, np.float32(STRENGTH**2)
    )
    return bool(found >= LINED * RUN_OF_ROWS * LOOKED_AT)


def is_even(level: Level) -> bool:
    """Return whether few couplings, in a sample of rows, are weak beside the strongest ones of both rows."""
    values, own, other = sample_couplings(level)
    return int((values * values < np.float32(WEAK**2) * own * other).sum()) <= UNEVEN * len(values)


def has_isolated(level: Level, group: NDArray[np.int32], count: int) -> bool:
    """Return whether an aggregate's coupling to everything else is small beside its inner ones.

    In float32 the products of a smoothed interpolation then hold rounding in the place of that coupling.
    """
    coupled = level.most[level.most > 0]
    if not float(coupled.max(initial=0.0)) * ISOLATED > float(coupled.min(initial=np.inf)):
        return False
    lengths = (level.last - level.first).astype(np.int64)
    own = np.repeat(np.arange(level.rows), lengths)
    places = np.arange(len(own)) + np.repeat(level.first - np.cumsum(lengths) + lengths, lengths)
    inner = group[own] == group[level.columns[places]]
    kept = np.bincount(own[inner], level.values[places[inner]].astype(float), level.rows)
    inside = group >= 0
    left = np.bincount(group[inside], (level.diagonal + kept)[inside], count)
    size = np.zeros(count)
    np.maximum.at(size, group[inside], level.diagonal[inside])
    return bool((left < ISOLATED * size).any())


def build_smoothed_level(level: Level, constants: Constants, fit: Fit, misfit: float) -> Level | None:
    """Build the next level by smoothed aggregation; None where it fits no better than `misfit`, coarsens too little,
    fills in, or has lost a diagonal entry to rounding."""
    group, offsets, interpolation = interpolate(level, constants.dominated, STALLED * level.rows, fit.relax)
    if interpolation is None:
        return None
    p, total = interpolation
    if len(p.columns) > FILLED * level.rows or BETTER_FIT * fit.deviation(group, p) > misfit:
        return None
    if has_isolated(level, group, int(offsets[-1])):
        return None
    level.group, level.offsets = group, offsets
    level.smoothed, rows = project_smoothed(level, p, total, offsets)
    below = build_below(level, rows, constants)
    if len(find_negative(below, ROUNDING * float(level.diagonal.max()))) == 0:
        return below
    level.smoothed = None  # where the matrix itself is indefinite, pairs find that too
    return None


def find_negative(level: Level, rounding: float) -> Floats:
    """Return the diagonal entries that are negative by more than `rounding` and what the row's couplings explain."""
    found: Floats = level.diagonal[level.diagonal < -np.maximum(NEGATIVE * level.most, rounding)]
    return found


def build_below(level: Level, rows: AggregateRows, constants: Constants) -> Level:
    """Build the level of a level's aggregates, whose matrix is `rows`."""
    count, relaxation = len(rows.first), constants.relaxation
    labels = aggregate_labels(level, count)
    # A large level in one block has a structure that blocks do not respect, and so have the levels below it.
    bounds = split_blocks(count) if len(level.bounds) > 2 else np.array([0, count], np.uint32)
    return arrange(bounds, rows.first, rows.last, rows.columns, rows.values, 1.0, rows.surplus, labels, relaxation)


def aggregate_labels(level: Level, count: int) -> NDArray[np.int32] | None:
    """Return the number of the singular component of each of a level's `count` aggregates, None where there is none."""
    if level.labels is None:
        return None
    labels = np.zeros(count + 1, np.int32)
    labels[level.group] = level.labels  # those of rows in no aggregate, which is −1, go into the last place
    return labels[:-1]
