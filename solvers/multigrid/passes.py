"""Compiled passes of the fused V-cycle: down a level and up again, each reading the level's arrays from memory once.

Arrays are planes put end to end, `(n0, n1 · n2)`, float32, C-contiguous. A thread takes a run of planes and keeps the
few planes that it works on in buffers that stay in its cache. At the ends of its run it computes a plane or two that
its neighbour computes as well, to the same bits. Beyond a side that is not periodic there are zeros.

The arrays of a level come in named tuples. A kernel is called with plain tuples, which Numba unpacks much sooner, and
names their fields on its first line. Every level fills all fields, so that the passes are compiled once: on a coded
level the arrays of float32 values have one cell, on a level of face arrays those of codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.plane_kernels import plane_of
from relaxon.solvers.kernels.address_kernels import address
from relaxon.solvers.kernels.compiled import plain, spliced
from relaxon.solvers.kernels.team_kernels import meet, run_team, share
from relaxon.solvers.multigrid import table_kernels as tables
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
from relaxon.solvers.multigrid.table_kernels import byte_planes, flags, place_row, places, single_row, singles

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


DOWN, UP, RESIDUAL, ADD, SOLVE = range(5)
"""The steps of a cycle, as `take_step` knows them."""


@spliced
def smooth_residual_restrict_planes(start, stop, row, units, most, space):  # type: ignore[no-untyped-def]
    """Do coarse planes `start … stop − 1` of `DOWN`."""
    n0, size, n2, m1 = row[tables.N0], row[tables.SIZE], row[tables.N2], row[tables.M1]
    n1, m2, coded = size // n2, row[tables.COARSE_SIZE] // m1, row[tables.CODED] != 0
    r, x = singles(row[tables.R], n0, size), singles(row[tables.X], n0, size)
    codes, diagonal = byte_planes(row[tables.CODES], n0, size), singles(row[tables.DIAGONAL], n0, size)
    lower0, lower1 = singles(row[tables.LOWER0], n0, size), singles(row[tables.LOWER1], n0, size)
    lower2, wrap = singles(row[tables.LOWER2], n0, size), flags(row[tables.WRAP], 3)
    weights, stencil = single_row(row[tables.WEIGHTS], 3), singles(row[tables.STENCIL], 2, 4)
    multiplier_codes = byte_planes(row[tables.MULTIPLIER_CODES], n0, size)
    multiplier = singles(row[tables.MULTIPLIER], n0, size)
    share_codes, shares = byte_planes(row[tables.SHARE_CODES], n0, size), singles(row[tables.SHARE], n0, size)
    base0, gather0 = place_row(row[tables.BASE0], row[tables.M0]), singles(row[tables.GATHER0], row[tables.M0], 4)
    base1, gather1 = place_row(row[tables.BASE1], m1), singles(row[tables.GATHER1], m1, 4)
    pads, halved2 = single_row(row[tables.PADS], 2), row[tables.HALVED2] != 0
    gain = singles(row[tables.GAIN], row[tables.M0], row[tables.COARSE_SIZE])
    coarse = singles(row[tables.COARSE_R], row[tables.M0], row[tables.COARSE_SIZE])
    nothing, planes = single_row(space, size), singles(space + 4 * most, tables.PLANES, size)
    mixed, pair = planes[4], planes[5]
    zero = nothing[:n2]
    rows = BLOCK // n2 if n2 < BLOCK else 1
    room = rows * n2
    work = single_row(space + 4 * (most + tables.PLANES * size), 2 * room + 3 * n2 + size + 16)
    u, v, line, ends = work[:room], work[room : 2 * room + 2], work[2 * room + 2 :], work[2 * room + n2 + 6 :]
    # What a pass before this one left there would be taken times 0, and might not be finite.
    for p in range(4):
        planes[p][:] = F0
    never = -(2**62)
    made, smoothed = never, never
    for coarse_plane in range(start, stop):
        begin = base0[coarse_plane]
        for q in range(4):
            p = begin + q
            if gather0[coarse_plane, q] == F0 or p <= made:
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
                        coded, r[i], pair, n1, n2, wrap, zero, stencil, multiplier_codes[here], units[0],
                        multiplier[there], ends, u, v, x[i],
                    )  # fmt: skip
            # (2) Take the residual, times the share.
            i = p % n0
            below, above = plane_of(x, i - 1, wrap[0], nothing), plane_of(x, i + 1, wrap[0], nothing)
            if coded:
                coded_residual_plane(
                    below, x[i], above, r[i], codes[i], weights, n1, n2, wrap, zero, share_codes[i], units[1],
                    planes[p % 4],
                )  # fmt: skip
            else:
                residual_plane(
                    below, x[i], above, r[i], diagonal[i], lower0[i], plane_of(lower0, i + 1, wrap[0], nothing),
                    lower1[i], lower2[i], n1, n2, wrap, shares[i], planes[p % 4],
                )  # fmt: skip
        # (3) Restrict.
        gathered_plane(
            planes, begin, gather0[coarse_plane], base1, gather1, n1, n2, m2, halved2, pads, gain[coarse_plane], line,
            mixed, coarse[coarse_plane],
        )  # fmt: skip


@spliced
def prolong_correct_smooth_planes(start, stop, row, units, most, space):  # type: ignore[no-untyped-def]
    """Do planes `start … stop − 1` of `UP`."""
    n0, size, n2, m1 = row[tables.N0], row[tables.SIZE], row[tables.N2], row[tables.M1]
    n1, m2, coded = size // n2, row[tables.COARSE_SIZE] // m1, row[tables.CODED] != 0
    r, x, z = (
        singles(row[tables.R], n0, size), singles(row[tables.X], n0, size), singles(row[tables.Z], n0, size),
    )  # fmt: skip
    codes, diagonal = byte_planes(row[tables.CODES], n0, size), singles(row[tables.DIAGONAL], n0, size)
    lower0, lower1 = singles(row[tables.LOWER0], n0, size), singles(row[tables.LOWER1], n0, size)
    lower2, wrap = singles(row[tables.LOWER2], n0, size), flags(row[tables.WRAP], 3)
    weights, stencil = single_row(row[tables.WEIGHTS], 3), singles(row[tables.STENCIL], 2, 4)
    multiplier_codes = byte_planes(row[tables.MULTIPLIER_CODES], n0, size)
    multiplier = singles(row[tables.MULTIPLIER], n0, size)
    share_codes, shares = byte_planes(row[tables.SHARE_CODES], n0, size), singles(row[tables.SHARE], n0, size)
    sources0, spread0 = places(row[tables.SOURCES0], 2, n0), singles(row[tables.SPREAD0], 2, n0)
    sources1, spread1 = places(row[tables.SOURCES1], 2, n1), singles(row[tables.SPREAD1], 2, n1)
    gain = singles(row[tables.GAIN], row[tables.M0], row[tables.COARSE_SIZE])
    coarse = singles(row[tables.COARSE_Z], row[tables.M0], row[tables.COARSE_SIZE])
    halved2 = row[tables.HALVED2] != 0
    # The corrected planes are the first three, the weighted residuals the next.
    nothing, planes = single_row(space, size), singles(space + 4 * most, tables.PLANES, size)
    pair, zero = planes[6], nothing[:n2]
    rows = BLOCK // n2 if n2 < BLOCK else 1
    room = rows * n2
    work = single_row(space + 4 * (most + tables.PLANES * size), 2 * room + 3 * n2 + size + 16)
    u, v, line = work[:room], work[room : 2 * room + 2], work[2 * room + 2 : 2 * room + m2 + 4]
    end = 2 * room + m2 + 4
    fine_row, mixed = work[end : end + n2], work[end + n2 : end + n2 + row[tables.COARSE_SIZE]]
    for step in range(start - 2, stop + 2 if stop > start else start - 2):
        # Plane `step` is corrected, `step − 1` has its residual taken, `step − 2` is finished.
        # (5) Prolong and correct.
        y = planes[step % 3]
        if 0 <= step < n0 or wrap[0]:
            i = step % n0
            mix_coarse_planes(i, coarse, gain, sources0, spread0, mixed)
            here, there = (i, 0) if coded else (0, i)
            x_i, factor_codes, factors = x[i], share_codes[here], shares[there]
            for j in range(n1):
                spread_row(j, mixed, sources1, spread1, halved2, wrap[2], m2, line, fine_row)
                begin = np.uint64(j * n2)
                if coded:
                    for cell in range(n2):
                        k = np.uint64(cell)
                        y[begin + k] = x_i[begin + k] + units[1] * np.float32(factor_codes[begin + k]) * fine_row[k]
                else:
                    for cell in range(n2):
                        k = np.uint64(cell)
                        y[begin + k] = x_i[begin + k] + factors[begin + k] * fine_row[k]
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
                    below, here_y, above, r[i], codes[i], weights, n1, n2, wrap, zero, multiplier_codes[i], units[0], t,
                )  # fmt: skip
            else:
                residual_plane(
                    below, here_y, above, r[i], diagonal[i], lower0[i], plane_of(lower0, i + 1, wrap[0], nothing),
                    lower1[i], lower2[i], n1, n2, wrap, multiplier[i], t,
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
            coded, planes[s % 3], planes[3 + s % 3], pair, n1, n2, wrap, zero, stencil, codes[here], diagonal[there],
            u, v, z[s],
        )  # fmt: skip


@spliced
def take_step(first, last, team, kind, row, units, most, space):  # type: ignore[no-untyped-def]
    """Do a member's share of a step on the level of a row.

    `DOWN`: `x ← m ⊙ (K r)`, then `coarse_r ← gain ⊙ Pᵀ share ⊙ (r − A x)`. `UP`: `y = x + share ⊙ P (gain ⊙ coarse_z)`,
    then `z ← y + K (m ⊙ (r − A y))`. `RESIDUAL`: `r ← former_r − A former_z`, on a level of couplings. `ADD`:
    `former_z ← former_z + z`. `SOLVE`: `z ← A⁺ r`.
    """
    n0, size = row[tables.N0], row[tables.SIZE]
    count = row[tables.M0] if kind == DOWN else n0
    start, stop = share(first, last, team, count)
    if row[tables.ALONE] != 0 or kind == SOLVE:
        start, stop = 0, count if first == 0 else 0
    if kind == DOWN:
        smooth_residual_restrict_planes(start, stop, row, units, most, space)
    elif kind == UP:
        prolong_correct_smooth_planes(start, stop, row, units, most, space)
    elif kind == RESIDUAL:
        n2, wrap = row[tables.N2], flags(row[tables.WRAP], 3)
        nothing, ones = single_row(space, size), single_row(space + 4 * most, size)
        r, z = singles(row[tables.FORMER_R], n0, size), singles(row[tables.FORMER_Z], n0, size)
        diagonal, lower0 = singles(row[tables.DIAGONAL], n0, size), singles(row[tables.LOWER0], n0, size)
        lower1, lower2 = singles(row[tables.LOWER1], n0, size), singles(row[tables.LOWER2], n0, size)
        out = singles(row[tables.R], n0, size)
        ones[:] = np.float32(1)
        for i in range(start, stop):
            residual_plane(
                plane_of(z, i - 1, wrap[0], nothing), z[i], plane_of(z, i + 1, wrap[0], nothing), r[i], diagonal[i],
                lower0[i], plane_of(lower0, i + 1, wrap[0], nothing), lower1[i], lower2[i], size // n2, n2, wrap, ones,
                out[i],
            )  # fmt: skip
    elif kind == ADD:
        z, former = single_row(row[tables.Z], n0 * size), single_row(row[tables.FORMER_Z], n0 * size)
        for cell in range(start * size, stop * size):
            k = np.uint64(cell)
            former[k] += z[k]
    elif stop > start:
        z, r = single_row(row[tables.Z], n0 * size), single_row(row[tables.R], n0 * size)
        unknowns = row[tables.M0]
        index = place_row(row[tables.INDEX], unknowns)
        inverse = singles(row[tables.INVERSE], unknowns, unknowns)
        z[:] = F0
        for a in range(unknowns):
            total = 0.0
            for b in range(unknowns):
                total += float(inverse[a, b]) * float(r[index[b]])
            z[index[a]] = total


@plain
def take_steps(first, last, team, steps, table, units, most, spaces):  # type: ignore[no-untyped-def]
    """Take steps one after the other: a team kernel. `steps` (s, 2): the kind of each, and its level's row in `table`.

    `units` (rows, 2) float32; `spaces` (members,): the address of each member's work space, which begins with `most`
    zeros.
    """
    for step in range(steps.shape[0]):
        number = steps[step, 1]
        take_step(first, last, team, steps[step, 0], table[number], units[number], most, spaces[first])
        meet(first, last, team)


class StepTable:
    """What `take_steps` takes of levels: rows, units, and work space for so many threads."""

    def __init__(self, levels: Sequence[FusedLevel], members: int, *shapes: tuple[int, int, int]) -> None:
        """`shapes`: of other arrays that the work space is for."""
        self.rows = np.array([tables.level_row(level) for level in levels], np.int64).reshape(-1, tables.COLUMNS)
        self.units = np.array([tables.level_units(level) for level in levels], np.float32).reshape(-1, 2)
        self.members = members
        self._levels = levels
        self._work = tables.WorkSpace([*shapes, *(level.shape for level in levels)], members)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The last arguments of `take_steps`."""
        return self.rows, self.units, self._work.most, self._work.spaces

    def run(self, steps: Places) -> None:
        """Take these steps, `(s, 2)`."""
        run_team(take_steps, steps, *self.arguments, members=self.members)


