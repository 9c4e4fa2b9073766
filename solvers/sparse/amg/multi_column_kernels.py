"""Kernels for eight right-hand sides at once, which use each entry of the matrix eight times.

Vectors are `(n, 8)`: the eight numbers of a row are adjacent, so that one instruction does for all of them what
`cycle_kernels` and `direction_kernels` do for one. The results of a column do not depend on the other columns.
"""

from __future__ import annotations

import math

import numpy as np

from relaxon.solvers.kernels.address_kernels import floats, indices, integers
from relaxon.solvers.kernels.compiled import kernel
from relaxon.solvers.kernels.team_kernels import SIZE, meet, share

# isort: off
from relaxon.solvers.sparse.amg.cycle_kernels import (
    BEGIN, BETWEEN, BETWEEN_BEGIN, BETWEEN_COLUMNS, BETWEEN_END, BETWEEN_ROWS, BETWEEN_VALUES, BLOCKS, BOUNDS,
    COLUMNS, EXCESS, GROUP, INVERSE, JOINED, JOINED_ROWS, LEFT, OFFSETS, P_BEGIN, P_COLUMNS, P_END, P_VALUES, R_BEGIN,
    R_COLUMNS, R_END, R_VALUES, RIGHT, SMOOTHED, STEPS, SUMS, VALUES, WAITS, Q, R, X, Z, rows_part,
)  # fmt: skip

# isort: on
from relaxon.solvers.kernels.lane_kernels import WIDTH, add_scaled, load, multiply, narrow, store, widen, zeros
from relaxon.solvers.sparse.amg.levels_kernels import IN_ORDER

ONE = np.uint32(1)
NORM, AIM, GOING, LAST, OLDER, TURN = range(6)
"""Rows of the state, an entry for each column: residual norms, those that are aimed at, whether steps go on, the
curvatures of the last two directions, and the place of the last one, the same for all."""
FIRST, SECOND, ALPHA, LESS, SCALE = range(6, 11)
"""Further rows of a member's notes: sums and the factors made of them."""
NOTES = 11
CONJUGATIONS, DIRECTIONS, SQUARES, SUMMED = 0, 2, 4, 5
"""Where in `parts` the sums of each pass begin, and how many there are."""


@rows_part
def sweep_forward(start, stop, own, b, x, left):  # type: ignore[no-untyped-def]
    """Sweep forwards from `x = 0`, and write `left ← b − A x` without the entries between blocks."""
    bounds, begin = indices(own, BOUNDS), indices(own, BEGIN)
    c, v, inverse, excess = indices(own, COLUMNS), floats(own, VALUES), floats(own, INVERSE), floats(own, EXCESS)
    for i in range(bounds[np.uint32(start)], bounds[np.uint32(stop)]):
        total = load(b, i)
        for k in range(begin[i], begin[i + ONE]):
            total = add_scaled(total, -v[k], load(x, c[k]))
        value = multiply(total, inverse[i])
        store(x, i, value)
        store(left, i, multiply(value, excess[i]))
        for k in range(begin[i], begin[i + ONE]):
            store(left, c[k], add_scaled(load(left, c[k]), -v[k], value))


@rows_part
def sweep_backward(start, stop, own, b, x, beside):  # type: ignore[no-untyped-def]
    """Sweep backwards; `beside` begins as the product of `x` with the entries between blocks, and is overwritten."""
    bounds, begin = indices(own, BOUNDS), indices(own, BEGIN)
    c, v, inverse, excess = indices(own, COLUMNS), floats(own, VALUES), floats(own, INVERSE), floats(own, EXCESS)
    lo, i = bounds[np.uint32(start)], bounds[np.uint32(stop)]
    while i > lo:
        i -= ONE
        total = add_scaled(load(b, i), excess[i], load(x, i))
        for k in range(begin[i], begin[i + ONE]):
            total = add_scaled(total, -v[k], load(x, c[k]))
        value = multiply(add_scaled(total, np.float32(-1), load(beside, i)), inverse[i])
        store(x, i, value)
        k = begin[i + ONE]
        while k > begin[i]:
            k -= ONE
            store(beside, c[k], add_scaled(load(beside, c[k]), v[k], value))


@rows_part
def add_between(start, stop, own, factor, level, x, y):  # type: ignore[no-untyped-def]
    """Write `y ← y + factor·B x`, where `B` are the entries between blocks, applied to `x_j − level·x_i`."""
    bounds, rows = indices(own, BETWEEN), indices(own, BETWEEN_ROWS)
    begin, end = indices(own, BETWEEN_BEGIN), indices(own, BETWEEN_END)
    c, v = indices(own, BETWEEN_COLUMNS), floats(own, BETWEEN_VALUES)
    for m in range(bounds[np.uint32(start)], bounds[np.uint32(stop)]):
        value, total = load(x, rows[m]), zeros(x)
        for k in range(begin[m], end[m]):
            total = add_scaled(total, v[k], add_scaled(load(x, c[k]), -level, value))
        store(y, rows[m], add_scaled(load(y, rows[m]), factor, total))


