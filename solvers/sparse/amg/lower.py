"""The part of a level that a cycle reads: the entries before the diagonal within blocks, and those between blocks.

A level that was set up in one piece, so that aggregates may join any rows, may still be swept in two blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.sparse.amg import lower_kernels as kernels
from relaxon.solvers.sparse.amg.levels_kernels import BEFORE, BEYOND, COUNTS, LINKED, PIECES
from relaxon.solvers.sparse.system.row_runs import split_rows

if TYPE_CHECKING:
    from relaxon.solvers.sparse.amg.hierarchy import Level

Floats = NDArray[np.float32]
Indices = NDArray[np.uint32]


SPLIT = 1_000
"""Rows from which a level that was set up in one piece is swept in two blocks, for two threads."""
ACROSS = 0.25
"""Such a level stays in one block where more than this fraction of its couplings would lie between them."""
ROW_COST = 3
"""Entries that take as long in a sweep as the rest of the work on a row."""
WEAK, MOSTLY = 0.02, 0.5
"""Couplings below this fraction of the strongest ones of both rows are weak; a cycle leaves them out where they are at
least this fraction of a level's couplings."""
SAMPLE = 500
"""Rows in which weak couplings are counted."""


@dataclass(frozen=True, slots=True)
class Across:
    """The entries between blocks: `columns[starts[m]:starts[m + 1]]` of row `rows[m]`; a block's rows begin at
    `bounds`."""

    bounds: Indices
    rows: Indices
    starts: Indices
    columns: Indices
    values: Floats


@dataclass(frozen=True, slots=True)
class Lower:
    """The part of a level that a cycle reads, over blocks of its own.

    The entries before the diagonal within blocks are `columns[starts[i]:starts[i + 1]]` of row `i`. One beside the
    diagonal, in column `i − 1`, is the last of them, at `ends[i]`, and also `near[i]`, which is 0 where there is none:
    sweeps keep its unknown in a register, as they would else wait for what they have just stored. Block `k` sums the
    residuals of the aggregates `offsets[k] … offsets[k + 1] − 1`, whose members are rows of the block and
    `joined[joined_bounds[k]:joined_bounds[k + 1]]`, which lie in other blocks.

    Where most couplings are weak, as across stretched cells, they are left out, and added to the diagonal: sweeps and
    residuals know only the strong ones, and the weak ones act on the aggregates alone, in the next level's matrix. The
    cycle stays symmetric and definite. No product with such a level's matrix is taken, as it takes one step a visit.
    """

    bounds: Indices
    starts: Indices
    ends: Indices
    near: Floats
    columns: Indices
    values: Floats
    across: Across
    inverse: Floats
    excess: Floats
    offsets: Indices
    joined_bounds: Indices
    joined: Indices

    @classmethod
    def of(cls, level: Level) -> Lower:
        """Return a copy of the entries of a level that a cycle reads."""
        bounds, inverse, excess, counts = level.bounds, level.inverse, level.excess, level.counts
        if len(bounds) == 2 and level.rows >= SPLIT:
            halves, own = np.array([0, 0, level.rows], np.uint32), np.empty_like(counts)
            divide(
                kernels.count_in_halves, PIECES, ROW_COST, halves, counts, level.first, level.middle, level.last,
                level.columns, own, chunks=level.chunks,
            )  # fmt: skip
            if _total(own, BEYOND) <= ACROSS * max(1, 2 * _total(counts, BEFORE)):
                bounds, inverse, excess, counts = halves, inverse.copy(), excess.copy(), own
        splits = level.takes_one_step and level.smoothed is not None and _is_mostly_weak(level)
        weak = np.float32(WEAK if splits else 0.0)
        if splits:
            inverse, counts = inverse.copy(), counts.copy()
            divide(
                kernels.count_kept, PIECES, bounds, level.first, level.middle, level.columns, level.values, level.most,
                weak, counts, chunks=level.chunks,
            )  # fmt: skip
        before, beyond, linked = (_total(counts, which) for which in (BEFORE, BEYOND, LINKED))
        starts = np.full(level.rows + 1, before, np.uint32)
        columns, values = np.empty(before, np.uint32), np.empty(before, np.float32)
        across = Across(
            np.full(len(bounds), linked, np.uint32), np.empty(linked, np.uint32),
            np.full(linked + 1, beyond, np.uint32), np.empty(beyond, np.uint32), np.empty(beyond, np.float32),
        )  # fmt: skip
        ends, near = np.empty(level.rows, np.uint32), np.empty(level.rows, np.float32)
        divide(
            kernels.copy_by_blocks, PIECES, bounds, counts, level.first, level.last, level.columns, level.values,
            starts, ends, near, columns, values, across.bounds, across.rows, across.starts, across.columns,
            across.values, bounds is not level.bounds, level.diagonal, inverse, excess, level.most, weak,
            chunks=level.chunks,
        )  # fmt: skip
        shares = _share_aggregates(level, bounds)
        return cls(bounds, starts, ends, near, columns, values, across, inverse, excess, *shares)


def sample_couplings(level: Level) -> tuple[Floats, Floats, Floats]:
    """Return the couplings of a sample of rows, with the strongest coupling of either row of each."""
    rows = np.random.default_rng(0).integers(0, level.rows, SAMPLE)
    lengths = (level.last[rows] - level.first[rows]).astype(np.int64)
    places = np.arange(int(lengths.sum())) + np.repeat(level.first[rows] - np.cumsum(lengths) + lengths, lengths)
    return level.values[places], np.repeat(level.most[rows], lengths), level.most[level.columns[places]]


def _is_mostly_weak(level: Level) -> bool:
    """Return whether most couplings, in a sample of rows, are weak."""
    values, own, other = sample_couplings(level)
    weak = (values < 0) & (-values < WEAK * np.minimum(own, other))
    return len(weak) > 0 and bool(weak.mean() >= MOSTLY)


def _total(counts: Indices, which: int) -> int:
    return int(counts[which::COUNTS].sum())


def _share_aggregates(level: Level, bounds: Indices) -> tuple[Indices, Indices, Indices]:
    """Return the first aggregate of each block, and the rows of others that belong to its aggregates, with their
    bounds."""
    blocks, count, group = len(bounds) - 1, int(level.offsets[-1]), level.group
    nowhere = np.zeros(blocks + 1, np.uint32), np.empty(0, np.uint32)
    if level.smoothed is not None:
        return split_rows(count, blocks), *nowhere
    if bounds is level.bounds:
        return (level.offsets if len(level.offsets) == blocks + 1 else nowhere[0]), *nowhere
    # Rows of the second half may belong to an aggregate of the first; −1, which is none, becomes the largest number.
    offsets = np.array([0, int(group[: bounds[1]].max()) + 1, count], np.uint32)
    joined = np.flatnonzero(group[bounds[1] :].view(np.uint32) < offsets[1]).astype(np.uint32) + bounds[1]
    return offsets, np.array([0, len(joined), len(joined)], np.uint32), joined
