"""Matrices of small dense blocks in float32, and their products by several threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.sparse.nodal import block_kernels, pattern_kernels
from relaxon.solvers.sparse.system.row_runs import count_threads, split_rows

Floats = NDArray[np.float32]
Indices = NDArray[np.uint32]
PARTS, PART = 8, 1_024
"""Largest number of parts of a level's rows, and least nodes of a part."""
SHARED_NODES = 4_096
"""Nodes from which a level's work is divided among threads."""


class Couplings(NamedTuple):
    """The strength of couplings: those with `norms[k] < square √(most[i] most[j])` are weak.

    `norms` are the squared Frobenius norms of the blocks, `most` is the largest one off the diagonal in each row. Where
    `square` is 0 all couplings are strong.
    """

    square: np.float32
    norms: Floats
    most: Floats


ALL = Couplings(np.float32(0), np.zeros(1, np.float32), np.zeros(1, np.float32))


@dataclass(slots=True)
class Blocks:
    """A matrix of blocks `height × width`: row `i` has blocks `first[i] … last[i] − 1`, `values[k, c, r]`."""

    first: Indices
    last: Indices
    columns: Indices
    values: Floats

    @property
    def rows(self) -> int:
        return len(self.first)

    @property
    def height(self) -> int:
        return int(self.values.shape[2])

    @property
    def width(self) -> int:
        return int(self.values.shape[1])


def split_parts(rows: int) -> Indices:
    """Return the bounds of a level's parts, which depend on its size alone."""
    count = max(1, min(rows // PART, PARTS)) if rows >= SHARED_NODES else 1
    return split_rows(rows, count)


def over(bounds: Indices, kernel: Any, *args: Any, work: Any = None) -> None:
    """Run a kernel over parts of rows, in several threads where there are many rows."""
    chunks = count_threads(int(bounds[-1]), SHARED_NODES)
    divide(kernel, len(bounds) - 1, bounds, *args, chunks=chunks, work=work)


def product(bounds: Indices, a: Blocks, b: Blocks, count: int, couplings: Couplings | None = None) -> Blocks:
    """Return `A B`, where `B` has `count` block columns; weak `couplings` of `A` are left out."""
    counts = np.empty(a.rows, np.uint32)

    def seen() -> tuple[Indices]:
        return (np.zeros(count, np.uint32),)

    patterns = a.first, a.last, a.columns
    weak = ALL if couplings is None else couplings
    over(bounds, pattern_kernels.count_product, *patterns, *weak, b.first, b.last, b.columns, counts, work=seen)
    first, last, size = row_starts(counts)
    columns, values = np.empty(size, np.uint32), np.empty((size, b.width, a.height), np.float32)
    over(
        bounds, block_kernels.multiply_matrices, (0,) * a.height, (0,) * a.width, (0,) * b.width, *patterns, a.values,
        *weak, b.first, b.last, b.columns, b.values, first, columns, values, work=seen,
    )  # fmt: skip
    return Blocks(first, last, columns, values)


def row_starts(counts: Indices) -> tuple[Indices, Indices, int]:
    """Return the first and last places of rows with that many entries, and the number of all entries."""
    ends = np.cumsum(counts, dtype=np.int64)
    first = np.zeros(len(counts), np.uint32)
    first[1:] = ends[:-1]
    return first, ends.astype(np.uint32), int(ends[-1]) if len(ends) else 0


def transpose(p: Blocks, columns: int) -> Blocks:
    """Return the transpose of a matrix with that many block columns."""
    order = np.argsort(p.columns, kind="stable")
    first, last, _ = row_starts(np.bincount(p.columns, minlength=columns).astype(np.uint32))
    rows = np.repeat(np.arange(p.rows, dtype=np.uint32), p.last - p.first)
    return Blocks(first, last, rows[order], np.ascontiguousarray(p.values[order].transpose(0, 2, 1)))


def multiply(bounds: Indices, a: Blocks, x: Floats, y: Floats, added: bool = False, sign: float = 1.0) -> None:
    """Write `y ← sign·A x`, or `y ← y + sign·A x` where `added`."""
    over(
        bounds, block_kernels.multiply, (0,) * a.height, (0,) * a.width, a.first, a.last, a.columns, a.values,
        added, np.float32(sign), x, y,
    )  # fmt: skip