@rows_part
def apply_matrix(start, stop, own, x, y):  # type: ignore[no-untyped-def]
    """Write `y ← A x`, by row sums and differences `x_j − x_i`."""
    bounds, begin, sums = indices(own, BOUNDS), indices(own, BEGIN), floats(own, SUMS)
    c, v = indices(own, COLUMNS), floats(own, VALUES)
    for i in range(bounds[np.uint32(start)], bounds[np.uint32(stop)]):
        value = load(x, i)
        total = multiply(value, sums[i])
        for k in range(begin[i], begin[i + ONE]):
            difference = add_scaled(load(x, c[k]), np.float32(-1), value)
            total = add_scaled(total, v[k], difference)
            store(y, c[k], add_scaled(load(y, c[k]), -v[k], difference))
        store(y, i, total)
    add_between(start, stop, own, np.float32(1), np.float32(1), x, y)


@rows_part
def add_rows(first, last, begin, end, c, v, factor, keep, x, y):  # type: ignore[no-untyped-def]
    """Write `y ← keep·y + factor·C x` for the rows `c[begin[i]:end[i]]` of a matrix."""
    for i in range(first, last):
        total = zeros(x)
        for k in range(begin[i], end[i]):
            total = add_scaled(total, v[k], load(x, c[k]))
        store(y, i, add_scaled(multiply(load(y, i), keep), factor, total))


@rows_part
def restrict(start, stop, own, left, coarse):  # type: ignore[no-untyped-def]
    """Write `coarse ← Pᵀ left`, by the rows of the transpose or summed over aggregates."""
    bounds, offsets, group = indices(own, BOUNDS), indices(own, OFFSETS), integers(own, GROUP)
    lo, hi = offsets[np.uint32(start)], offsets[np.uint32(stop)]
    for g in range(lo, hi):
        store(coarse, g, zeros(coarse))
    if own[SMOOTHED]:
        begin, end, c, v = indices(own, R_BEGIN), indices(own, R_END), indices(own, R_COLUMNS), floats(own, R_VALUES)
        add_rows(lo, hi, begin, end, c, v, np.float32(1), np.float32(0), left, coarse)
        return
    joined, rows = indices(own, JOINED), indices(own, JOINED_ROWS)
    for block in range(np.uint32(start), np.uint32(stop)):
        lo, hi = offsets[block], offsets[block + ONE]
        for i in range(bounds[block], bounds[block + ONE]):
            one = np.uint32(group[i])
            if one >= lo and one < hi:
                store(coarse, one, add_scaled(load(coarse, one), np.float32(1), load(left, i)))
        for m in range(joined[block], joined[block + ONE]):
            one = np.uint32(group[rows[m]])
            store(coarse, one, add_scaled(load(coarse, one), np.float32(1), load(left, rows[m])))


@rows_part
def prolong(start, stop, own, factor, coarse, x, beside):  # type: ignore[no-untyped-def]
    """Write `x ← x + factor·P coarse`, by the rows of the interpolation or constant on aggregates; `beside ← 0`."""
    bounds, group = indices(own, BOUNDS), integers(own, GROUP)
    first, last = bounds[np.uint32(start)], bounds[np.uint32(stop)]
    if own[SMOOTHED]:
        begin, end, c, v = indices(own, P_BEGIN), indices(own, P_END), indices(own, P_COLUMNS), floats(own, P_VALUES)
        add_rows(first, last, begin, end, c, v, factor, np.float32(1), coarse, x)
    else:
        for i in range(first, last):
            if group[i] >= 0:
                store(x, i, add_scaled(load(x, i), factor, load(coarse, np.uint32(group[i]))))
    for i in range(first, last):
        store(beside, i, zeros(beside))


@rows_part
def combine(start, stop, own, one, first, two, second, result):  # type: ignore[no-untyped-def]
    """Write `x ← one·z + two·w`, where the arguments are the columns of the vectors in the table."""
    bounds, z, w, x = indices(own, BOUNDS), floats(own, first), floats(own, second), floats(own, result)
    for i in range(bounds[np.uint32(start)], bounds[np.uint32(stop)]):
        store(x, i, add_scaled(multiply(load(z, i), one), two, load(w, i)))


@rows_part
def multiply_dense(inverse, b, x):  # type: ignore[no-untyped-def]
    """Write `x ← inverse @ b`."""
    for i in range(np.uint32(len(inverse))):
        total = zeros(b)
        for k in range(np.uint32(len(inverse))):
            total = add_scaled(total, inverse[i, k], load(b, k))
        store(x, i, total)


