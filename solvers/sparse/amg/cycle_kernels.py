"""Kernels of a cycle and of the iteration around it, over blocks of rows as those of the set-up.

Of a level's symmetric matrix the entries before the diagonal are kept, `begin[i]:end[i]` of row `i`, and each stands
for its mirror image too: a pass over a row gathers with them, and scatters to the rows before it. That halves what is
read, and the loops over rows, whose ends processors foretell badly. Entries between blocks are in rows of their own.
One sweep of Gauss–Seidel goes forwards before the coarse correction and backwards after it, within a block; between
blocks old values are taken, and the diagonal has `excess` added, so that the cycle is symmetric and definite.

Source of the K-cycle: Y. Notay, P. S. Vassilevski, "Recursive Krylov-based multigrid cycles", Numer. Linear Algebra
Appl. 15 (2008), algorithm 3.2.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import FAST, kernel, plain
from relaxon.solvers.sparse.amg.levels_kernels import IN_ORDER, rows_kernel

ONE = np.uint32(1)
ROW, ENTRY, COUNT, STEPS, SMOOTHED, WEIGHT, VISITS = 0, 1, 2, 3, 4, 5, 6
"""Columns of the table of levels that `cycle_levels` takes; `WEIGHT` is where the interpolation's entries begin."""
inlined_rows = kernel(fastmath=IN_ORDER, forceinline=True)
inlined = kernel(fastmath=FAST, error_model="numpy", forceinline=True)
"""The decorators of what `cycle_levels` calls as well: see `compiled.kernel_part` for why it is inlined there."""


@inlined_rows
def sweep_forward(start, stop, bounds, begin, end, c, v, inverse, excess, b, x, left):  # type: ignore[no-untyped-def]
    """One sweep forwards from `x = 0`; `left ← b − A x`, but for what lies outside the block."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            total = b[i]
            for k in range(begin[i], end[i]):
                total -= v[k] * x[c[k]]
            own = total * inverse[i]
            x[i] = own
            left[i] = excess[i] * own
            for k in range(begin[i], end[i]):
                left[c[k]] -= v[k] * own


@rows_kernel
def add_across(start, stop, bounds, rows, begin, end, c, v, factor, x, y):  # type: ignore[no-untyped-def]
    """`y ← y + factor·B x`, `B` the entries between blocks: `c[begin[m]:end[m]]` of row `rows[m]`."""
    for block in range(start, stop):
        for m in range(bounds[block], bounds[block + 1]):
            total = np.float32(0)
            for k in range(begin[m], end[m]):
                total += v[k] * x[c[k]]
            y[rows[m]] += factor * total


@inlined_rows
def restrict(start, stop, bounds, offsets, left, group, coarse):  # type: ignore[no-untyped-def]
    """`coarse ← Pᵀ left`."""
    for block in range(start, stop):
        for g in range(offsets[block], offsets[block + 1]):
            coarse[g] = 0
        for i in range(bounds[block], bounds[block + 1]):
            if group[i] >= 0:
                coarse[np.uint32(group[i])] += left[i]


@inlined_rows
def prolong(start, stop, bounds, group, factor, coarse, x, beside):  # type: ignore[no-untyped-def]
    """`x ← x + factor·P coarse`, and `beside ← 0`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            if group[i] >= 0:
                x[i] += factor * coarse[np.uint32(group[i])]
            beside[i] = 0


@inlined_rows
def restrict_smoothed(start, stop, bounds, begin, end, c, v, r, coarse):  # type: ignore[no-untyped-def]
    """`coarse ← Pᵀ r`, of the transpose's rows."""
    for block in range(start, stop):
        for g in range(bounds[block], bounds[block + 1]):
            total = np.float32(0)
            for k in range(begin[g], end[g]):
                total += v[k] * r[c[k]]
            coarse[g] = total


