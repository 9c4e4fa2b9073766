"""Two sweeps over a level in one pass over memory, in float32 on arrays with three axes put end to end.

Planes are swept one after the other: the second sweep follows the first one plane behind, while the planes that it
needs are still in a core's second cache. The first sweep may begin from zero, so that a damped Jacobi sweep before it,
`ω₀ D⁻¹ r`, needs no pass either. Threads repeat what they need beyond their own planes, so that their number does not
show. No axis is periodic: the couplings of the first cells along an axis, to those before them, are 0.

Source: for sweeps that follow each other through the planes J. Treibig, G. Wellein, G. Hager, "Efficient
multicore-aware parallelization strategies for iterative stencil computations", J. Comput. Sci. 2 (2011).
"""

# Indices are unsigned in some loops (a signed one might count from the end) and signed in others.
# mypy: disable-error-code="assignment"
from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from relaxon.solvers.kernels.compiled import threads_for
from relaxon.solvers.kernels.lean import inlined, lean
from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.multigrid.cycle import Single

if TYPE_CHECKING:
    from relaxon.solvers.multigrid.sweeps import FaceOperator

BLOCK = 512
"""Cells that are gone through at a time, whose sums stay in the first cache."""
ONE = np.uint64(1)
RING = 3
"""Planes of an earlier sweep that the next one needs."""


@inlined
def _sweep_plane(  # type: ignore[no-untyped-def]
    at, row, size, middle, low, high, r, lower0, lower1, lower2, residual, omega, inverse, diagonal, weight, out
):
    """`out ← (1 − ω) middle + ω D⁻¹ (r + Σ (couplings · neighbours))`, or `weight · (r − A middle)` where `residual`,
    for the plane of `size` cells that begins with cell `at`.

    `low` and `high` are the planes beside it: there `lower0` is 0, beyond a side they are `middle` itself.
    """
    kept = np.float32(1) - omega
    plane, above = np.uint64(at), np.uint64(at + size)
    r, inverse, lower1, lower2 = (
        r[at : at + size],
        inverse[at : at + size],
        lower1[at : at + size],
        lower2[at : at + size],
    )
    for begin in range(0, size, BLOCK):
        end = min(begin + BLOCK, size)
        first = np.uint64(begin)
        if at + size < len(lower0):
            for cell in range(end - begin):
                k = np.uint64(cell) + first
                out[k] = r[k] + lower0[k + plane] * low[k] + lower0[k + above] * high[k]
        else:
            for cell in range(end - begin):
                k = np.uint64(cell) + first
                out[k] = r[k] + lower0[k + plane] * low[k]
        start, stop, far = max(begin, row), min(end, size - row), np.uint64(row)
        for cell in range(stop - start):
            k = np.uint64(cell) + np.uint64(start)
            out[k] += lower1[k] * middle[k - far] + lower1[k + far] * middle[k + far]
        for cell in range(begin, min(start, end)):
            if cell + row < size:
                out[cell] += lower1[cell + row] * middle[cell + row]
        for cell in range(max(stop, begin), end):
            if cell >= row:
                out[cell] += lower1[cell] * middle[cell - row]
        start, stop = max(begin, 1), min(end, size - 1)
        if start > begin:
            out[0] += lower2[1] * middle[1] if size > 1 else np.float32(0)
        if stop < end and size > 1:
            out[size - 1] += lower2[size - 1] * middle[size - 2]
        for cell in range(stop - start):
            k = np.uint64(cell) + np.uint64(start)
            out[k] += lower2[k] * middle[k - ONE] + lower2[k + ONE] * middle[k + ONE]
        if residual:
            for cell in range(end - begin):
                k = np.uint64(cell) + first
                out[k] = weight[k + plane] * (out[k] - diagonal[k + plane] * middle[k])
        else:
            for cell in range(end - begin):
                k = np.uint64(cell) + first
                out[k] = kept * middle[k] + omega * inverse[k] * out[k]


@lean
def _pair(  # type: ignore[no-untyped-def]
    start, stop, planes, size, row, x, zero, before, one, two, residual, r, inverse, diagonal, weight, lower0, lower1,
    lower2, kept, y, rings,
):  # fmt: skip
    """Do the planes `start … stop − 1` of `pair`; `rings` are `2 RING` planes of work space, the source's first."""
    made = start - 3
    for plane in range(max(start - 1, 0), min(stop + 1, planes)):
        while zero and made < min(plane + 1, planes - 1):
            made += 1
            if made < 0:
                continue
            first, into = np.uint64(made * size), rings[made % RING * size : (made % RING + 1) * size]
            for cell in range(size):
                k = np.uint64(cell)
                into[k] = before * inverse[k + first] * r[k + first]
        # The first sweep's plane, and the second one's that has all neighbours by now; with the last plane two of them.
        for task in range(3 if plane + 1 == planes else 2):
            own = plane - 1 if task == 1 else plane
            if task > 0 and not start <= own < stop:
                continue
            below, above = max(own - 1, 0), min(own + 1, planes - 1)
            if task == 0 and not zero:
                source, middle, low, high = x, own * size, below * size, above * size
            else:
                base = 0 if task == 0 else RING
                source = rings
                middle, low = (base + own % RING) * size, (base + below % RING) * size
                high = (base + above % RING) * size
            if task == 0:
                spot = (RING + own % RING) * size
                out = rings[spot : spot + size]
            else:
                out = y[own * size : (own + 1) * size]
            _sweep_plane(
                own * size, row, size, source[middle : middle + size], source[low : low + size],
                source[high : high + size], r, lower0, lower1, lower2, residual and task > 0, one if task == 0 else two,
                inverse, diagonal, weight, out,
            )  # fmt: skip
            if residual and task == 0 and start <= own < stop:
                first = np.uint64(own * size)
                for cell in range(size):
                    k = np.uint64(cell)
                    kept[k + first] = out[k]


def pair(
    x: Single,
    before: np.float32 | None,
    one: np.float32,
    two: np.float32 | None,
    r: Single,
    inverse: Single,
    weight: Single,
    operator: FaceOperator,
    kept: Single,
    y: Single,
) -> None:
    """`y` ← two damped Jacobi sweeps, or one and the residual, in one pass.

    The sweeps begin with `x`, or where `before` is given with `before · D⁻¹ r`. `one` and `two` are their dampings.
    Where `two` is None, `kept` gets the result of the first sweep and `y` its residual times `weight`.
    """
    planes, rows, row = x.shape
    lower0, lower1, lower2 = (array.reshape(-1) for array in operator[1:4])
    size = rows * row
    if planes == 1:  # two axes: rows take the part of planes
        planes, size, lower0 = rows, row, lower1
    flat = [array.reshape(-1) for array in (r, inverse, operator.diagonal, weight)]
    numbers = (np.float32(before or 0), np.float32(one), np.float32(two or 0))
    divide(
        _pair, planes, planes, size, row, x.reshape(-1), before is not None, *numbers, two is None, *flat, lower0,
        lower1, lower2, kept.reshape(-1), y.reshape(-1), chunks=threads_for(x.size), work=partial(_make_rings, size),
    )  # fmt: skip


def _make_rings(size: int) -> tuple[Single]:
    return (np.empty(2 * RING * size, np.float32),)