@rows_part
def apply_cycle(first, last, team, table, factors, solution):  # type: ignore[no-untyped-def]
    """Solve approximately on the levels of `table`, from the first one's `RIGHT` into its `X`, as
    `cycle_kernels.apply_cycle` does with steps of fixed lengths, `factors[2:]`."""
    final, ending, repeated = len(table) - 1, last == team[SIZE], 0
    correction, one, two = np.float32(factors[0]), np.float32(factors[2]), np.float32(factors[3])
    tail = final  # the first of the last levels, which all have a single block
    while tail > 0 and table[tail - 1, BLOCKS] == 1:
        tail -= 1
    level, down = 0, True
    while level >= 0:
        if level >= tail and not ending:
            level, down = tail - 1, False
            meet(first, last, team)
            continue
        own, shared = table[level], level < tail
        start, stop = share(first, last, team, own[BLOCKS])
        twice, second = own[STEPS] == 2, (repeated >> level) & 1 == 1
        b, left = floats(own, R if second else RIGHT), floats(own, LEFT)
        x = floats(own, Z if twice and not second else X)
        if down and level == final:
            multiply_dense(solution, b, x)
            level, down = level - 1, False
            if level + 1 == tail:
                meet(first, last, team)
            continue
        if down:
            sweep_forward(start, stop, own, b, x, left)
            if shared:
                meet(first, last, team)
                add_between(start, stop, own, np.float32(-1), np.float32(0), x, left)
                if own[WAITS]:
                    meet(first, last, team)
            restrict(start, stop, own, left, floats(table[level + 1], RIGHT))
            if shared:
                meet(first, last, team)
            level += 1
            continue
        prolong(start, stop, own, correction, floats(table[level + 1], X), x, left)
        if shared:
            meet(first, last, team)
            add_between(start, stop, own, np.float32(1), np.float32(0), x, left)
            meet(first, last, team)
        sweep_backward(start, stop, own, b, x, left)
        if twice and shared:
            meet(first, last, team)
        if twice and not second:
            apply_matrix(start, stop, own, x, floats(own, Q))
            combine(start, stop, own, np.float32(1), RIGHT, -one, Q, R)
            repeated, down = repeated | (1 << level), True
            continue
        if twice:
            combine(start, stop, own, one, Z, two, X, X)
            repeated ^= 1 << level
        level -= 1
        if level < tail:
            meet(first, last, team)


@rows_part
def sum_conjugations(start, stop, bounds, z, one, two, parts):  # type: ignore[no-untyped-def]
    """Write `⟨z, one⟩` and `⟨z, two⟩` of each column to the block's rows of `parts`."""
    for block in range(start, stop):
        along, before = zeros(parts), zeros(parts)
        for i in range(bounds[block], bounds[block + 1]):
            own = widen(load(z, i))
            along = add_scaled(along, own, load(one, i))
            before = add_scaled(before, own, load(two, i))
        store(parts, block * SUMMED + CONJUGATIONS, along)
        store(parts, block * SUMMED + CONJUGATIONS + 1, before)


@rows_part
def apply_direction(start, stop, bounds, indptr, indices, data, d, image, r, parts):  # type: ignore[no-untyped-def]
    """Write `image ← A d` in float64, and `⟨d, image⟩` and `⟨d, r⟩` of each column to the block's rows of `parts`."""
    for block in range(start, stop):
        curvature, projection = zeros(parts), zeros(parts)
        for i in range(bounds[block], bounds[block + 1]):
            total = zeros(parts)
            for k in range(indptr[i], indptr[i + ONE]):
                total = add_scaled(total, data[k], widen(load(d, indices[k])))
            store(image, i, total)
            own = widen(load(d, i))
            curvature = add_scaled(curvature, total, own)
            projection = add_scaled(projection, own, load(r, i))
        store(parts, block * SUMMED + DIRECTIONS, curvature)
        store(parts, block * SUMMED + DIRECTIONS + 1, projection)


@rows_part
def take_step(start, stop, bounds, notes, d, image, x, r, short, parts):  # type: ignore[no-untyped-def]
    """Write `x ← x + α d`, `r ← r − α image`, `short ← β r` by columns, and `⟨r, r⟩` to the block's row of `parts`."""
    alpha, less, scale = load(notes, ALPHA), load(notes, LESS), load(notes, SCALE)
    for block in range(start, stop):
        square = zeros(parts)
        for i in range(bounds[block], bounds[block + 1]):
            store(x, i, add_scaled(load(x, i), alpha, widen(load(d, i))))
            value = add_scaled(load(r, i), less, load(image, i))
            store(r, i, value)
            store(short, i, narrow(multiply(value, scale)))
            square = add_scaled(square, value, value)
        store(parts, block * SUMMED + SQUARES, square)


