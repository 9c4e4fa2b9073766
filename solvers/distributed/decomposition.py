"""How a grid is shared among processes: by cuts across its first axis, and in three dimensions also across its second.

The last axis stays whole: along it the kernels' inner loops run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from relaxon.core import validation

MOST_ALIGNMENT = 4
"""Cuts are put at multiples of at most two to this power, so that coarse levels can be cut at the same places."""
LEAST_PLANES = 3
"""The least thickness of a part of a level: so many planes of the neighbours are kept beside it."""

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Decomposition:
    """Which cells each process owns.

    Parameters
    ----------
    shape : of the grid, 2 or 3 axes.
    bounds : for the first axis and, in three dimensions, the second: where its parts begin, and the end; strictly
        rising from 0 to the axis's length. Parts have at least 3 cells where there is more than one. Process
        `i · parts[1] + j` owns part `i` of the first axis and `j` of the second.

    Examples
    --------
    >>> split = Decomposition.of((64, 64, 64), 4)
    >>> split.parts, split.owned(1)
    ((4, 1), (slice(16, 32, None), slice(0, 64, None), slice(0, 64, None)))
    """

    shape: tuple[int, ...]
    bounds: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if len(self.shape) not in (2, 3):
            raise ValueError(f"shape must have 2 or 3 axes, got {self.shape}")
        for axis, n in enumerate(self.shape):
            validation.positive_int(f"shape[{axis}]", n)
        if len(self.bounds) != len(self.shape) - 1:
            raise ValueError(f"bounds must be of {len(self.shape) - 1} axes, got {len(self.bounds)}")
        for axis, cuts in enumerate(self.bounds):
            rising = all(type(c) is int for c in cuts) and all(a < b for a, b in pairwise(cuts))
            if len(cuts) < 2 or not rising or cuts[0] != 0 or cuts[-1] != self.shape[axis]:
                raise ValueError(f"bounds[{axis}] must rise from 0 to {self.shape[axis]}, got {cuts}")
            if len(cuts) > 2 and self.thinnest(axis) < LEAST_PLANES:
                raise ValueError(
                    f"bounds[{axis}] must leave every part at least {LEAST_PLANES} cells, got {cuts}; "
                    "take fewer processes"
                )

    @classmethod
    def of(cls, shape: Sequence[int], processes: int, parts: tuple[int, int] | None = None) -> Decomposition:
        """Return an even decomposition for so many processes; `parts` along the first two axes, chosen where None.

        Cuts are at multiples of a power of two where the parts are thick enough for that.
        """
        size = tuple(shape)
        processes = validation.positive_int("processes", processes)
        if parts is None:
            parts = _parts(size, processes)
        elif parts[0] * parts[1] != processes or (len(size) == 2 and parts[1] != 1):
            raise ValueError(f"parts must be two numbers with the product {processes}, got {parts}")
        return cls(size, tuple(_cuts(n, p) for n, p in zip(size[:-1], parts, strict=False)))

    @property
    def processes(self) -> int:
        return math.prod(self.parts)

    @property
    def parts(self) -> tuple[int, int]:
        """Parts along the first two axes; a grid of two dimensions is cut along the first only."""
        second = len(self.bounds[1]) - 1 if len(self.bounds) > 1 else 1
        return len(self.bounds[0]) - 1, second

    def owned(self, rank: int) -> tuple[slice, ...]:
        """Return the cells of a process, as an index into an array of `shape`."""
        place = self.place(rank)
        cut = [slice(cuts[i], cuts[i + 1]) for cuts, i in zip(self.bounds, place, strict=False)]
        return (*cut, slice(0, self.shape[-1]))

    def place(self, rank: int) -> tuple[int, int]:
        """Return which part of each cut axis a process owns."""
        if not 0 <= rank < self.processes:
            raise ValueError(f"rank must be from 0 to {self.processes - 1}, got {rank}")
        return rank // self.parts[1], rank % self.parts[1]

    def beside(self, rank: int, axis: int, step: int, periodic: bool) -> int | None:
        """Return the process that owns the next part along an axis; None beyond a side, and where the axis is whole."""
        place, count = list(self.place(rank)), self.parts[axis]
        place[axis] += step
        if count == 1 or not (periodic or 0 <= place[axis] < count):
            return None
        place[axis] %= count
        return place[0] * self.parts[1] + place[1]

    def thinnest(self, axis: int) -> int:
        """Return the length of the shortest part of a cut axis."""
        cuts = self.bounds[axis]
        return min(b - a for a, b in pairwise(cuts))


def _parts(shape: tuple[int, ...], processes: int) -> tuple[int, int]:
    """Return slabs while they are thick enough to be worth it, else the columns with the least surface."""
    if len(shape) == 2:
        return processes, 1
    pairs = [(p, processes // p) for p in range(1, processes + 1) if processes % p == 0]
    possible = [(p, q) for p, q in pairs if shape[0] >= LEAST_PLANES * p and shape[1] >= LEAST_PLANES * q] or pairs
    slab_thickness = 16
    if (processes, 1) in possible and shape[0] // processes >= slab_thickness:
        return processes, 1
    return min(possible, key=lambda pair: (pair[0] / shape[0] + pair[1] / shape[1], pair[1]))


def _cuts(n: int, parts: int) -> tuple[int, ...]:
    if parts == 1:
        return (0, n)
    for power in range(MOST_ALIGNMENT, -1, -1):
        unit = 2**power
        cuts = (*(unit * round(i * n / unit / parts) for i in range(parts)), n)
        if min(b - a for a, b in pairwise(cuts)) >= LEAST_PLANES * unit:
            return cuts
    return (*(i * n // parts for i in range(parts)), n)
