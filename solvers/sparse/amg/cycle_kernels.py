"""A cycle through all levels in one kernel that several threads enter together, over the same blocks as the set-up.

Of a level's symmetric matrix only the entries before the diagonal are stored, `begin[i]:end[i]` of row `i`, and each
stands for its mirror image too: a pass over a row gathers with them and scatters to the rows before it. That halves the
memory traffic, and the loops over rows, whose ends are hard to predict for a processor. The entry beside the diagonal,
in column `i − 1`, is `near[i]`, 0 where there is none: a sweep keeps the unknown of the row before in a register, as it
would else wait for it on its way through memory. Entries between blocks are in rows of their own. One Gauss–Seidel
sweep goes forwards before the coarse correction and one backwards after it, within a block; between blocks old values
are used, and `excess` is added to the diagonal, so that the cycle is symmetric and definite.

Each member of the team takes whole blocks, the same ones in every pass. Levels of one block, which are the last ones,
belong to one member, while the others wait.

Source of the K-cycle: Y. Notay, P. S. Vassilevski, "Recursive Krylov-based multigrid cycles", Numer. Linear Algebra
Appl. 15 (2008), algorithm 3.2.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.address_kernels import floats, indices, integers
from relaxon.solvers.kernels.compiled import FAST, kernel_part
from relaxon.solvers.kernels.team_kernels import SIZE, meet, share
from relaxon.solvers.sparse.amg.levels_kernels import IN_ORDER

part = kernel_part(fastmath=FAST, error_model="numpy", counted=False)
rows_part = kernel_part(fastmath=IN_ORDER, counted=False)
"""As the parts of that name elsewhere, but quicker to compile, as they create no arrays."""
ONE = np.uint32(1)
(
    BLOCKS, STEPS, SMOOTHED, WAITS, BOUNDS, BEGIN, END, NEAR, COLUMNS, VALUES, SUMS, INVERSE, EXCESS, GROUP,
    OFFSETS, JOINED, JOINED_ROWS, BETWEEN, BETWEEN_ROWS, BETWEEN_BEGIN, BETWEEN_END, BETWEEN_COLUMNS, BETWEEN_VALUES,
    P_BEGIN, P_END, P_COLUMNS, P_VALUES, R_BEGIN, R_END, R_COLUMNS, R_VALUES, RIGHT, X, LEFT, Z, Q, R,
) = range(37)  # fmt: skip
"""Columns of the table of levels: four numbers and the addresses of arrays. Residuals are restricted once all blocks
are done where a level `WAITS`. `P_…` are the rows of the interpolation of a `SMOOTHED` level, `R_…` those of its
transpose; `X`, `LEFT`, `Z`, `Q`, `R` are scratch memory."""
SECOND, RHO, ALONG = 0, 1, 2
"""Columns of a member's notes on a level: whether it is in its second step, and two sums of the first."""


@rows_part
def sweep_forward(start, stop, own, b, x, left):  # type: ignore[no-untyped-def]
    """Sweep forwards from `x = 0`, and write `left ← b − A x` without the entries between blocks."""
    bounds, begin, end = indices(own, BOUNDS), indices(own, BEGIN), indices(own, END)
    c, v, inverse, excess = indices(own, COLUMNS), floats(own, VALUES), floats(own, INVERSE), floats(own, EXCESS)
    near = floats(own, NEAR)
    for block in range(np.uint32(start), np.uint32(stop)):
        above, value, rest = bounds[block], np.float32(0), np.float32(0)
        for i in range(bounds[block], bounds[block + ONE]):
            total = b[i]
            for k in range(begin[i], end[i]):
                total -= v[k] * x[c[k]]
            value = total * inverse[i] - near[i] * inverse[i] * value
            x[i] = value
            left[above] = rest - near[i] * value
            above, rest = i, excess[i] * value
            for k in range(begin[i], end[i]):
                left[c[k]] -= v[k] * value
        if bounds[block] < bounds[block + ONE]:
            left[above] = rest


@rows_part
def add_between(start, stop, own, factor, x, y):  # type: ignore[no-untyped-def]
    """Write `y ← y + factor·B x`, where `B` are the entries between blocks."""
    bounds, rows = indices(own, BETWEEN), indices(own, BETWEEN_ROWS)
    begin, end = indices(own, BETWEEN_BEGIN), indices(own, BETWEEN_END)
    c, v = indices(own, BETWEEN_COLUMNS), floats(own, BETWEEN_VALUES)
    for m in range(bounds[np.uint32(start)], bounds[np.uint32(stop)]):
        total = np.float32(0)
        for k in range(begin[m], end[m]):
            total += v[k] * x[c[k]]
        y[rows[m]] += factor * total


