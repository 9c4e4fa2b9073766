"""Compiled passes of the fused V-cycle: down a level and up again, each reading the level's arrays from memory once.

Arrays are C-contiguous, `(n0, n1, n2)`, float32. A thread takes a run of planes along the first axis and keeps the few
planes that it works on in buffers that stay in its cache; at the ends of its run it computes a plane or two that its
neighbour computes as well, to the same bits. Beyond a side that is not periodic there are zeros.

A level's operator: `(A x)ᵢ = dᵢ xᵢ − Σ (couplings · neighbours)`. Where it is `coded` (the finest level for κ = 1), the
couplings are `w_a` an axis, a neighbour that is no unknown holds 0, and `d`, the multiplier and the share are one byte
a cell, in units given with them; on the other levels they are float32 and the couplings are arrays: `lower_a` to the
cell below.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from relaxon.solvers.multigrid.plane_passes import (
    BLOCK,
    F0,
    coded_residual_plane,
    corrected_plane,
    gathered_plane,
    residual_plane,
    smoothed_plane,
    spread_plane,
    sum_planes,
)
from relaxon.solvers.plane_kernels import plane_of
from relaxon.solvers.stencil_kernels import compiled, plain

FIRST = np.int64(0)
"""No literal: the planes' passes would be compiled once more for it."""


