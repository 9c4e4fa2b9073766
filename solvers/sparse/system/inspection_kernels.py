"""Kernels of `inspection`: passes that flag what is wrong with a matrix."""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import kernel, kernel_part

ONE = np.uint32(1)
LEFT_OUT = np.uint32(0xFFFFFFFF)
"""The place of a row that is not in the principal submatrix."""
UNSORTED, STORED_ZERO, NOT_FINITE, BAD_DIAGONAL, ASYMMETRIC, BAD_MINOR = 1, 2, 4, 8, 16, 32
"""Flags. A pattern that is not symmetric counts as asymmetric here, however small its entries."""
CLOSED, OPEN, NEARLY = 0, 1, 2
"""The state of a row's sum: zero to the rounding of float64, not zero, and zero to the rounding of float32 only."""
SUM, DECIDES = 3, 4
"""Bits of a row's state: those of its sum, and whether its diagonal decides its unknown."""


@kernel_part()
def judge_row(total, magnitude, own, count, roundings, single, decided):  # type: ignore[no-untyped-def]
    """Return the state of a row of `count` nonzero entries with the diagonal `own`, from its sum and sum of magnitudes.

    The sum is zero in float64 up to `roundings`, times the number of entries, of the sum of magnitudes; in `single`
    precision times the root of that number, as a shift of the diagonal that float32 can hold must not be taken for
    rounding. The diagonal decides from `decided` times the other magnitudes.
    """
    state = CLOSED
    if abs(total) > roundings * count * magnitude:
        state = NEARLY if abs(total) <= single * np.sqrt(count) * magnitude else OPEN
    return state + (DECIDES if own > 0.0 and own >= decided * (magnitude - own) else 0)


@kernel()
def look_at_rows(  # type: ignore[no-untyped-def]
    start, stop, bounds, indptr, c, v, roundings, single, decided, indices, data, diagonal, root, state, above, counts,
    flags,
):  # fmt: skip
    """Copy the rows `c`, `v` to `indices`, `data`, which may be the same arrays, and check each row.

    Checked are order, finiteness and the sign of the diagonal. `above[i]` is where row `i`'s entries above the diagonal
    begin, `counts[part]` how many more there are above than below. `state[i]` is what `judge_row` finds.
    """
    for part in range(start, stop):
        flag = 0
        more = np.int64(0)
        for i in range(bounds[part], bounds[part + 1]):
            total, magnitude, own = 0.0, 0.0, 0.0
            below = zeros = np.uint32(0)
            least = np.int64(-1)
            first, last = indptr[i], indptr[i + ONE]
            disordered = False
            for k in range(first, last):
                j, a = c[k], v[k]
                indices[k], data[k] = j, a
                disordered |= bool(np.int64(j) <= least)
                least = np.int64(j)
                zeros += np.uint32(a == 0.0)
                own = a if j == i else own
                below += np.uint32(j <= i)
                total += a
                magnitude += abs(a)
            after = first + below  # as columns ascend; where they do not, the row is flagged
            if disordered or least >= len(diagonal):
                flag |= UNSORTED
            if zeros:
                flag |= STORED_ZERO
            if not magnitude < np.inf:  # an entry that is not finite, or an overflow: checked again by the caller
                flag |= NOT_FINITE
            if least >= 0 and not own > 0.0:
                flag |= BAD_DIAGONAL
            diagonal[i] = own
            root[i] = np.sqrt(own) if own > 0.0 else 0.0
            above[i] = after
            state[i] = judge_row(total, magnitude, own, float(last - first - zeros), roundings, single, decided)
            more += np.int64(last - after) - np.int64(after - first - (ONE if own > 0.0 else np.uint32(0)))
        counts[part] = more
        flags[part] = flag