@rows_part
def restrict(start, stop, own, left, coarse):  # type: ignore[no-untyped-def]
    """Write `coarse ← Pᵀ left`, by the rows of the transpose or summed over aggregates."""
    bounds, offsets, group = indices(own, BOUNDS), indices(own, OFFSETS), integers(own, GROUP)
    begin, end, c, v = indices(own, R_BEGIN), indices(own, R_END), indices(own, R_COLUMNS), floats(own, R_VALUES)
    if own[SMOOTHED]:
        for g in range(offsets[np.uint32(start)], offsets[np.uint32(stop)]):
            total = np.float32(0)
            for k in range(begin[g], end[g]):
                total += v[k] * left[c[k]]
            coarse[g] = total
        return
    joined, rows = indices(own, JOINED), indices(own, JOINED_ROWS)
    for block in range(np.uint32(start), np.uint32(stop)):
        lo, hi = offsets[block], offsets[block + ONE]
        for g in range(lo, hi):
            coarse[g] = 0
        for i in range(bounds[block], bounds[block + ONE]):
            own_group = np.uint32(group[i])
            if own_group >= lo and own_group < hi:
                coarse[own_group] += left[i]
        for m in range(joined[block], joined[block + ONE]):
            coarse[np.uint32(group[rows[m]])] += left[rows[m]]


@rows_part
def prolong(start, stop, own, factor, coarse, x, beside):  # type: ignore[no-untyped-def]
    """Write `x ← x + factor·P coarse`, by the rows of the interpolation or constant on aggregates; `beside ← 0`."""
    bounds, group = indices(own, BOUNDS), integers(own, GROUP)
    begin, end, c, v = indices(own, P_BEGIN), indices(own, P_END), indices(own, P_COLUMNS), floats(own, P_VALUES)
    first, last = bounds[np.uint32(start)], bounds[np.uint32(stop)]
    if own[SMOOTHED]:
        for i in range(first, last):
            total = np.float32(0)
            for k in range(begin[i], end[i]):
                total += v[k] * coarse[c[k]]
            x[i] += factor * total
            beside[i] = 0
        return
    for i in range(first, last):
        if group[i] >= 0:
            x[i] += factor * coarse[np.uint32(group[i])]
        beside[i] = 0


@rows_part
def sweep_backward(start, stop, own, b, x, beside):  # type: ignore[no-untyped-def]
    """Sweep backwards; `beside` begins as the product of `x` with the entries between blocks, and is overwritten.

    The last entry of a row is scattered first, as a row soon after waits for it.
    """
    bounds, begin, end = indices(own, BOUNDS), indices(own, BEGIN), indices(own, END)
    c, v, inverse, excess = indices(own, COLUMNS), floats(own, VALUES), floats(own, INVERSE), floats(own, EXCESS)
    near = floats(own, NEAR)
    for block in range(np.uint32(start), np.uint32(stop)):
        lo, i = bounds[block], bounds[block + ONE]
        value, below = np.float32(0), np.float32(0)
        while i > lo:
            i -= ONE
            total = b[i] + excess[i] * x[i]
            for k in range(begin[i], end[i]):
                total -= v[k] * x[c[k]]
            total -= near[i] * x[i - ONE if i > lo else i]
            value = (total - beside[i]) * inverse[i] - below * inverse[i] * value
            below = near[i]
            x[i] = value
            k = end[i]
            while k > begin[i]:
                k -= ONE
                beside[c[k]] += v[k] * value


