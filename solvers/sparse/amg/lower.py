"""The part of a level that a cycle reads: the entries before the diagonal within blocks, and those between blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.amg import levels_kernels as kernels

if TYPE_CHECKING:
    from relaxon.solvers.sparse.amg.hierarchy import Level

Floats = NDArray[np.float32]
Indices = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Across:
    """The entries between blocks: `columns[starts[m]:starts[m + 1]]` of row `rows[m]`; a block's rows begin at
    `bounds`."""

    bounds: Indices
    rows: Indices
    starts: Indices
    columns: Indices
    values: Floats

    @classmethod
    def of(cls, level: Level) -> Across:
        """Return a copy of the entries between the blocks of a level."""
        rows = np.flatnonzero(level.last > level.inner).astype(np.uint32)
        starts = np.zeros(len(rows) + 1, np.uint32)
        np.cumsum(level.last[rows] - level.inner[rows], out=starts[1:])
        places = np.arange(starts[-1]) + np.repeat(level.inner[rows].astype(np.int64) - starts[:-1], np.diff(starts))
        bounds = np.searchsorted(rows, level.bounds).astype(np.uint32)
        return cls(bounds, rows, starts, level.columns[places], level.values[places])


@dataclass(frozen=True, slots=True)
class Lower:
    """The entries before the diagonal within blocks: `columns[starts[i]:starts[i + 1]]` of row `i`."""

    starts: Indices
    columns: Indices
    values: Floats
    across: Across

    @classmethod
    def of(cls, level: Level) -> Lower:
        """Return a copy of the entries of a level that a cycle reads."""
        starts = np.zeros(level.rows + 1, np.uint32)
        np.cumsum(level.middle - level.first, out=starts[1:])
        columns, values = np.empty(int(starts[-1]), np.uint32), np.empty(int(starts[-1]), np.float32)
        level.over(
            kernels.copy_before_diagonal, level.first, level.middle, level.columns, level.values, starts, columns,
            values,
        )  # fmt: skip
        return cls(starts, columns, values, Across.of(level))
