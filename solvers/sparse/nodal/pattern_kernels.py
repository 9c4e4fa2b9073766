"""Kernels of the set-up of block levels that do not depend on block sizes: patterns, order, strength, aggregates.

Source of the aggregates: P. Vaněk, J. Mandel, M. Brezina, "Algebraic multigrid by smoothed aggregation for second and
fourth order elliptic problems", Computing 56 (1996), algorithm 5.1.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import kernel

setup_kernel = kernel(fastmath={"contract", "nsz"}, counted=False)
ONE = np.uint32(1)
UNSET, LEFT_OUT = np.int32(-2), np.int32(-1)
TINY = 1e-6
"""A pivot below this fraction of its diagonal entry is rounding of float32: its unknown is left out."""
DEPENDENT = 1e-5
"""A column of an aggregate of which no more than this fraction of its norm remains depends on those before it."""


@setup_kernel
def count_product(  # type: ignore[no-untyped-def]
    start, stop, bounds, first, last, columns, square, norms, most, other_first, other_last, other_columns, counts, seen
):
    """Count the blocks of each row of `A B`. `seen`, one uint32 a column of `B`, begins with zeros.

    Where `square` is positive, weak couplings of `A` are left out: those with `norms[k] < square √(most[i] most[j])`,
    where norms are squared and `most` is the largest of each row.
    """
    for part in range(start, stop):
        for i in range(bounds[part], bounds[part + 1]):
            mark = np.uint32(i) + ONE
            count = np.uint32(0)
            for k in range(first[i], last[i]):
                j = columns[k]
                if square > 0 and j != i and norms[k] < square * np.sqrt(most[i] * most[j]):
                    continue
                for m in range(other_first[j], other_last[j]):
                    if seen[other_columns[m]] != mark:
                        seen[other_columns[m]] = mark
                        count += ONE
            counts[i] = count


@setup_kernel
def count_blocks(start, stop, bounds, size, order, unknown, indptr, indices, slot, counts, seen):  # type: ignore[no-untyped-def]
    """Count the blocks of each node's rows.

    Node `i` is the caller's node `order[i]`, whose unknowns are `unknown[size·order[i] …]`, with the number of all
    unknowns in place of missing ones. `seen` begins with zeros.
    """
    for part in range(start, stop):
        for i in range(bounds[part], bounds[part + 1]):
            mark = np.uint32(i) + ONE
            count = ONE  # the diagonal's, in any case
            seen[order[i]] = mark
            for r in range(order[i] * size, order[i] * size + size):
                row = unknown[r]
                if row + ONE < len(indptr):
                    for k in range(indptr[row], indptr[row + ONE]):
                        j = slot[indices[k]] // size
                        if seen[j] != mark:
                            seen[j] = mark
                            count += ONE
            counts[i] = count


@setup_kernel
def fill_blocks(  # type: ignore[no-untyped-def]
    start, stop, bounds, size, order, place, unknown, indptr, indices, data, scale, slot, first, columns, values, seen
):
    """Copy each node's rows into blocks, `values[k, c, r]`, which begin as zeros.

    `seen` is scratch memory, below `first[bounds[start]] + 1` at the start.
    """
    for part in range(start, stop):
        for i in range(bounds[part], bounds[part + 1]):
            begin = first[i]
            end = begin + ONE
            seen[order[i]], columns[begin] = end, i
            for r in range(size):
                row = unknown[order[i] * size + r]
                if row + ONE < len(indptr):
                    for k in range(indptr[row], indptr[row + ONE]):
                        column = slot[indices[k]]
                        j = column // size
                        at = seen[j]
                        if at <= begin or at > end:
                            end += ONE
                            at = end
                            seen[j] = at
                            columns[at - ONE] = place[j]
                        values[at - ONE, column - j * size, r] = data[k] * scale


@setup_kernel
def arrange_rows(  # type: ignore[no-untyped-def]
    start,
    stop,
    bounds,
    first,
    last,
    columns,
    values,
    middle,
    inner,
    norms,
    most,
    diagonal,
    excess,
    kept_columns,
    kept_values,
):
    """Bring each row's blocks into sweeping order, in place: before the diagonal, the diagonal, after it, outside the
    part.

    `middle[i]` is the diagonal's place, and blocks outside the part begin at `inner[i]`. `norms[k]` is the squared
    Frobenius norm of a block, in that order, and `most[i]` the largest one off the diagonal; `diagonal[i]` is a copy of
    the diagonal block; `excess` is half the sum of magnitudes outside the part. The last two arguments are scratch
    memory for the longest row.
    """
    rows = values.shape[2]
    for part in range(start, stop):
        lo, hi = bounds[part], bounds[part + 1]
        for i in range(lo, hi):
            count = last[i] - first[i]
            position = first[i]
            for k in range(count):
                kept_columns[k] = columns[first[i] + k]
                for c in range(rows):
                    for r in range(rows):
                        kept_values[k, c, r] = values[first[i] + k, c, r]
            for r in range(rows):
                excess[i * rows + r] = 0
            most[i] = 0
            for kind in range(4):
                if kind == 1:
                    middle[i] = position
                elif kind == 3:
                    inner[i] = position
                for k in range(count):
                    j = kept_columns[k]
                    found = 3
                    if j >= lo and j < hi:
                        found = 0 if j < i else (1 if j == i else 2)
                    if found != kind:
                        continue
                    columns[position] = j
                    total = 0.0
                    for c in range(rows):
                        for r in range(rows):
                            value = kept_values[k, c, r]
                            values[position, c, r] = value
                            total += value * value
                            if kind == 1:
                                diagonal[i, c, r] = value
                            elif kind == 3:
                                excess[i * rows + r] += np.float32(0.5) * abs(value)
                    norms[position] = total
                    if kind != 1:
                        most[i] = max(most[i], np.float32(total))
                    position += ONE


@setup_kernel
def invert_blocks(start, stop, bounds, diagonal, excess, inverse, work):  # type: ignore[no-untyped-def]
    """Write `inverse ← (diagonal + excess)⁻¹`, block by block, by elimination in float64; unknowns without a pivot get
    zeros. `work` is scratch memory, `(2, size, size)`.
    """
    size = diagonal.shape[1]
    for part in range(start, stop):
        for i in range(bounds[part], bounds[part + 1]):
            for r in range(size):
                for c in range(size):
                    work[0, r, c] = 0.5 * (diagonal[i, c, r] + diagonal[i, r, c])
                    work[1, r, c] = 0.0
                work[0, r, r] += excess[i * size + r]
                work[1, r, r] = 1.0
            for p in range(size):
                own = diagonal[i, p, p] + excess[i * size + p]
                pivot = work[0, p, p]
                if not pivot > TINY * own:
                    for c in range(size):
                        work[0, p, c] = work[0, c, p] = 0.0
                        work[1, p, c] = work[1, c, p] = 0.0
                    continue
                for c in range(size):
                    work[0, p, c] /= pivot
                    work[1, p, c] /= pivot
                for r in range(size):
                    if r != p:
                        factor = work[0, r, p]
                        for c in range(size):
                            work[0, r, c] -= factor * work[0, p, c]
                            work[1, r, c] -= factor * work[1, p, c]
            for r in range(size):
                for c in range(size):
                    inverse[i, c, r] = 0.5 * (work[1, r, c] + work[1, c, r])


@setup_kernel
def aggregate_nodes(  # type: ignore[no-untyped-def]
    start, stop, bounds, first, middle, inner, last, columns, square, norms, most, dominated, group, counts
):
    """Aggregate the nodes of each part: `group` gets numbers from `bounds[part]`, `counts[part]` their count.

    Couplings that `count_product` does not leave out are strong. A node whose couplings' norms sum to at most
    `dominated` times that of its own block is left out.
    """
    for part in range(start, stop):
        lo, hi = bounds[part], bounds[part + 1]
        number = np.int32(lo)
        for i in range(lo, hi):
            group[i] = UNSET
            total = 0.0
            for k in range(first[i], last[i]):
                if k != middle[i]:
                    total += np.sqrt(norms[k])
            if total <= dominated * np.sqrt(norms[middle[i]]):
                group[i] = LEFT_OUT
        for i in range(lo, hi):  # a node without an aggregated neighbour begins one, with all of its neighbours
            if group[i] != UNSET:
                continue
            free = True
            for k in range(first[i], inner[i]):
                j = columns[k]
                if group[j] >= 0 and norms[k] >= square * np.sqrt(most[i] * most[j]):
                    free = False
                    break
            if not free:
                continue
            some = False
            for k in range(first[i], inner[i]):
                j = columns[k]
                if j != i and group[j] == UNSET and norms[k] >= square * np.sqrt(most[i] * most[j]):
                    group[j] = number
                    some = True
            if some:
                group[i] = number
                number += np.int32(1)
        seeds = number
        for i in range(lo, hi):  # the others join the neighbour that they are coupled to most
            if group[i] != UNSET:
                continue
            best, found = 0.0, UNSET
            for k in range(first[i], inner[i]):
                j = columns[k]
                if group[j] >= 0 and norms[k] > best and norms[k] >= square * np.sqrt(most[i] * most[j]):
                    best, found = norms[k], group[j]
            if found >= 0:
                group[i] = -found - np.int32(3)  # not to be joined in this pass: chains would grow
        for i in range(lo, hi):
            if group[i] < UNSET:
                group[i] = -group[i] - np.int32(3)
        for i in range(lo, hi):  # what is left
            if group[i] != UNSET:
                continue
            group[i] = number
            alone = True
            best, nearest = 0.0, UNSET
            for k in range(first[i], inner[i]):
                j = columns[k]
                if j == i:
                    continue
                if group[j] == UNSET and norms[k] >= square * np.sqrt(most[i] * most[j]):
                    group[j] = number
                    alone = False
                elif group[j] >= 0 and group[j] < seeds and norms[k] > best:
                    best, nearest = norms[k], group[j]
            if alone and nearest >= 0:
                group[i] = nearest
            else:
                number += np.int32(1)
        counts[part] = number - np.int32(lo)


@setup_kernel
def extend_prolongator(  # type: ignore[no-untyped-def]
    start, stop, bounds, first, last, columns, values, square, norms, most, group, vectors, inverse,
    out_first, out_last, out_columns, out_values, work,
):  # fmt: skip
    """Add the action of weak couplings on the near-null vectors to each node's block of its own aggregate.

    A weak neighbour `j` of node `i` counts as a member of `i`'s aggregate `I`, whose vectors are extended to it:
    `A_ij B_j R_I⁻¹`. This preserves all near-null vectors, while lumping to the diagonal preserves translations only.
    `vectors[j, r, k]` are `B`, `inverse[g, k, q]` are `R⁻¹`; `work` is scratch memory, `(size, k)`.
    """
    rows, count = vectors.shape[1], vectors.shape[2]
    for part in range(start, stop):
        for i in range(bounds[part], bounds[part + 1]):
            if group[i] < 0:
                continue
            some = False
            for k in range(first[i], last[i]):
                j = columns[k]
                if j == i or norms[k] >= square * np.sqrt(most[i] * most[j]):
                    continue
                if not some:
                    some = True
                    for r in range(rows):
                        for q in range(count):
                            work[r, q] = 0.0
                for r in range(rows):
                    for c in range(rows):
                        for q in range(count):
                            work[r, q] += values[k, c, r] * vectors[j, c, q]
            if not some:
                continue
            g = np.uint32(group[i])
            for m in range(out_first[i], out_last[i]):
                if out_columns[m] == g:
                    for q in range(count):
                        for p in range(q + 1):
                            for r in range(rows):
                                out_values[m, q, r] += np.float32(work[r, p] * inverse[g, p, q])
                    break


@setup_kernel
def orthogonalise(start, stop, bounds, starts, members, vectors, basis, coarse):  # type: ignore[no-untyped-def]
    """Orthonormalise the near-null vectors on each aggregate, by two passes of modified Gram–Schmidt.

    Aggregate `g` has the nodes `members[starts[g]:starts[g + 1]]`; `vectors[i, r, k]` are float64 and are overwritten
    by the orthonormal ones, of which `basis[i, k, r]` is a copy; `coarse[g, q, k]` is the component of vector `k` along
    `q`: the given vectors are `Q coarse`. A vector that depends on those before it gives a column of zeros.
    """
    rows, count = vectors.shape[1], vectors.shape[2]
    for part in range(start, stop):
        for g in range(bounds[part], bounds[part + 1]):
            lo, hi = starts[g], starts[g + 1]
            for k in range(count):
                whole = 0.0
                for m in range(lo, hi):
                    for r in range(rows):
                        value = vectors[members[m], r, k]
                        whole += value * value
                for _ in range(2):
                    for q in range(k):
                        along = 0.0
                        for m in range(lo, hi):
                            for r in range(rows):
                                along += vectors[members[m], r, q] * vectors[members[m], r, k]
                        coarse[g, q, k] += along
                        for m in range(lo, hi):
                            for r in range(rows):
                                vectors[members[m], r, k] -= along * vectors[members[m], r, q]
                left = 0.0
                for m in range(lo, hi):
                    for r in range(rows):
                        value = vectors[members[m], r, k]
                        left += value * value
                root = np.sqrt(left)
                good = root > DEPENDENT * np.sqrt(whole)
                coarse[g, k, k] = root if good else 0.0
                factor = 1.0 / root if good else 0.0
                for m in range(lo, hi):
                    for r in range(rows):
                        value = factor * vectors[members[m], r, k]
                        vectors[members[m], r, k] = value
                        basis[members[m], k, r] = value