@rows_part
def apply_matrix(start, stop, own, x, y):  # type: ignore[no-untyped-def]
    """Write `y ← A x`.

    It is computed from row sums and differences `x_j − x_i`: where strong couplings keep `x` nearly constant, its image
    is small beside the products, and would be lost to the rounding of float32.
    """
    bounds, begin, end, sums = indices(own, BOUNDS), indices(own, BEGIN), indices(own, END), floats(own, SUMS)
    c, v, near = indices(own, COLUMNS), floats(own, VALUES), floats(own, NEAR)
    above, value, total = bounds[np.uint32(start)], np.float32(0), np.float32(0)
    for i in range(bounds[np.uint32(start)], bounds[np.uint32(stop)]):
        difference = near[i] * (value - x[i])
        y[above] = total - difference
        above, value = i, x[i]
        total = sums[i] * value + difference
        for k in range(begin[i], end[i]):
            j = c[k]
            difference = v[k] * (x[j] - value)
            total += difference
            y[j] -= difference
    if bounds[np.uint32(start)] < bounds[np.uint32(stop)]:
        y[above] = total
    bounds, rows = indices(own, BETWEEN), indices(own, BETWEEN_ROWS)
    begin, end = indices(own, BETWEEN_BEGIN), indices(own, BETWEEN_END)
    c, v = indices(own, BETWEEN_COLUMNS), floats(own, BETWEEN_VALUES)
    for m in range(bounds[np.uint32(start)], bounds[np.uint32(stop)]):
        value = x[rows[m]]
        total = np.float32(0)
        for k in range(begin[m], end[m]):
            total += v[k] * (x[c[k]] - value)
        y[rows[m]] += total


@part
def sum_products(start, stop, own, x, y, b, parts):  # type: ignore[no-untyped-def]
    """Write `⟨x, y⟩`, `⟨x, b⟩`, `⟨b, b⟩`, `⟨b, y⟩` and `⟨y, y⟩` to `parts[block]`."""
    bounds = indices(own, BOUNDS)
    for block in range(np.uint32(start), np.uint32(stop)):
        square, along, before, image, long = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(bounds[block], bounds[block + ONE]):
            square += x[i] * y[i]
            along += x[i] * b[i]
            before += b[i] * b[i]
            image += b[i] * y[i]
            long += y[i] * y[i]
        parts[block, 0], parts[block, 1] = square, along
        parts[block, 2], parts[block, 3], parts[block, 4] = before, image, long


@rows_part
def sum_energy(start, stop, own, x, b, y, parts):  # type: ignore[no-untyped-def]
    """Write `⟨x, A x⟩`, `⟨x, b⟩` and `⟨x, y⟩` to `parts[block]`: of a block's rows, and half of what lies between."""
    bounds, begin, end, sums = indices(own, BOUNDS), indices(own, BEGIN), indices(own, END), floats(own, SUMS)
    c, v, near = indices(own, COLUMNS), floats(own, VALUES), floats(own, NEAR)
    over, rows = indices(own, BETWEEN), indices(own, BETWEEN_ROWS)
    b_begin, b_end = indices(own, BETWEEN_BEGIN), indices(own, BETWEEN_END)
    b_c, b_v = indices(own, BETWEEN_COLUMNS), floats(own, BETWEEN_VALUES)
    for block in range(np.uint32(start), np.uint32(stop)):
        square, along, across, value = 0.0, 0.0, 0.0, np.float32(0)
        for i in range(bounds[block], bounds[block + ONE]):
            difference, value = value - x[i], x[i]
            total = sums[i] * value * value - near[i] * difference * difference
            for k in range(begin[i], end[i]):
                difference = x[c[k]] - value
                total -= v[k] * difference * difference
            square += total
            along += value * b[i]
            across += value * y[i]
        for m in range(over[block], over[block + ONE]):
            value = x[rows[m]]
            total = np.float32(0)
            for k in range(b_begin[m], b_end[m]):
                difference = x[b_c[k]] - value
                total += b_v[k] * difference * difference
            square -= 0.5 * total
        parts[block, 0], parts[block, 1], parts[block, 2] = square, along, across


@part
def combine(start, stop, own, one, first, two, second, result):  # type: ignore[no-untyped-def]
    """Write `x ← one·z + two·w`, where the arguments are the columns of the vectors in the table."""
    bounds, z, w, x = indices(own, BOUNDS), floats(own, first), floats(own, second), floats(own, result)
    for i in range(bounds[np.uint32(start)], bounds[np.uint32(stop)]):
        x[i] = one * z[i] + two * w[i]


@part
def multiply_dense(inverse, b, x):  # type: ignore[no-untyped-def]
    """Write `x ← inverse @ b`."""
    for i in range(np.uint32(len(inverse))):
        total = 0.0
        for k in range(np.uint32(len(inverse))):
            total += inverse[i, k] * b[k]
        x[i] = total