@plain
def _descend_planes(  # type: ignore[no-untyped-def]
    start, stop, r, x, operator, smoother, wrap, transfer, share, share_unit, gain, coarse
):
    """Coarse planes `start … stop − 1` of `descend`."""
    d, d_unit, w, coded, lower0, lower1, lower2 = operator
    m, m_unit, inner, outer = smoother
    base0, table0, base1, table1, halved2, pads = transfer
    n0, n1, n2 = r.shape
    nothing, zero = np.zeros((n1, n2), np.float32), np.zeros(n2, np.float32)
    ring, mixed = np.zeros((4, n1, n2), np.float32), np.empty((n1, n2), np.float32)
    room = n2 * max(BLOCK // n2, 1)
    pair, u, v = np.empty((n1, n2), np.float32), np.empty(room, np.float32), np.zeros(room + 2, np.float32)
    line = np.zeros(n2 + 4, np.float32)
    slots = np.zeros(4, np.int64)
    none = -(2**62)
    next_t, next_x = none, none
    for coarse_plane in range(start, stop):
        first = base0[coarse_plane]
        for q in range(4):
            slots[q] = (first + q) % 4
            if table0[coarse_plane, q] == F0:
                continue
            p = first + q
            next_t = max(next_t, p) if next_t != none else p
            while next_t <= p:
                for s in range(next_t - 1 if next_x == none else next_x, next_t + 2):
                    next_x = s + 1
                    if 0 <= s < n0 or wrap[0]:
                        i = s % n0
                        sum_planes(plane_of(r, i - 1, wrap[0], nothing), plane_of(r, i + 1, wrap[0], nothing), pair)
                        smoothed_plane(r[i], pair, wrap[1], wrap[2], zero, inner, outer, m[i], m_unit, u, v, x[i])
                i = next_t % n0
                below, above = plane_of(x, i - 1, wrap[0], nothing), plane_of(x, i + 1, wrap[0], nothing)
                if coded:
                    coded_residual_plane(
                        below, x[i], above, r[i], d[i], d_unit, w, wrap[1], wrap[2], zero, share[i], share_unit,
                        ring[next_t % 4],
                    )  # fmt: skip
                else:
                    residual_plane(
                        below, x[i], above, r[i], d[i], d_unit, lower0[i], plane_of(lower0, i + 1, wrap[0], nothing),
                        lower1[i], lower2[i], wrap[1], wrap[2], zero, share[i], share_unit, ring[next_t % 4],
                    )  # fmt: skip
                next_t += 1
        gathered_plane(
            ring, slots, table0[coarse_plane], base1, table1, halved2, pads, gain[coarse_plane], line, mixed,
            coarse[coarse_plane],
        )  # fmt: skip


@plain
def _ascend_planes(  # type: ignore[no-untyped-def]
    start, stop, r, x, operator, smoother, wrap, axis0, axis1, halved2, share, share_unit, gain, coarse, z
):
    """Planes `start … stop − 1` of `ascend`."""
    d, d_unit, w, coded, lower0, lower1, lower2 = operator
    m, m_unit, inner, outer = smoother
    n0, n1, n2 = r.shape
    m1, m2 = coarse.shape[1], coarse.shape[2]
    nothing, zero = np.zeros((n1, n2), np.float32), np.zeros(n2, np.float32)
    corrected, weighted = np.zeros((3, n1, n2), np.float32), np.zeros((3, n1, n2), np.float32)
    room = n2 * max(BLOCK // n2, 1)
    pair, u, v = np.empty((n1, n2), np.float32), np.empty(room, np.float32), np.zeros(room + 2, np.float32)
    mixed, line, row = np.empty((m1, m2), np.float32), np.empty(m2 + 2, np.float32), np.empty(n2, np.float32)
    for step in range(start - 2, stop + 2):
        # Plane `step` is corrected, `step − 1` has its residual taken, `step − 2` is finished.
        if 0 <= step < n0 or wrap[0]:
            i = step % n0
            spread_plane(
                i, coarse, gain, axis0, axis1, halved2, wrap[2], mixed, line, row, share[i], share_unit, x[i],
                corrected[step % 3],
            )  # fmt: skip
        else:
            corrected[step % 3] = F0
        s = step - 1
        if s < start - 1:
            continue
        if 0 <= s < n0 or wrap[0]:
            i = s % n0
            below, here, above = corrected[(s - 1) % 3], corrected[s % 3], corrected[(s + 1) % 3]
            if coded:
                coded_residual_plane(
                    below, here, above, r[i], d[i], d_unit, w, wrap[1], wrap[2], zero, m[i], m_unit, weighted[s % 3]
                )
            else:
                residual_plane(
                    below, here, above, r[i], d[i], d_unit, lower0[i], plane_of(lower0, i + 1, wrap[0], nothing),
                    lower1[i], lower2[i], wrap[1], wrap[2], zero, m[i], m_unit, weighted[s % 3],
                )  # fmt: skip
        else:
            weighted[s % 3] = F0
        s = step - 2
        if s < start:
            continue
        sum_planes(weighted[(s - 1) % 3], weighted[(s + 1) % 3], pair)
        corrected_plane(corrected[s % 3], weighted[s % 3], pair, wrap[1], wrap[2], zero, inner, outer, d[s], u, v, z[s])


@compiled()
def descend(chunks, r, x, operator, smoother, wrap, transfer, share, share_unit, gain, coarse):  # type: ignore[no-untyped-def]
    """`x ← m ⊙ (K r)`, then `coarse ← gain ⊙ Pᵀ share ⊙ (r − A x)`.

    Parameters
    ----------
    operator : `(d, unit of d, w (3), coded, lower0, lower1, lower2)`; where coded, `lower_a` is not looked at.
    smoother : `(m, unit of m, inner (4), outer (4))`; `inner` are the stencil's constants within a plane across the
        last axis, in the order centre, second axis, first axis, both; `outer` those one step along the last axis.
    transfer : see `TransferTables.gather`.
    """
    m0 = coarse.shape[0]
    for c in prange(chunks):
        _descend_planes(
            m0 * c // chunks, m0 * (c + 1) // chunks, r, x, operator, smoother, wrap, transfer, share, share_unit, gain,
            coarse,
        )  # fmt: skip


@compiled()
def residual(chunks, r, x, operator, wrap, out):  # type: ignore[no-untyped-def]
    """`out ← r − A x` on a level whose couplings are arrays."""
    d, d_unit, _w, _coded, lower0, lower1, lower2 = operator
    n0, n1, n2 = r.shape
    for c in prange(chunks):
        nothing, zero = np.zeros((n1, n2), np.float32), np.zeros(n2, np.float32)
        ones = np.ones((n1, n2), np.float32)
        for i in range(n0 * c // chunks, n0 * (c + 1) // chunks):
            residual_plane(
                plane_of(x, i - 1, wrap[0], nothing), x[i], plane_of(x, i + 1, wrap[0], nothing), r[i], d[i], d_unit,
                lower0[i], plane_of(lower0, i + 1, wrap[0], nothing), lower1[i], lower2[i], wrap[1], wrap[2], zero,
                ones, np.float32(1), out[i],
            )  # fmt: skip


@compiled()
def ascend(  # type: ignore[no-untyped-def]
    chunks, r, x, operator, smoother, wrap, axis0, axis1, halved2, share, share_unit, gain, coarse, z
):
    """`y = x + share ⊙ P (gain ⊙ coarse)`, then `z ← y + K (m ⊙ (r − A y))`; `z` must not be `x`."""
    n0 = r.shape[0]
    for c in prange(chunks):
        _ascend_planes(
            n0 * c // chunks, n0 * (c + 1) // chunks, r, x, operator, smoother, wrap, axis0, axis1, halved2, share,
            share_unit, gain, coarse, z,
        )  # fmt: skip


@plain
def descend_serial(chunks, r, x, operator, smoother, wrap, transfer, share, share_unit, gain, coarse):  # type: ignore[no-untyped-def]
    """As `descend`, in the calling thread."""
    _descend_planes(FIRST, coarse.shape[0], r, x, operator, smoother, wrap, transfer, share, share_unit, gain, coarse)


@plain
def ascend_serial(  # type: ignore[no-untyped-def]
    chunks, r, x, operator, smoother, wrap, axis0, axis1, halved2, share, share_unit, gain, coarse, z
):
    """As `ascend`, in the calling thread."""
    _ascend_planes(
        FIRST, r.shape[0], r, x, operator, smoother, wrap, axis0, axis1, halved2, share, share_unit, gain, coarse, z
    )