@rows_part
def sum_blocks(parts, blocks, which, notes, row):  # type: ignore[no-untyped-def]
    """Write a sum of each column to a row of the notes, added in order."""
    total = zeros(notes)
    for block in range(blocks):
        total = add_scaled(total, 1.0, load(parts, block * SUMMED + which))
    store(notes, row, total)


@rows_part
def weigh_step(notes):  # type: ignore[no-untyped-def]
    """Write each column's factors of a step, from its curvature and projection; 0 where it does not go on."""
    for j in range(WIDTH):
        curvature, projection = notes[FIRST, j], notes[SECOND, j]
        if not (curvature > 0.0 and math.isfinite(projection)):
            notes[GOING, j] = 0.0
        going = notes[GOING, j] > 0.0
        notes[ALPHA, j] = projection / curvature if going else 0.0
        notes[LESS, j] = -notes[ALPHA, j]
        notes[SCALE, j] = 1.0 / notes[NORM, j] if going else 0.0
        notes[OLDER, j], notes[LAST, j] = notes[LAST, j], curvature if going else 0.0


@rows_part
def note_norms(notes):  # type: ignore[no-untyped-def]
    """Write the residual norms of the columns that go on from their squares; return how many go on after that."""
    count = 0
    for j in range(WIDTH):
        if notes[GOING, j] > 0.0:
            notes[NORM, j] = math.sqrt(notes[FIRST, j])
            if not (notes[NORM, j] > notes[AIM, j] and math.isfinite(notes[NORM, j])):
                notes[GOING, j] = 0.0
            else:
                count += 1
    return count


@kernel(fastmath=IN_ORDER, counted=False)
def take_steps(  # type: ignore[no-untyped-def]
    first, last, team, steps, table, factors, solution, indptr, indices, data, bounds, order, short, z, d, images, x, r,
    parts, state, members, history,
):  # fmt: skip
    """Take up to `steps` steps of conjugate directions around the cycle, for eight columns.

    `short` is each residual divided by its norm, in float32; `z` is the cycle's result for it. Both are vectors of the
    cycle itself if `order` is empty: else `order[i]` is the row of `A` that is row `i` of the first level. `d`
    and `images`, `(2, n, 8)`, hold the last two directions. `history[step]` gets the norms of the columns that took it,
    the others' entries stay. `parts (5·blocks, 8)` and `members (places, NOTES, 8)` are scratch memory.
    """
    blocks = len(bounds) - 1
    low, high = share(first, last, team, blocks)
    start, stop = bounds[np.uint32(low)], bounds[np.uint32(high)]
    notes = members[first]
    for row in range(TURN + 1):
        for j in range(WIDTH):
            notes[row, j] = state[row, j]
    place = int(state[TURN, 0])
    for step in range(steps):
        if len(order):
            for i in range(start, stop):
                store(floats(table[0], RIGHT), i, load(short, order[i]))
            meet(first, last, team)
        apply_cycle(first, last, team, table, factors, solution)
        if len(order):
            for i in range(start, stop):
                store(z, order[i], load(floats(table[0], X), i))
            meet(first, last, team)
        p, own, image = d[place], d[1 - place], images[1 - place]
        sum_conjugations(low, high, bounds, z, images[place], image, parts)
        meet(first, last, team)
        for row, before in ((FIRST, LAST), (SECOND, OLDER)):
            sum_blocks(parts, blocks, CONJUGATIONS + row - FIRST, notes, row)
            for j in range(WIDTH):
                notes[row, j] = -notes[row, j] / notes[before, j] if notes[before, j] > 0.0 else 0.0
        one, two = narrow(load(notes, FIRST)), narrow(load(notes, SECOND))
        for i in range(start, stop):
            store(own, i, add_scaled(add_scaled(load(z, i), one, load(p, i)), two, load(own, i)))
        meet(first, last, team)
        apply_direction(low, high, bounds, indptr, indices, data, own, image, r, parts)
        meet(first, last, team)
        sum_blocks(parts, blocks, DIRECTIONS, notes, FIRST)
        sum_blocks(parts, blocks, DIRECTIONS + 1, notes, SECOND)
        place = 1 - place
        weigh_step(notes)
        take_step(low, high, bounds, notes, own, image, x, r, short, parts)
        meet(first, last, team)
        sum_blocks(parts, blocks, SQUARES, notes, FIRST)
        going = load(notes, GOING)
        count = note_norms(notes)
        if first == 0:
            store(notes, SECOND, going)
            for j in range(WIDTH):
                if notes[SECOND, j] > 0.0:
                    history[step, j] = notes[NORM, j]
        if count == 0:
            break
    meet(first, last, team)
    if first == 0:
        for row in range(TURN):
            for j in range(WIDTH):
                state[row, j] = notes[row, j]
        state[TURN, 0] = place