@inlined_rows
def prolong_smoothed(start, stop, bounds, begin, end, c, v, factor, coarse, x, beside):  # type: ignore[no-untyped-def]
    """`x ← x + factor·P coarse`, of the interpolation's rows, and `beside ← 0`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            total = np.float32(0)
            for k in range(begin[i], end[i]):
                total += v[k] * coarse[c[k]]
            x[i] += factor * total
            beside[i] = 0


@inlined_rows
def sweep_backward(start, stop, bounds, begin, end, c, v, inverse, excess, b, x, beside):  # type: ignore[no-untyped-def]
    """One sweep backwards; `beside` begins as what lies outside the block makes of `x`, and is written to.

    A row's entry nearest to the diagonal, its last one, is scattered first: the next row waits for it.
    """
    for block in range(start, stop):
        lo, i = bounds[block], bounds[block + 1]
        while i > lo:
            i -= ONE
            total = b[i] + excess[i] * x[i]
            for k in range(begin[i], end[i]):
                total -= v[k] * x[c[k]]
            own = (total - beside[i]) * inverse[i]
            x[i] = own
            k = end[i]
            while k > begin[i]:
                k -= ONE
                beside[c[k]] += v[k] * own


@inlined_rows
def apply_matrix(start, stop, bounds, begin, end, c, v, sums, x, y):  # type: ignore[no-untyped-def]
    """`y ← A x`, but for what lies outside the block.

    By the row sums and `x_j − x_i`: where strong couplings hold `x` level, its image is small beside their products
    with `x`, and float32 would leave nothing of it.
    """
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            own = x[i]
            total = sums[i] * own
            for k in range(begin[i], end[i]):
                j = c[k]
                difference = v[k] * (x[j] - own)
                total += difference
                y[j] -= difference
            y[i] = total


@rows_kernel
def apply_across(start, stop, bounds, rows, begin, end, c, v, x, y):  # type: ignore[no-untyped-def]
    """What entries between blocks add to `apply_matrix`."""
    for block in range(start, stop):
        for m in range(bounds[block], bounds[block + 1]):
            own = x[rows[m]]
            total = np.float32(0)
            for k in range(begin[m], end[m]):
                total += v[k] * (x[c[k]] - own)
            y[rows[m]] += total


@inlined
def sum_products(start, stop, bounds, x, y, b, other, parts):  # type: ignore[no-untyped-def]
    """`parts[block]` gets `⟨x, y⟩`, `⟨x, b⟩` and `⟨x, other⟩`."""
    for block in range(start, stop):
        square, along, across = 0.0, 0.0, 0.0
        for i in range(bounds[block], bounds[block + 1]):
            square += x[i] * y[i]
            along += x[i] * b[i]
            across += x[i] * other[i]
        parts[block, 0], parts[block, 1], parts[block, 2] = square, along, across


@inlined
def reduce_residual(start, stop, bounds, factor, q, b, r, parts):  # type: ignore[no-untyped-def]
    """`r ← b − factor·q`; `parts[block]` gets `⟨r, r⟩` and `⟨b, b⟩`."""
    for block in range(start, stop):
        after, before = 0.0, 0.0
        for i in range(bounds[block], bounds[block + 1]):
            value = b[i] - factor * q[i]
            r[i] = value
            after += value * value
            before += b[i] * b[i]
        parts[block, 0], parts[block, 1] = after, before


@inlined
def combine(start, stop, bounds, one, z, two, w, x):  # type: ignore[no-untyped-def]
    """`x ← one·z + two·w`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            x[i] = one * z[i] + two * w[i]


@inlined
def multiply_dense(inverse, b, x):  # type: ignore[no-untyped-def]
    """`x ← inverse @ b`."""
    for i in range(len(x)):
        total = 0.0
        for k in range(len(b)):
            total += inverse[i, k] * b[k]
        x[i] = total


