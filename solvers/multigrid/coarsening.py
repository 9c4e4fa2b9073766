"""What a coarse level has of the fine one's cells and sides: passes of set-up in plain NumPy, with nothing to compile.

Arrays have three axes. Along an axis whose step is 2, fine cells `2I` and `2I + 1` make coarse cell `I`.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray


def coarsen_types(cells: NDArray[np.uint8], steps: NDArray[np.int64], coarse: NDArray[np.uint8]) -> None:
    """`coarse` ← AIR if any child is, else FLUID if any child is, else SOLID."""
    found = cells ^ np.uint8(1)  # SOLID is 0, FLUID 1 and AIR 3: the largest counts
    for axis in range(3):
        if steps[axis] == 2:
            first, second = found[_along(axis, slice(0, None, 2))].copy(), found[_along(axis, slice(1, None, 2))]
            pairs = first[_along(axis, slice(0, second.shape[axis]))]
            np.maximum(pairs, second, out=pairs)
            found = first
    np.bitwise_xor(found, np.uint8(1), out=coarse)


def coarsen_side(
    side: NDArray[np.float32], steps: NDArray[np.int64], near: NDArray[np.float32], coarse: NDArray[np.float32]
) -> None:
    """`coarse` ← the couplings to what the sides of each axis hold: sums over the children, times `near` (3, 2) of the
    axis and the side.

    `side` is `(3, n0, n1, n2)`. Only the first and the last layer along an axis have any.
    """
    coarse[...] = 0
    for axis in range(3):
        step = int(steps[axis])
        # In the one layer of an axis that has no more the sides cannot be told apart.
        for place in sorted({0, coarse.shape[1 + axis] - 1}):
            part_near = near[axis].min() if coarse.shape[1 + axis] == 1 else near[axis, int(place > 0)]
            fine = side[axis][_along(axis, slice(place * step, (place + 1) * step))]
            total = coarse[axis][_along(axis, slice(place, place + 1))]
            with np.errstate(over="ignore"):  # of κ beyond float32's range: the solve's end says so
                for child in itertools.product(*(range(int(s)) for s in steps)):
                    part = fine[tuple(slice(c, None, int(s)) for c, s in zip(child, steps, strict=True))]
                    total[tuple(slice(0, n) for n in part.shape)] += part
                total *= part_near


def _along(axis: int, part: slice) -> tuple[Any, ...]:
    return (slice(None),) * axis + (part,)