def smooth_residual_restrict(level: FusedLevel, gain: Any, coarse: Any) -> None:
    """Steps 1 to 3 of the cycle: `x ← m ⊙ (K r)`, then `coarse ← gain ⊙ Pᵀ share ⊙ (r − A x)`.

    `r` and `x` are the level's; `gain` and `coarse` are of as many coarse planes as its transfer has.
    """
    _take_one(DOWN, level, {tables.GAIN: gain, tables.COARSE_R: coarse})


def prolong_correct_smooth(level: FusedLevel, gain: Any, coarse: Any) -> None:
    """Steps 5 and 6 of the cycle: `y = x + share ⊙ P (gain ⊙ coarse)`, then `z ← y + K (m ⊙ (r − A y))`.

    `r`, `x` and `z` are the level's; `z` must not be `x`.
    """
    _take_one(UP, level, {tables.GAIN: gain, tables.COARSE_Z: coarse})


def take_residual(level: FusedLevel, out: Single) -> None:
    """`out ← r − A z`, with `r` and `z` of the level, whose couplings are arrays."""
    _take_one(RESIDUAL, level, {tables.FORMER_R: level.r, tables.FORMER_Z: level.z, tables.R: out})


def _take_one(kind: int, level: FusedLevel, arrays: dict[int, Any]) -> None:
    if level.table is None or level.table.members != level.chunks:
        level.table = StepTable([level], level.chunks)
    given = {tables.R: level.r, tables.X: level.x, tables.Z: level.z} | arrays
    for column, array in given.items():
        level.table.rows[0, column] = address(array)
    level.table.run(np.array([[kind, 0]]))
