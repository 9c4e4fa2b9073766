"""Kernels of a cycle and of the iteration around it, over the same blocks of rows as the set-up.

Of a level's symmetric matrix only the entries before the diagonal are stored, `begin[i]:end[i]` of row `i`, and each
stands for its mirror image too: a pass over a row gathers with them and scatters to the rows before it. That halves the
memory traffic, and the loops over rows, whose ends are hard to predict for a processor. Entries between blocks are in
rows of their own. One Gauss–Seidel sweep goes forwards before the coarse correction and one backwards after it, within
a block; between blocks old values are used, and `excess` is added to the diagonal, so that the cycle is symmetric and
definite.

Source of the K-cycle: Y. Notay, P. S. Vassilevski, "Recursive Krylov-based multigrid cycles", Numer. Linear Algebra
Appl. 15 (2008), algorithm 3.2.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import FAST, kernel, plain
from relaxon.solvers.sparse.amg.levels_kernels import IN_ORDER, rows_kernel

ONE = np.uint32(1)
ROW, ENTRY, COUNT, STEPS, SMOOTHED, WEIGHT, VISITS = 0, 1, 2, 3, 4, 5, 6
"""Columns of the table of levels for `cycle_levels`; `WEIGHT` is where the interpolation's entries begin."""
inlined_rows = kernel(fastmath=IN_ORDER, forceinline=True)
inlined = kernel(fastmath=FAST, error_model="numpy", forceinline=True)
"""The decorators of kernels that `cycle_levels` calls too: see `compiled.kernel_part` for why they are inlined."""


@inlined_rows
def sweep_forward(start, stop, bounds, begin, end, c, v, inverse, excess, b, x, left):  # type: ignore[no-untyped-def]
    """Sweep forwards from `x = 0`, and write `left ← b − A x` without the entries outside the block."""
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
    """Write `y ← y + factor·B x`, where `B` are the entries between blocks: `c[begin[m]:end[m]]` of row `rows[m]`."""
    for block in range(start, stop):
        for m in range(bounds[block], bounds[block + 1]):
            total = np.float32(0)
            for k in range(begin[m], end[m]):
                total += v[k] * x[c[k]]
            y[rows[m]] += factor * total


@inlined_rows
def restrict(start, stop, bounds, offsets, left, group, coarse):  # type: ignore[no-untyped-def]
    """Write `coarse ← Pᵀ left`, summing over aggregates."""
    for block in range(start, stop):
        for g in range(offsets[block], offsets[block + 1]):
            coarse[g] = 0
        for i in range(bounds[block], bounds[block + 1]):
            if group[i] >= 0:
                coarse[np.uint32(group[i])] += left[i]


@inlined_rows
def prolong(start, stop, bounds, group, factor, coarse, x, beside):  # type: ignore[no-untyped-def]
    """Write `x ← x + factor·P coarse`, constant on aggregates, and `beside ← 0`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            if group[i] >= 0:
                x[i] += factor * coarse[np.uint32(group[i])]
            beside[i] = 0


@inlined_rows
def restrict_smoothed(start, stop, bounds, begin, end, c, v, r, coarse):  # type: ignore[no-untyped-def]
    """Write `coarse ← Pᵀ r` by the rows of the transpose."""
    for block in range(start, stop):
        for g in range(bounds[block], bounds[block + 1]):
            total = np.float32(0)
            for k in range(begin[g], end[g]):
                total += v[k] * r[c[k]]
            coarse[g] = total


@inlined_rows
def prolong_smoothed(start, stop, bounds, begin, end, c, v, factor, coarse, x, beside):  # type: ignore[no-untyped-def]
    """Write `x ← x + factor·P coarse` by the rows of the interpolation, and `beside ← 0`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            total = np.float32(0)
            for k in range(begin[i], end[i]):
                total += v[k] * coarse[c[k]]
            x[i] += factor * total
            beside[i] = 0


@inlined_rows
def sweep_backward(start, stop, bounds, begin, end, c, v, inverse, excess, b, x, beside):  # type: ignore[no-untyped-def]
    """Sweep backwards; `beside` begins as the product of `x` with the entries outside the block, and is overwritten.

    The last entry of a row, nearest to the diagonal, is scattered first, as the next row waits for it.
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
    """Write `y ← A x` without the entries outside the block.

    It is computed from row sums and differences `x_j − x_i`: where strong couplings keep `x` nearly constant, its image
    is small beside the products, and would be lost to the rounding of float32.
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
    """Add the entries between blocks to the result of `apply_matrix`."""
    for block in range(start, stop):
        for m in range(bounds[block], bounds[block + 1]):
            own = x[rows[m]]
            total = np.float32(0)
            for k in range(begin[m], end[m]):
                total += v[k] * (x[c[k]] - own)
            y[rows[m]] += total


