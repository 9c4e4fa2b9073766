"""Compiled passes of the fused V-cycle: down a level and up again, each reading the level's arrays from memory once.

Arrays are planes put end to end, `(n0, n1 · n2)`, float32, C-contiguous. A thread takes a run of planes and keeps the
few planes that it works on in buffers that stay in its cache; at the ends of its run it computes a plane or two that
its neighbour computes as well, to the same bits. Beyond a side that is not periodic there are zeros.

A level's operator: `(A x)ᵢ = dᵢ xᵢ − Σ (couplings · neighbours)`. Where it is `coded` (the finest level for κ = 1), the
couplings are `w_a` an axis, a neighbour that is no unknown holds 0, and `d`, the multiplier and the share are one byte
a cell: `codes`, in `units` for the latter two. On the other levels they are float32 `values` and the couplings are
arrays: `lower_a` to the cell below. Each level comes with arrays of both kinds, those that it does not use of one cell,
so that the passes are compiled once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.plane_kernels import plane_of, planes_of
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
    from relaxon.solvers.multigrid.building import FusedLevel

Single = NDArray[np.float32]
NO_CODES = np.zeros((1, 1), np.uint8)
NO_VALUES = np.zeros((1, 1), np.float32)


@plain
def _descend_planes(  # type: ignore[no-untyped-def]
    start, stop, r, x, coded, d_codes, d, m_codes, m, share_codes, share, lower0, lower1, lower2, units, w, stencil, n2,
    wrap, base0, table0, base1, table1, halved2, pads, gain, coarse, planes, space,
):  # fmt: skip
    """Coarse planes `start … stop − 1` of `descend`; `planes` and `space` are zeros, see `_work`."""
    n0, size = r.shape
    n1, m2 = size // n2, coarse.shape[1] // base1.size
    nothing, mixed, pair = planes[4], planes[5], planes[6]
    zero = nothing[:n2]
    rows = BLOCK // n2 if n2 < BLOCK else 1
    room = rows * n2
    u, v, line, ends = space[:room], space[room : 2 * room + 2], space[2 * room + 2 :], space[2 * room + n2 + 6 :]
    never = -(2**62)
    made, smoothed = never, never
    for coarse_plane in range(start, stop):
        first = base0[coarse_plane]
        for q in range(4):
            p = first + q
            if table0[coarse_plane, q] == F0 or p <= made:
                continue
            made = p
            for s in range(p - 1 if smoothed == never else smoothed + 1, p + 2):
                smoothed = s
                if 0 <= s < n0 or wrap[0]:
                    i = s % n0
                    sum_planes(plane_of(r, i - 1, wrap[0], nothing), plane_of(r, i + 1, wrap[0], nothing), pair)
                    here, there = (i, 0) if coded else (0, i)
                    smoothed_plane(
                        coded, r[i], pair, n1, n2, wrap, zero, stencil, m_codes[here], units[0], m[there], ends, u, v,
                        x[i],
                    )  # fmt: skip
            i = p % n0
            below, above = plane_of(x, i - 1, wrap[0], nothing), plane_of(x, i + 1, wrap[0], nothing)
            if coded:
                coded_residual_plane(
                    below, x[i], above, r[i], d_codes[i], w, n1, n2, wrap, zero, share_codes[i], units[1], planes[p % 4]
                )
            else:
                residual_plane(
                    below, x[i], above, r[i], d[i], lower0[i], plane_of(lower0, i + 1, wrap[0], nothing), lower1[i],
                    lower2[i], n1, n2, wrap, share[i], planes[p % 4],
                )  # fmt: skip
        gathered_plane(
            planes, first, table0[coarse_plane], base1, table1, n1, n2, m2, halved2, pads, gain[coarse_plane], line,
            mixed, coarse[coarse_plane],
        )  # fmt: skip


@plain
def _ascend_planes(  # type: ignore[no-untyped-def]
    start, stop, r, x, coded, d_codes, d, m_codes, m, share_codes, share, lower0, lower1, lower2, units, w, stencil, n2,
    wrap, targets0, weights0, targets1, weights1, halved2, gain, coarse, z, planes, space,
):  # fmt: skip
    """Planes `start … stop − 1` of `ascend`; `planes` and `space` are zeros, see `_work`."""
    n0, size = r.shape
    n1 = size // n2
    m2 = (n2 + 1) // 2 if halved2 else n2
    # The corrected planes are the first three, the weighted residuals the next.
    nothing, pair = planes[6], planes[7]
    zero = nothing[:n2]
    rows = BLOCK // n2 if n2 < BLOCK else 1
    room = rows * n2
    u, v, line = space[:room], space[room : 2 * room + 2], space[2 * room + 2 : 2 * room + m2 + 4]
    end = 2 * room + m2 + 4
    row, mixed = space[end : end + n2], space[end + n2 : end + n2 + coarse.shape[1]]
    for step in range(start - 2, stop + 2):
        # Plane `step` is corrected, `step − 1` has its residual taken, `step − 2` is finished.
        y = planes[step % 3]
        if 0 <= step < n0 or wrap[0]:
            i = step % n0
            mix_coarse_planes(i, coarse, gain, targets0, weights0, mixed)
            here, there = (i, 0) if coded else (0, i)
            x_i, codes, values = x[i], share_codes[here], share[there]
            for j in range(n1):
                spread_row(j, mixed, targets1, weights1, halved2, wrap[2], m2, line, row)
                first = np.uint64(j * n2)
                if coded:
                    for cell in range(n2):
                        k = np.uint64(cell)
                        y[first + k] = x_i[first + k] + units[1] * np.float32(codes[first + k]) * row[k]
                else:
                    for cell in range(n2):
                        k = np.uint64(cell)
                        y[first + k] = x_i[first + k] + values[first + k] * row[k]
        else:
            y[:] = F0
        s = step - 1
        if s < start - 1:
            continue
        t = planes[3 + s % 3]
        if 0 <= s < n0 or wrap[0]:
            i = s % n0
            below, here_y, above = planes[(s - 1) % 3], planes[s % 3], planes[(s + 1) % 3]
            if coded:
                coded_residual_plane(
                    below, here_y, above, r[i], d_codes[i], w, n1, n2, wrap, zero, m_codes[i], units[0], t
                )
            else:
                residual_plane(
                    below, here_y, above, r[i], d[i], lower0[i], plane_of(lower0, i + 1, wrap[0], nothing), lower1[i],
                    lower2[i], n1, n2, wrap, m[i], t,
                )  # fmt: skip
        else:
            t[:] = F0
        s = step - 2
        if s < start:
            continue
        sum_planes(planes[3 + (s - 1) % 3], planes[3 + (s + 1) % 3], pair)
        here, there = (s, 0) if coded else (0, s)
        corrected_plane(
            coded, planes[s % 3], planes[3 + s % 3], pair, n1, n2, wrap, zero, stencil, d_codes[here], d[there], u, v,
            z[s],
        )  # fmt: skip


@plain
def _residual_planes(start, stop, r, x, d, lower0, lower1, lower2, n2, wrap, out, planes):  # type: ignore[no-untyped-def]
    """Planes `start … stop − 1` of `residual`; `planes` (2, n1 · n2) is work space of zeros."""
    size = r.shape[1]
    nothing, ones = planes[0], planes[1]
    ones[:] = np.float32(1)
    for i in range(start, stop):
        residual_plane(
            plane_of(x, i - 1, wrap[0], nothing), x[i], plane_of(x, i + 1, wrap[0], nothing), r[i], d[i], lower0[i],
            plane_of(lower0, i + 1, wrap[0], nothing), lower1[i], lower2[i], size // n2, n2, wrap, ones, out[i],
        )  # fmt: skip


def descend(level: FusedLevel, gain: Any, coarse: Any, own: slice = slice(None)) -> None:
    """`x ← m ⊙ (K r)`, then `coarse ← gain ⊙ Pᵀ share ⊙ (r − A x)`, with `r` and `x` of the level.

    `gain` and `coarse` `(m0, m1, m2)` are the coarse planes `own` alone.
    """
    arrays, (base0, table0, *others), _ = _arrays_of(level)
    if len(coarse) != len(base0):
        base0, table0 = base0[own], table0[own]
    args = (planes_of(level.r), planes_of(level.x), *arrays, base0, table0, *others)
    divide(
        _descend_planes,
        len(coarse),
        *args,
        planes_of(gain),
        planes_of(coarse),
        chunks=level.chunks,
        work=lambda: _work(level),
    )


def ascend(level: FusedLevel, gain: Any, coarse: Any) -> None:
    """`y = x + share ⊙ P (gain ⊙ coarse)`, then `z ← y + K (m ⊙ (r − A y))`, with `r`, `x` and `z` of the level; `z`
    must not be `x`.
    """
    arrays, _, spread = _arrays_of(level)
    args = (planes_of(level.r), planes_of(level.x), *arrays, *spread, planes_of(gain), planes_of(coarse))
    divide(_ascend_planes, level.shape[0], *args, planes_of(level.z), chunks=level.chunks, work=lambda: _work(level))


def residual(level: FusedLevel, r: Single, x: Single, out: Single) -> None:
    """`out ← r − A x` on a level whose couplings are arrays."""
    d, lower0, lower1, lower2 = (planes_of(level.operator[k]) for k in (0, 4, 5, 6))
    args = (planes_of(r), planes_of(x), d, lower0, lower1, lower2, level.shape[2], level.wrap, planes_of(out))
    size = level.shape[1] * level.shape[2]
    divide(_residual_planes, len(r), *args, chunks=level.chunks, work=lambda: (np.zeros((2, size), np.float32),))


def _work(level: FusedLevel) -> tuple[Single, Single]:
    """Work space of a run of planes: eight planes, and room for a block of rows with what is made of it."""
    n1, n2 = level.shape[1:]
    size, rows = n1 * n2, max(BLOCK // n2, 1)
    return np.zeros((8, size), np.float32), np.zeros(2 * rows * (n2 + 1) + size + 2 * n2 + 8, np.float32)


def _arrays_of(level: FusedLevel) -> tuple[Any, ...]:
    """A level's own arrays, and those of its transfers down and up, as the passes take them."""
    if level.arrays is None:
        assert level.tables is not None
        d, _, w, coded, *lower = level.operator
        m, m_unit, inner, outer = level.smoother
        pairs = [(planes_of(a), NO_VALUES) if coded else (NO_CODES, planes_of(a)) for a in (d, m, level.share)]
        units = np.array([m_unit, level.share_unit], np.float32)
        stencil = np.stack([inner, outer])
        a, b, c = level.tables
        level.arrays = (
            (coded, *(array for pair in pairs for array in pair), *(planes_of(a) for a in lower), units, w, stencil,
             level.shape[2], level.wrap),
            (a.base, a.weights, b.base, b.weights, level.halved2, c.pads),
            (*a.spread, *b.spread, level.halved2),
        )  # fmt: skip
    return level.arrays