@inlined_rows
def weigh_directions(parts, rho, gamma, along):  # type: ignore[no-untyped-def]
    """The factors of both directions of two steps of flexible conjugate gradients (algorithm 3.2)."""
    square, ahead = parts[0], parts[1]
    rest = square - gamma * gamma / rho
    if not rest > 1e-6 * square:
        return along / rho, 0.0
    two = ahead / rest
    return along / rho - gamma / rho * two, two


@rows_kernel
def cycle_levels(  # type: ignore[no-untyped-def]
    table, accelerated, factor, enough, one_step, two_step, first, last, c, v, sums, inverse, excess, group,
    begin, end, columns, weights, gather_begin, gather_end, gather_rows, gather_weights, solution,
    right, x, z, q, r, t, parts,
):  # fmt: skip
    """Solve on the levels of `table` roughly, from `right` into `x`, both at the first level's rows.

    Each level is one block. Where the level's `STEPS` is 2 it is solved by up to two steps of flexible conjugate
    gradients, each preconditioned with a cycle, the second only where the first leaves more than `enough` of the
    residual's square; where it is 1 by one cycle. The first one is so only if `accelerated`. Corrections are multiplied
    by `factor`. With `one_step` above 0 both steps are always taken, of these fixed lengths: the cycle is then linear.
    `solution` is the inverse on the last level. `x`, `z`, `q`, `r`, `t` are memory for all levels' vectors. The table's
    `VISITS` are counted.
    Where the level is `SMOOTHED` its corrections are interpolated by the rows `begin … end` of `columns` and `weights`,
    and restricted by those of `gather_…`, which stand at the coarse level's rows; else by `group`.
    """
    final = len(table) - 1
    step = np.zeros(final + 1, np.int64)
    rho, along = np.zeros(final + 1), np.zeros(final + 1)
    whole, ends = np.zeros(2, np.uint32), np.zeros(2, np.uint32)
    level = 0
    down = True
    while True:
        row, entry, count = table[level, ROW], table[level, ENTRY], table[level, COUNT]
        rows = slice(row, row + count)
        whole[1] = count
        c_, v_, x_ = c[entry:], v[entry:], x[rows]
        if level < final:
            b_ = right[rows] if step[level] == 0 else r[rows]
            coarse = table[level + 1, COUNT]
            below = slice(table[level + 1, ROW], table[level + 1, ROW] + coarse)
        if down:
            table[level, VISITS] += 1
            if level == final:
                multiply_dense(solution, right[rows], x_)
                down = False
                level -= 1
                if level < 0:
                    return
                continue
            sweep_forward(0, 1, whole, first[rows], last[rows], c_, v_, inverse[rows], excess[rows], b_, x_, t[rows])
            ends[1] = coarse
            if table[level, SMOOTHED]:
                entry = table[level, WEIGHT]
                rows_, weights_ = gather_rows[entry:], gather_weights[entry:]
                restrict_smoothed(
                    0, 1, ends, gather_begin[below], gather_end[below], rows_, weights_, t[rows], right[below]
                )
                level += 1
                continue
            restrict(0, 1, whole, ends, t[rows], group[rows], right[below])
            level += 1
            continue
        if table[level, SMOOTHED]:
            entry = table[level, WEIGHT]
            columns_, weights_ = columns[entry:], weights[entry:]
            prolong_smoothed(0, 1, whole, begin[rows], end[rows], columns_, weights_, factor, x[below], x_, t[rows])
        else:
            prolong(0, 1, whole, group[rows], factor, x[below], x_, t[rows])
        sweep_backward(0, 1, whole, first[rows], last[rows], c_, v_, inverse[rows], excess[rows], b_, x_, t[rows])
        if table[level, STEPS] == 1 or (level == 0 and not accelerated):
            level -= 1
        elif step[level] == 0:
            q_, z_, r_ = q[rows], z[rows], r[rows]
            for row in range(x_.size):  # an assignment of whole arrays compiles the message of its error
                z_[row] = x_[row]
            apply_matrix(0, 1, whole, first[rows], last[rows], c_, v_, sums[rows], z_, q_)
            sum_products(0, 1, whole, z_, q_, b_, b_, parts)
            rho[level], along[level] = parts[0, 0], parts[0, 1]
            if one_step > 0.0:
                combine(0, 1, whole, 1.0, b_, -one_step, q_, r_)
                step[level] = 1
                down = True
            elif not rho[level] > 0.0:
                level -= 1
            else:
                reduce_residual(0, 1, whole, along[level] / rho[level], q_, b_, r_, parts)
                if parts[0, 0] <= enough * parts[0, 1]:
                    combine(0, 1, whole, along[level] / rho[level], z_, 0.0, z_, x_)
                    level -= 1
                else:
                    step[level] = 1
                    down = True
        else:
            # The image of the second direction is needed for its sums alone: it takes the place of the residual.
            one, two = one_step, two_step
            if not one_step > 0.0:
                spare = right[rows]
                apply_matrix(0, 1, whole, first[rows], last[rows], c_, v_, sums[rows], x_, spare)
                sum_products(0, 1, whole, x_, spare, b_, q[rows], parts)
                one, two = weigh_directions(parts[0], rho[level], parts[0, 2], along[level])
            combine(0, 1, whole, one, z[rows], two, x_, x_)
            step[level] = 0
            level -= 1
        if level < 0:
            return