@inlined
def sum_products(start, stop, bounds, x, y, b, other, parts):  # type: ignore[no-untyped-def]
    """Write `⟨x, y⟩`, `⟨x, b⟩` and `⟨x, other⟩` to `parts[block]`."""
    for block in range(start, stop):
        square, along, across = 0.0, 0.0, 0.0
        for i in range(bounds[block], bounds[block + 1]):
            square += x[i] * y[i]
            along += x[i] * b[i]
            across += x[i] * other[i]
        parts[block, 0], parts[block, 1], parts[block, 2] = square, along, across


@inlined
def reduce_residual(start, stop, bounds, factor, q, b, r, parts):  # type: ignore[no-untyped-def]
    """Write `r ← b − factor·q`; `parts[block]` gets `⟨r, r⟩` and `⟨b, b⟩`."""
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
    """Write `x ← one·z + two·w`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            x[i] = one * z[i] + two * w[i]


@inlined
def multiply_dense(inverse, b, x):  # type: ignore[no-untyped-def]
    """Write `x ← inverse @ b`."""
    for i in range(len(x)):
        total = 0.0
        for k in range(len(b)):
            total += inverse[i, k] * b[k]
        x[i] = total


@inlined_rows
def weigh_directions(parts, rho, gamma, along):  # type: ignore[no-untyped-def]
    """Return the factors of both directions of two steps of flexible conjugate gradients (algorithm 3.2)."""
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
    """Solve approximately on the levels of `table`, from `right` into `x`, both at the first level's rows.

    Each level is one block. A level whose `STEPS` is 2 takes up to two steps of flexible conjugate gradients, each
    preconditioned with a cycle, the second only where the first leaves more than `enough` of the squared residual; one
    whose `STEPS` is 1 takes one cycle. The first level takes two steps only if `accelerated`. Corrections are
    multiplied by `factor`. With `one_step` above 0 both steps are always taken, with these fixed lengths, and the cycle
    is linear. `solution` is the inverse on the last level. `x`, `z`, `q`, `r`, `t` are scratch memory for the vectors
    of all levels. `VISITS` of the table are counted.

    On a `SMOOTHED` level corrections are interpolated by the rows `begin … end` of `columns` and `weights`, and
    residuals are restricted by those of `gather_…`, which stand at the coarse level's rows; else both go by `group`.
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
            # Of the image of the second direction only sums are needed: it overwrites the right-hand side.
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
    """Write `⟨z, one⟩` and `⟨z, two⟩` to `parts[block]`, with the images of the last two directions."""
    for block in range(start, stop):
        a, b = 0.0, 0.0
        for i in range(bounds[block], bounds[block + 1]):
            a += z[i] * one[i]
            b += z[i] * two[i]
        parts[block, 0], parts[block, 1] = a, b


@plain
def make_conjugate(start, stop, bounds, z, one, p, two, q, d):  # type: ignore[no-untyped-def]
    """Write `d ← z − one·p − two·q`; `d` may be `q`."""
    for block in range(start, stop):
        for i in range(bounds[block], bounds[block + 1]):
            d[i] = z[i] - one * p[i] - two * q[i]


@plain
def gather(start, stop, source, order, target):  # type: ignore[no-untyped-def]
    """Write `target[i] ← source[order[i]]`."""
    for i in range(start, stop):
        target[i] = source[order[i]]


@plain
def scatter(start, stop, source, order, target):  # type: ignore[no-untyped-def]
    """Write `target[order[i]] ← source[i]`; `order` is a permutation."""
    for i in range(start, stop):
        target[order[i]] = source[i]


@rows_kernel
def apply_direction(start, stop, bounds, indptr, indices, data, d, image, r, parts):  # type: ignore[no-untyped-def]
    """Write `image ← A d` in float64; `parts[block]` gets `⟨d, image⟩` and `⟨d, r⟩`."""
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
    """Write `x ← x + alpha·d`, `r ← r − alpha·image`, `short ← scale·r`; `parts[block]` gets `⟨r, r⟩` and `Σ r`."""
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
    """Write `r ← b − A x`; `parts[block]` gets `⟨r, r⟩`."""
    for block in range(start, stop):
        square = 0.0
        for i in range(bounds[block], bounds[block + 1]):
            total = b[i]
            for k in range(indptr[i], indptr[i + ONE]):
                total -= data[k] * x[indices[k]]
            r[i] = total
            square += total * total
        parts[block, 0] = square
