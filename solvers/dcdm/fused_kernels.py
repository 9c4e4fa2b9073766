"""Compiled steps of the fused outer iteration: directions, images and residual in float32, sums and `x` in float64.

Arrays are planes put end to end, `(n0, n1 · n2)`, C-contiguous; a member of the team takes a run of planes. `A` and the
cells `owned` are as in `plane_kernels`. Sums are made plane by plane and added in order, so that they do not depend on
the number of threads.
"""

from __future__ import annotations

import math

import numpy as np

from relaxon.solvers.grid.plane_kernels import applied_plane
from relaxon.solvers.kernels.compiled import kernel_part, part, plain, spliced
from relaxon.solvers.kernels.team_kernels import meet, share
from relaxon.solvers.multigrid.passes import SOLVE, take_step
from relaxon.solvers.multigrid.table_kernels import double_row, single_row, singles

F0 = np.float32(0.0)
PLAIN, MEASURE, SEARCH, ADVANCE = range(SOLVE + 1, SOLVE + 5)
"""Steps beside those of the cycle, as `take_outer_step` knows them."""
SUMS, PAST, LEAST, SCALE, CURVATURE, ACCEPTED, ALPHA = 0, 2, 4, 5, 6, 7, 8
"""Places in `numbers`: the two last sums, two past curvatures, what a gain must be above, what a step is divided by for
`x`; and what `ADVANCE` found: the curvature, whether the step was taken, and its length."""
NUMBERS = 9


@kernel_part(error_model="numpy")
def _subtract_planes(d, c1, p, c2, q):  # type: ignore[no-untyped-def]
    """`d ← d − c₁ p − c₂ q`, the same bits wherever it is put, which fast-math does not promise.

    In place: with a result that might overlap `d` the loop is not vectorised.
    """
    for cell in range(d.size):
        k = np.uint64(cell)
        d[k] = d[k] - c1 * p[k] - c2 * q[k]


@part
def _dots_plane(x, y, z, owned, i, parts):  # type: ignore[no-untyped-def]
    """`parts[i] ← ⟨x, y⟩, ⟨x, z⟩` on plane `i`, over the cells that are owned."""
    one, two = 0.0, 0.0
    if owned[0] <= i < owned[1]:
        for cell in range(owned[2], owned[3]):
            k = np.uint64(cell)
            one += float(x[k]) * float(y[k])
            two += float(x[k]) * float(z[k])
    parts[i, 0], parts[i, 1] = one, two


@part
def _add_planes(parts, numbers):  # type: ignore[no-untyped-def]
    """Add up both sums in order."""
    one, two = 0.0, 0.0
    for i in range(parts.shape[0]):
        one += parts[i, 0]
        two += parts[i, 1]
    numbers[SUMS], numbers[SUMS + 1] = one, two


@part
def _advance_plane(x, factor, d, r, step, q, owned, i, parts):  # type: ignore[no-untyped-def]
    size = x.size
    for cell in range(size):
        k = np.uint64(cell)
        x[k] += factor * float(d[k])
    low, high = (owned[2], owned[3]) if owned[0] <= i < owned[1] else (size, size)
    for cell in range(low):
        k = np.uint64(cell)
        r[k] -= step * q[k]
    total = 0.0
    for cell in range(low, high):
        k = np.uint64(cell)
        value = r[k] - step * q[k]
        r[k] = value
        total += float(value) * float(value)
    for cell in range(high, size):
        k = np.uint64(cell)
        r[k] -= step * q[k]
    parts[i, 0], parts[i, 1] = total, 0.0


@spliced
def search_planes(first, last, team, c1, p1, c2, p2, r, matrix, n2, d, q, owned, parts, most, space):  # type: ignore[no-untyped-def]
    """Do a member's share of `SEARCH`, without the sums."""
    code, table, linear, w, wrap = matrix
    n0, size = d.shape
    start, stop = share(first, last, team, n0)
    nothing, edge = single_row(space, size), singles(space + 4 * most, 2, size)
    row, zero = double_row(space + 4 * (most + 2 * size), n2), nothing[:n2]
    # The planes beside the run, which others are about to make, are made here once more.
    for side in range(2):
        i = stop if side else start - 1
        if stop > start and (0 <= i < n0 or wrap[0]):
            i = i % n0
            edge[side][:] = d[i]
            _subtract_planes(edge[side], c1, p1[i], c2, p2[i])
    meet(first, last, team)
    for i in range(start - 1, stop):
        if i + 1 < stop:
            _subtract_planes(d[i + 1], c1, p1[i + 1], c2, p2[i + 1])
        if i < start:
            continue
        below = d[i - 1] if i > start else (edge[0] if i > 0 or wrap[0] else nothing)
        above = d[i + 1] if i + 1 < stop else (edge[1] if i + 1 < n0 or wrap[0] else nothing)
        applied_plane(below, d[i], above, code[i], table, linear, w, n2, wrap, zero, row, q[i])
        _dots_plane(d[i], q[i], r[i], owned, i, parts)


@plain
def iterate(  # type: ignore[no-untyped-def]
    first, last, team, steps, rows, units, most, spaces, matrix, n2, owned, x, r, d, q, past, numbers, parts
):
    """Take steps one after the other: a team kernel. Those of the cycle are as in `passes.take_steps`.

    `PLAIN`: `d ← D⁻¹ r`, 0 where `D` is. `MEASURE`: the sums `⟨d, q₁⟩` and `⟨d, q₂⟩` with the `past` images. `SEARCH`:
    `d ← d − c₁ p₁ − c₂ p₂`, the factors from the last sums, then `q ← A d`, and the sums `⟨d, q⟩` and `⟨d, r⟩`.
    `ADVANCE`, where these give a step that is accepted: `x` and `r`, and the sum `‖r‖²`.
    """
    p1, q1, p2, q2 = past
    n0 = d.shape[0]
    for step in range(steps.shape[0]):
        kind, number, space = steps[step, 0], steps[step, 1], spaces[first]
        start, stop = share(first, last, team, n0)
        one, two = numbers[SUMS], numbers[SUMS + 1]
        if kind <= SOLVE:
            take_step(first, last, team, kind, rows[number], units[number], most, space)
        elif kind == PLAIN:
            code, table = matrix[0], matrix[1]
            for i in range(start, stop):
                r_i, c_i, d_i = r[i], code[i], d[i]
                for k in range(r_i.size):
                    d_i[k] = float(r_i[k]) / table[c_i[k]] if c_i[k] != 0 else F0
        elif kind == MEASURE:
            for i in range(start, stop):
                _dots_plane(d[i], q1[i], q2[i], owned, i, parts)
        elif kind == SEARCH:
            c1, c2 = np.float32(one / numbers[PAST]), np.float32(two / numbers[PAST + 1])
            search_planes(first, last, team, c1, p1, c2, p2, r, matrix, n2, d, q, owned, parts, most, space)
        else:
            accepted = one > 0 and abs(two) > numbers[LEAST] * math.sqrt(one)
            alpha = two / one
            if accepted:
                for i in range(start, stop):
                    _advance_plane(x[i], alpha / numbers[SCALE], d[i], r[i], np.float32(alpha), q[i], owned, i, parts)
            if first == 0:
                numbers[CURVATURE], numbers[ACCEPTED], numbers[ALPHA] = one, 1.0 if accepted else 0.0, alpha
        meet(first, last, team)
        if kind > PLAIN:
            if first == 0:
                _add_planes(parts, numbers)
            meet(first, last, team)