@rows_part
def sum_columns(parts, count, sums):  # type: ignore[no-untyped-def]
    """Write the sums of all columns, added in order so that they do not depend on the number of threads."""
    for column in range(np.uint32(len(sums))):
        total = 0.0
        for block in range(np.uint32(count)):
            total += parts[block, column]
        sums[column] = total


@rows_part
def weigh_directions(sums, rho, along):  # type: ignore[no-untyped-def]
    """Return the factors of both directions of two steps of flexible conjugate gradients (algorithm 3.2)."""
    square, ahead, gamma = sums[0], sums[1], sums[2]
    rest = square - gamma * gamma / rho
    if not rest > 1e-6 * square:
        return along / rho, 0.0
    two = ahead / rest
    return along / rho - gamma / rho * two, two


@rows_part
def apply_cycle(first, last, team, table, factors, solution, visits, notes, parts):  # type: ignore[no-untyped-def]
    """Solve approximately on the levels of `table`, from the first one's `RIGHT` into its `X`.

    A level whose `STEPS` is 2 takes up to two steps of flexible conjugate gradients, each preconditioned with a cycle,
    the second only where the first leaves more than `enough` of the squared residual; one whose `STEPS` is 1, and the
    first level, takes one cycle. `factors` are that of corrections, `enough`, and the fixed lengths of both steps: with
    these above 0 both are always taken, and the cycle is linear. `solution` is the inverse on the last level. `visits`
    are counted. `notes (members, levels + 1, 6)` and `parts (blocks, 6)` are scratch memory.
    """
    final, own_notes, ending = len(table) - 1, notes[first], last == team[SIZE]
    sums = own_notes[final + 1]
    correction, enough, one_step, two_step = np.float32(factors[0]), factors[1], factors[2], factors[3]
    tail = final  # the first of the last levels, which all have a single block
    while tail > 0 and table[tail - 1, BLOCKS] == 1:
        tail -= 1
    for level in range(final + 1):
        own_notes[level, SECOND] = 0.0
    level, down = 0, True
    while level >= 0:
        if level >= tail and not ending:
            level, down = tail - 1, False
            meet(first, last, team)
            continue
        own, shared = table[level], level < tail
        start, stop = share(first, last, team, own[BLOCKS])
        twice, second = own[STEPS] == 2, own_notes[level, SECOND] > 0.0
        b, left = floats(own, R if second else RIGHT), floats(own, LEFT)
        x = floats(own, Z if twice and not second else X)
        if down:
            if ending:
                visits[level] += 1
            if level == final:
                multiply_dense(solution, b, x)
                down = False
                level -= 1
                if level + 1 == tail:
                    meet(first, last, team)
                continue
            sweep_forward(start, stop, own, b, x, left)
            if shared:
                meet(first, last, team)
                add_between(start, stop, own, np.float32(-1), x, left)
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
            add_between(start, stop, own, np.float32(1), x, left)
            meet(first, last, team)
        sweep_backward(start, stop, own, b, x, left)
        if twice:
            if shared:
                meet(first, last, team)
            one, two, z, w, result = one_step, two_step, Z, X, X
            if not second:
                apply_matrix(start, stop, own, x, floats(own, Q))
                down = one_step > 0.0
                if not down:
                    sum_products(start, stop, own, x, floats(own, Q), b, parts)
                    if shared:
                        meet(first, last, team)
                    sum_columns(parts, own[BLOCKS], sums)
                    own_notes[level, RHO], own_notes[level, ALONG] = sums[0], sums[1]
                    one = sums[1] / sums[0] if sums[0] > 0.0 else 1.0
                    after = sums[2] - 2.0 * one * sums[3] + one * one * sums[4]
                    down = sums[0] > 0.0 and after > enough * sums[2]
                    two, w = 0.0, Z
                if down:
                    own_notes[level, SECOND] = 1.0
                    one, two, z, w, result = 1.0, -one, RIGHT, Q, R
            else:
                if not one_step > 0.0:
                    sum_energy(start, stop, own, x, b, floats(own, Q), parts)
                    if shared:
                        meet(first, last, team)
                    sum_columns(parts, own[BLOCKS], sums)
                    one, two = weigh_directions(sums, own_notes[level, RHO], own_notes[level, ALONG])
                own_notes[level, SECOND] = 0.0
            combine(start, stop, own, one, z, two, w, result)
            if down:
                continue
        level -= 1
        if level < tail:
            meet(first, last, team)