@plain
def sum_conjugations(start, stop, bounds, z, one, two, parts):  # type: ignore[no-untyped-def]
    """`parts[block]` gets `⟨z, one⟩` and `⟨z, two⟩`, the images of the last two directions."""
    for block in range(start, stop):
        a, b = 0.0, 0.0
        for i in range(bounds[block], bounds[block + 1]):
            a += z[i] * one[i]
            b += z[i] * two[i]
        parts[block, 0], parts[block, 1] = a, b


@plain
def make_conjugate(start, stop, bounds, z, one, p, two, q, d):  # type: ignore[no-untyped-def]
    """`d ← z − one·p − two·q`; `d` may be `q`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            d[i] = z[i] - one * p[i] - two * q[i]


@rows_kernel
def apply_direction(start, stop, bounds, indptr, indices, data, d, image, r, parts):  # type: ignore[no-untyped-def]
    """`image ← A d` in float64; `parts[block]` gets `⟨d, image⟩` and `⟨d, r⟩`."""
    for block in range(start, stop):
        curvature, projection = 0.0, 0.0
        for i in range(bounds[block], bounds[block + 1]):
            total = 0.0
            for k in range(indptr[i], indptr[i + ONE]):
                total += data[k] * d[indices[k]]
            image[i] = total
            curvature += total * d[i]
            projection += d[i] * r[i]
        parts[block, 0], parts[block, 1] = curvature, projection


@plain
def take_step(start, stop, bounds, alpha, d, image, x, r, scale, short, parts):  # type: ignore[no-untyped-def]
    """`x ← x + alpha·d`, `r ← r − alpha·image`, `short ← scale·r`; `parts[block]` gets `⟨r, r⟩` and `Σ r`."""
    for block in range(start, stop):
        square, total = 0.0, 0.0
        for i in range(bounds[block], bounds[block + 1]):
            x[i] += alpha * d[i]
            value = r[i] - alpha * image[i]
            r[i] = value
            short[i] = scale * value
            square += value * value
            total += value
        parts[block, 0], parts[block, 1] = square, total


@rows_kernel
def compute_residual(start, stop, bounds, indptr, indices, data, b, x, r, parts):  # type: ignore[no-untyped-def]
    """`r ← b − A x`; `parts[block]` gets `⟨r, r⟩`."""
    for block in range(start, stop):
        square = 0.0
        for i in range(bounds[block], bounds[block + 1]):
            total = b[i]
            for k in range(indptr[i], indptr[i + ONE]):
                total -= data[k] * x[indices[k]]
            r[i] = total
            square += total * total
        parts[block, 0] = square
