"""The part of a level that a cycle reads: the entries before the diagonal within blocks, and those between blocks.

A level that was set up in one piece, so that aggregates may join any rows, may still be swept in two blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.large_arrays import empty
from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.sparse.amg import lower_kernels as kernels
from relaxon.solvers.sparse.system.row_runs import split_rows

if TYPE_CHECKING:
    from relaxon.solvers.sparse.amg.hierarchy import Level

Floats = NDArray[np.float32]
Indices = NDArray[np.uint32]


SPLIT = 1_000
"""Rows from which a level that was set up in one piece is swept in two blocks, for two threads."""
ACROSS = 0.25
"""Such a level stays in one block where more than this fraction of its couplings would lie between them."""
PIECES = 16
"""Pieces of a level among which threads divide a copy of its entries, whatever its blocks."""
ROW_COST = 3
"""Entries that take as long in a sweep as the rest of the work on a row."""


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
        bounds, inverse, excess = level.bounds, level.inverse, level.excess
        within, beyond = level.middle - level.first, level.last - level.inner
        if len(bounds) == 2 and level.rows >= SPLIT:
            work = np.cumsum(within, dtype=np.int64) + ROW_COST * np.arange(level.rows)
            halves = np.array([0, np.searchsorted(work, work[-1] // 2), level.rows], np.uint32)
            parts = empty((2, level.rows), np.uint32)
            divide(
                kernels.count_by_blocks, 2, halves, level.first, level.last, level.columns, *parts, chunks=level.chunks
            )
            if int(parts[1].sum()) <= ACROSS * max(1, 2 * int(within.sum())):
                bounds, within, beyond = halves, *parts
                inverse, excess = inverse.copy(), excess.copy()
        starts, rows = _starts_of(within), np.flatnonzero(beyond).astype(np.uint32)
        across = Across(
            np.searchsorted(rows, bounds).astype(np.uint32), rows, _starts_of(beyond[rows]),
            empty(int(beyond.sum()), np.uint32), empty(int(beyond.sum()), np.float32),
        )  # fmt: skip
        columns, values = empty(int(starts[-1]), np.uint32), empty(int(starts[-1]), np.float32)
        ends, near = empty(level.rows, np.uint32), empty(level.rows, np.float32)
        pieces = bounds if level.chunks == 1 else np.union1d(bounds, split_rows(level.rows, PIECES)).astype(np.uint32)
        divide(
            kernels.copy_by_blocks, len(pieces) - 1, pieces, bounds, level.first, level.last, level.columns,
            level.values, starts, ends, near, columns, values, np.searchsorted(rows, pieces), across.starts,
            across.columns, across.values, bounds is not level.bounds, level.diagonal, inverse, excess,
            chunks=level.chunks,
        )  # fmt: skip
        shares = _share_aggregates(level, bounds)
        return cls(bounds, starts, ends, near, columns, values, across, inverse, excess, *shares)


def _starts_of(counts: Indices) -> Indices:
    starts = np.zeros(len(counts) + 1, np.uint32)
    np.cumsum(counts, out=starts[1:])
    return starts


def _share_aggregates(level: Level, bounds: Indices) -> tuple[Indices, Indices, Indices]:
    """Return the first aggregate of each block, and the rows of others that belong to its aggregates, with their
    bounds."""
    blocks, count, group = len(bounds) - 1, int(level.offsets[-1]), level.group
    nowhere = np.zeros(blocks + 1, np.uint32), np.empty(0, np.uint32)
    if level.smoothed is not None:
        return split_rows(count, blocks), *nowhere
    if bounds is level.bounds:
        return (level.offsets if len(level.offsets) == blocks + 1 else nowhere[0]), *nowhere
    offsets = np.array([0, *(int(group[:end].max()) + 1 for end in bounds[1:-1]), count], np.uint32)
    owner = np.searchsorted(offsets[1:], group, "right")
    block = np.repeat(np.arange(blocks), np.diff(bounds).astype(np.int64))
    joined = np.flatnonzero((owner != block) & (group >= 0))
    joined = joined[np.argsort(owner[joined], kind="stable")]
    return offsets, np.searchsorted(owner[joined], np.arange(blocks + 1)).astype(np.uint32), joined.astype(np.uint32)
