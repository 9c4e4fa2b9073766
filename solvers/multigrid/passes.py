"""Compiled passes of the fused V-cycle: down a level and up again, each reading the level's arrays from memory once.

Arrays are planes put end to end, `(n0, n1 · n2)`, float32, C-contiguous. A thread takes a run of planes and keeps the
few planes that it works on in buffers that stay in its cache. At the ends of its run it computes a plane or two that
its neighbour computes as well, to the same bits. Beyond a side that is not periodic there are zeros.

The arrays of a level come in named tuples. A kernel is called with plain tuples, which Numba unpacks much sooner, and
names their fields on its first line. Every level fills all fields, so that the passes are compiled once: on a coded
level the arrays of float32 values have one cell, on a level of face arrays those of codes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.plane_kernels import plane_of
from relaxon.solvers.kernels.compiled import plain
from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.multigrid.plane_passes import (
    BLOCK,
    F0,
    coded_residual_plane,
    corrected_plane,
    gathered_plane,
    mix_coarse_planes,
    residual_plane,
    smoothed_plane,
    spread_row,
    sum_planes,
)

if TYPE_CHECKING:
    from relaxon.solvers.multigrid.levels import FusedLevel

Single = NDArray[np.float32]
Codes = NDArray[np.uint8]
Places = NDArray[np.int64]
NO_CODES = np.zeros((1, 1), np.uint8)
"""In place of codes, on a level that has none."""
NO_VALUES = np.zeros((1, 1), np.float32)
"""In place of float32 values, on a level that has none."""


class LevelOperator(NamedTuple):
    """`(A x)ᵢ = dᵢ xᵢ − Σ (couplings · neighbours)` on a level.

    Where it is `coded`, `d` is one byte a cell (`codes`), the couplings are `weights`, one an axis, and a neighbour
    that is no unknown holds 0. Elsewhere `diagonal` and `lower0`, `lower1`, `lower2`, the couplings to the cell below
    along each axis, are float32 arrays.
    """

    coded: bool
    codes: Codes
    diagonal: Single
    lower0: Single
    lower1: Single
    lower2: Single
    weights: Single
    """`(3,)`."""
    row: int
    """The length of a row along the last axis."""
    wrap: NDArray[np.bool_]
    """Which axes are periodic, `(3,)`."""


class Smoother(NamedTuple):
    """`x = m ⊙ (K r)`; the multiplier `m` is `unit · codes` on a coded level, else `values`."""

    codes: Codes
    values: Single
    unit: np.float32
    stencil: Single
    """The constants of `K`, `(2, 4)`: see `plane_passes.mix_rows`."""


class Transfer(NamedTuple):
    """The interpolation `share ⊙ P` from the level below, and its transpose; see `transfers.TransferTables`.

    The share of a cell is `unit · codes` on a coded level, else `values`. Number 0 is the first axis, 1 the second.
    """

    codes: Codes
    values: Single
    unit: np.float32
    halved2: bool
    """Whether the last axis is coarsened."""
    base0: Places
    gather0: Single
    base1: Places
    gather1: Single
    pads: Single
    sources0: Places
    spread0: Single
    sources1: Places
    spread1: Single


class Scratch(NamedTuple):
    """Work space for a run of planes, zeros: eight planes, and room for a block of rows and what comes from it."""

    planes: Single
    rows: Single


@plain
def _smooth_residual_restrict(start, stop, r, x, operator, smoother, transfer, gain, coarse, scratch):  # type: ignore[no-untyped-def]
    """Do coarse planes `start … stop − 1` of `smooth_residual_restrict`."""
    operator, smoother, transfer = LevelOperator(*operator), Smoother(*smoother), Transfer(*transfer)
    scratch = Scratch(*scratch)
    n0, size = r.shape
    n2, wrap, coded = operator.row, operator.wrap, operator.coded
    n1, m2 = size // n2, coarse.shape[1] // transfer.base1.size
    planes, space = scratch.planes, scratch.rows
    nothing, mixed, pair = planes[4], planes[5], planes[6]
    zero = nothing[:n2]
    rows = BLOCK // n2 if n2 < BLOCK else 1
    room = rows * n2
    u, v, line, ends = space[:room], space[room : 2 * room + 2], space[2 * room + 2 :], space[2 * room + n2 + 6 :]
    never = -(2**62)
    made, smoothed = never, never
    for coarse_plane in range(start, stop):
        first = transfer.base0[coarse_plane]
        for q in range(4):
            p = first + q
            if transfer.gather0[coarse_plane, q] == F0 or p <= made:
                continue
            made = p
            # (1) Smooth from zero, one plane further than the residual looks.
            for s in range(p - 1 if smoothed == never else smoothed + 1, p + 2):
                smoothed = s
                if 0 <= s < n0 or wrap[0]:
                    i = s % n0
                    sum_planes(plane_of(r, i - 1, wrap[0], nothing), plane_of(r, i + 1, wrap[0], nothing), pair)
                    here, there = (i, 0) if coded else (0, i)
                    smoothed_plane(
                        coded, r[i], pair, n1, n2, wrap, zero, smoother.stencil, smoother.codes[here], smoother.unit,
                        smoother.values[there], ends, u, v, x[i],
                    )  # fmt: skip
            # (2) Take the residual, times the share.
            i = p % n0
            below, above = plane_of(x, i - 1, wrap[0], nothing), plane_of(x, i + 1, wrap[0], nothing)
            if coded:
                coded_residual_plane(
                    below, x[i], above, r[i], operator.codes[i], operator.weights, n1, n2, wrap, zero,
                    transfer.codes[i], transfer.unit, planes[p % 4],
                )  # fmt: skip
            else:
                residual_plane(
                    below, x[i], above, r[i], operator.diagonal[i], operator.lower0[i],
                    plane_of(operator.lower0, i + 1, wrap[0], nothing), operator.lower1[i], operator.lower2[i], n1, n2,
                    wrap, transfer.values[i], planes[p % 4],
                )  # fmt: skip
        # (3) Restrict.
        gathered_plane(
            planes, first, transfer.gather0[coarse_plane], transfer.base1, transfer.gather1, n1, n2, m2,
            transfer.halved2, transfer.pads, gain[coarse_plane], line, mixed, coarse[coarse_plane],
        )  # fmt: skip


@plain
def _prolong_correct_smooth(start, stop, r, x, operator, smoother, transfer, gain, coarse, z, scratch):  # type: ignore[no-untyped-def]
    """Do planes `start … stop − 1` of `prolong_correct_smooth`."""
    operator, smoother, transfer = LevelOperator(*operator), Smoother(*smoother), Transfer(*transfer)
    scratch = Scratch(*scratch)
    n0, size = r.shape
    n2, wrap, coded = operator.row, operator.wrap, operator.coded
    n1 = size // n2
    m2 = (n2 + 1) // 2 if transfer.halved2 else n2
    planes, space = scratch.planes, scratch.rows
    # The corrected planes are the first three, the weighted residuals the next.
    nothing, pair = planes[6], planes[7]
    zero = nothing[:n2]
    rows = BLOCK // n2 if n2 < BLOCK else 1
    room = rows * n2
    u, v, line = space[:room], space[room : 2 * room + 2], space[2 * room + 2 : 2 * room + m2 + 4]
    end = 2 * room + m2 + 4
    row, mixed = space[end : end + n2], space[end + n2 : end + n2 + coarse.shape[1]]
    unit = transfer.unit
    for step in range(start - 2, stop + 2):
        # Plane `step` is corrected, `step − 1` has its residual taken, `step − 2` is finished.
        # (5) Prolong and correct.
        y = planes[step % 3]
        if 0 <= step < n0 or wrap[0]:
            i = step % n0
            mix_coarse_planes(i, coarse, gain, transfer.sources0, transfer.spread0, mixed)
            here, there = (i, 0) if coded else (0, i)
            x_i, codes, values = x[i], transfer.codes[here], transfer.values[there]
            for j in range(n1):
                spread_row(j, mixed, transfer.sources1, transfer.spread1, transfer.halved2, wrap[2], m2, line, row)
                first = np.uint64(j * n2)
                if coded:
                    for cell in range(n2):
                        k = np.uint64(cell)
                        y[first + k] = x_i[first + k] + unit * np.float32(codes[first + k]) * row[k]
                else:
                    for cell in range(n2):
                        k = np.uint64(cell)
                        y[first + k] = x_i[first + k] + values[first + k] * row[k]
        else:
            y[:] = F0
        # (6) Smooth: first the residual times the multiplier, a plane behind …
        s = step - 1
        if s < start - 1:
            continue
        t = planes[3 + s % 3]
        if 0 <= s < n0 or wrap[0]:
            i = s % n0
            below, here_y, above = planes[(s - 1) % 3], planes[s % 3], planes[(s + 1) % 3]
            if coded:
                coded_residual_plane(
                    below, here_y, above, r[i], operator.codes[i], operator.weights, n1, n2, wrap, zero,
                    smoother.codes[i], smoother.unit, t,
                )  # fmt: skip
            else:
                residual_plane(
                    below, here_y, above, r[i], operator.diagonal[i], operator.lower0[i],
                    plane_of(operator.lower0, i + 1, wrap[0], nothing), operator.lower1[i], operator.lower2[i], n1, n2,
                    wrap, smoother.values[i], t,
                )  # fmt: skip
        else:
            t[:] = F0
        # … then the stencil, two planes behind.
        s = step - 2
        if s < start:
            continue
        sum_planes(planes[3 + (s - 1) % 3], planes[3 + (s + 1) % 3], pair)
        here, there = (s, 0) if coded else (0, s)
        corrected_plane(
            coded, planes[s % 3], planes[3 + s % 3], pair, n1, n2, wrap, zero, smoother.stencil, operator.codes[here],
            operator.diagonal[there], u, v, z[s],
        )  # fmt: skip


@plain
def _take_residual(start, stop, r, x, operator, out, planes):  # type: ignore[no-untyped-def]
    """Do planes `start … stop − 1` of `take_residual`; `planes` (2, n1 · n2) is work space of zeros."""
    operator = LevelOperator(*operator)
    size, n2, wrap, lower0 = r.shape[1], operator.row, operator.wrap, operator.lower0
    nothing, ones = planes[0], planes[1]
    ones[:] = np.float32(1)
    for i in range(start, stop):
        residual_plane(
            plane_of(x, i - 1, wrap[0], nothing), x[i], plane_of(x, i + 1, wrap[0], nothing), r[i],
            operator.diagonal[i], lower0[i], plane_of(lower0, i + 1, wrap[0], nothing), operator.lower1[i],
            operator.lower2[i], size // n2, n2, wrap, ones, out[i],
        )  # fmt: skip


def smooth_residual_restrict(level: FusedLevel, gain: Any, coarse: Any) -> None:
    """Steps 1 to 3 of the cycle: `x ← m ⊙ (K r)`, then `coarse ← gain ⊙ Pᵀ share ⊙ (r − A x)`.

    `r` and `x` are the level's; `gain` and `coarse` are of as many coarse planes as its transfer has.
    """
    args = (level.r, level.x, *_arguments_of(level), gain, coarse)
    work = partial(_make_scratch, level.r.shape[1], level.shape[2])
    divide(_smooth_residual_restrict, len(coarse), *args, chunks=level.chunks, work=work)


def prolong_correct_smooth(level: FusedLevel, gain: Any, coarse: Any) -> None:
    """Steps 5 and 6 of the cycle: `y = x + share ⊙ P (gain ⊙ coarse)`, then `z ← y + K (m ⊙ (r − A y))`.

    `r`, `x` and `z` are the level's; `z` must not be `x`.
    """
    args = (level.r, level.x, *_arguments_of(level), gain, coarse, level.z)
    work = partial(_make_scratch, level.r.shape[1], level.shape[2])
    divide(_prolong_correct_smooth, level.shape[0], *args, chunks=level.chunks, work=work)


def take_residual(level: FusedLevel, out: Single) -> None:
    """`out ← r − A z`, with `r` and `z` of the level, whose couplings are arrays."""
    args = (level.r, level.z, _arguments_of(level)[0], out)
    divide(
        _take_residual, len(out), *args, chunks=level.chunks, work=lambda: (np.zeros((2, out.shape[1]), np.float32),)
    )


def _arguments_of(level: FusedLevel) -> tuple[tuple[Any, ...], ...]:
    """Return the level's named tuples as plain ones: a kernel call takes half a microsecond less for each."""
    if level.arguments is None:
        assert level.transfer is not None
        level.arguments = tuple(level.operator), tuple(level.smoother), tuple(level.transfer)
    return level.arguments


def _make_scratch(size: int, row: int) -> tuple[tuple[Single, Single]]:
    """Return the work space of a run of planes of `size` cells, in rows of `row`: a `Scratch`, as kernels take it."""
    room = 2 * max(BLOCK // row, 1) * (row + 1) + size + 2 * row + 8
    return ((np.zeros((8, size), np.float32), np.zeros(room, np.float32)),)