@kernel()
def look_at_couplings(start, stop, bounds, indptr, indices, data, root, above, tolerance, flags, cursor):  # type: ignore[no-untyped-def]
    """Check symmetry and 2 × 2 minors by the entries below the diagonal. `cursor`, private to a call, begins as zeros.

    As rows come in order, the entries of row `j` that mirror those of column `j` come in order too: each one is at the
    row's cursor.
    """
    lowest = bounds[start]
    for part in range(start, stop):
        flag = 0
        for i in range(bounds[part], bounds[part + 1]):
            own = root[i]
            for k in range(indptr[i], above[i]):
                j, a = indices[k], data[k]
                if j >= i:
                    break
                place = cursor[j]
                if place == 0:
                    place = above[j]
                    if j < lowest:
                        end = indptr[j + ONE]
                        while place < end:
                            middle = place + (end - place) // np.uint32(2)
                            if indices[middle] < lowest:
                                place = middle + ONE
                            else:
                                end = middle
                cursor[j] = place + ONE
                scale = own * root[j]
                if place >= indptr[j + ONE] or indices[place] != i or abs(a - data[place]) > tolerance * scale:
                    flag |= ASYMMETRIC
                if abs(a) > (1.0 + tolerance) * scale:
                    flag |= BAD_MINOR
        flags[part] = flag


@kernel()
def copy_principal(start, stop, kept, place, indptr, indices, data, begin, out_indices, out_data):  # type: ignore[no-untyped-def]
    """Copy the entries of rows `kept` whose column has a place, row `i` of the result from `begin[i]` on."""
    for i in range(start, stop):
        row = kept[i]
        position = begin[i]
        for k in range(indptr[row], indptr[row + 1]):
            column = place[indices[k]]
            if column != LEFT_OUT:
                out_indices[position], out_data[position] = column, data[k]
                position += ONE


@kernel(counted=False)
def hold_open(state, held):  # type: ignore[no-untyped-def]
    """Hold the rows that do not sum to zero in float64; return how many these are, and how many of them do in
    float32."""
    count = nearly = 0
    for i in range(len(state)):
        own = state[i] & SUM
        held[i] = own != CLOSED
        count += own != CLOSED
        nearly += own == NEARLY
    return count, nearly


@kernel(counted=False)
def spread(sweeps, faster, indptr, indices, held):  # type: ignore[no-untyped-def]
    """Hold each row that is coupled to a held one, in some sweeps, alternately forwards and backwards; return how many
    are not held. A sweep that leaves more than `faster` times as many is the last one."""
    n = len(held)
    left = n
    for sweep in range(sweeps):
        before, left = left, 0
        for step in range(n):
            i = np.uint32(n - 1 - step if sweep % 2 else step)
            if not held[i]:
                for k in range(indptr[i], indptr[i + ONE]):
                    if held[indices[k]]:
                        held[i] = True
                        break
                left += not held[i]
        if left == 0 or left > faster * before:
            break
    return left


@kernel(counted=False)
def label_components(indptr, indices, label, waiting):  # type: ignore[no-untyped-def]
    """Number the connected components of a symmetric pattern in the order of their first rows; return how many.

    `label` begins as −1 everywhere; `waiting` is scratch memory, an entry for each row.
    """
    count = 0
    for s in range(len(label)):
        if label[s] >= 0:
            continue
        label[s] = count
        waiting[0] = s
        left = 1
        while left > 0:
            left -= 1
            i = waiting[left]
            for k in range(indptr[i], indptr[i + ONE]):
                j = indices[k]
                if label[j] < 0:
                    label[j] = count
                    waiting[left] = j
                    left += 1
        count += 1
    return count


@kernel(counted=False)
def level_of_rows(indptr, indices, start, level, order):  # type: ignore[no-untyped-def]
    """Write the graph distance of each row from row `start` to `level`, which begins as −1; return how many rows were
    reached. `order` lists them in the order in which they were reached, the farthest last."""
    level[start] = 0
    order[0] = start
    head, met = 0, 1
    while head < met:
        i = order[head]
        head += 1
        following = level[i] + np.int32(1)
        for k in range(indptr[i], indptr[i + ONE]):
            j = indices[k]
            if level[j] < 0:
                level[j] = following
                order[met] = j
                met += 1
    return met
