"""Kernels that aggregate a level's rows by repeated matching and build the matrix between the aggregates.

They run over blocks of rows as those of `levels_kernels` do; no aggregate leaves its block.

Sources: Y. Notay, "An aggregation-based algebraic multigrid method", ETNA 37 (2010), for double pairwise aggregation;
A. Napov, Y. Notay, "An algebraic multigrid method with guaranteed convergence rate", SIAM J. Sci. Comput. 34 (2012),
eq. (4.4), for the quality by which pairs are ranked.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.team_kernels import CLAIMED, SIZE, claim, meet, share
from relaxon.solvers.sparse.amg.levels_kernels import ONE, brief_kernel, cut, team_kernel, team_part

BETTER = 1.001
"""A partner must be better than an earlier one by this factor, more than rounding, so that aggregates of regular grids
are regular."""
ROUNDED = 1e-5
"""Relative margin beyond the rounding of a diagonal in float32."""
SLIGHT = 64.0
"""Where coarsening comes to a halt, a row joins a group coupled to it by at least its diagonal over this."""
UNSET, LEFT_OUT = np.int32(-2), np.int32(-1)
KEPT = np.float32(-1.0)
"""As the fraction up to which rows are left out: none are."""


@team_part
def pair_block(  # type: ignore[no-untyped-def]
    lo, hi, first, last, c, v, weight, surplus, most, strength, dominated, anyone, group, heads, link, size,
):  # fmt: skip
    """Match each row of the block `lo … hi − 1` with its best partner in it; rows that are left over join a group.

    Couplings `a_ij < 0` with `a_ij² ≥ strength · most[i] · most[j]` are strong. Rows whose off-diagonal magnitudes sum
    to at most `dominated` times their diagonal are left out, as smoothing alone is enough for them. With `anyone`, rows
    that are left over join groups to which they are slightly coupled. `group` gets numbers from `lo`, `heads[number]`
    is the first member, `link` the next one of each, −1 at the end. The number of groups is returned.
    """
    number = np.int32(lo)
    for i in range(lo, hi):
        group[i] = UNSET
        # Magnitudes are summed only where the row's sum, which is known, does not decide.
        if dominated >= 0 and abs(weight[i] - surplus[i]) <= (dominated + ROUNDED) * weight[i]:
            total = 0.0
            for k in range(first[i], last[i]):
                total += abs(v[k])
            if total <= dominated * weight[i]:
                group[i] = LEFT_OUT
    for i in range(lo, hi):
        if group[i] != UNSET:
            continue
        best, found = 0.0, np.int32(-1)
        own, row, wi = strength * most[i], max(surplus[i], 0.0), weight[i]
        k = last[i]
        while k > first[i]:  # backwards, so that the nearest of equally good partners comes first
            k -= ONE
            j, a = c[k], -v[k]
            # One condition, as a processor cannot predict each of its parts.
            if (a > 0) & (j >= lo) & (j < hi) & (group[j] == UNSET) & (a * a >= own * most[j]):
                other = max(surplus[j], 0.0)
                hold = row * other / (row + other) if row * other > 0.0 else 0.0
                quality = (a + hold) * (1.0 / wi + 1.0 / weight[j])
                if quality > BETTER * best:
                    best, found = quality, np.int32(j)
        if found >= 0:
            j = np.uint32(found)
            group[i] = group[j] = number
            heads[number], link[i], link[j] = i, found, -1
            size[number] = 2
            number += np.int32(1)
    for i in range(lo, hi):
        if group[i] != UNSET:
            continue
        most_coupled, found = 0.0, np.int32(-1)
        for k in range(first[i], last[i]):
            j, a = c[k], -v[k]
            if a > most_coupled and j >= lo and j < hi and group[j] >= 0:
                strong = a * a >= strength * most[i] * most[j] and size[np.uint32(group[j])] < 3
                if (anyone and SLIGHT * a >= weight[i]) or 4 * a >= weight[i] or strong:
                    most_coupled, found = a, group[j]
        if found >= 0:
            group[i] = found
            link[i], heads[found] = heads[found], i
            size[np.uint32(found)] += np.int32(1)
        else:
            group[i] = number
            heads[number], link[i] = i, -1
            size[number] = 1
            number += np.int32(1)
    return np.int64(number - np.int32(lo))


@team_part
def number_groups(first, last, team, bounds, counts, offsets, group):  # type: ignore[no-untyped-def]
    """Number all groups in the order of the blocks, where `counts[block]` is the number of a block's groups.

    `offsets`, the first group of each block, is written by the first member; all members have met afterwards.
    """
    meet(first, last, team)
    start, stop = share(first, last, team, len(counts))
    total = np.int64(0)
    for block in range(stop):
        if block >= start:
            shift = np.int32(total - np.int64(bounds[block]))
            for i in range(bounds[block], bounds[block + 1]):
                if group[i] >= 0:
                    group[i] += shift
        total += counts[block]
    if first == 0:
        offsets[0] = 0
        for block in range(len(counts)):
            offsets[block + 1] = offsets[block] + np.uint32(counts[block])
    meet(first, last, team)


@team_part
def merge_piece(  # type: ignore[no-untyped-def]
    piece, pieces, position, bounds, offsets, group, heads, link, first, last, c, v, surplus, weight, most,
    begin, end, columns, values, coarse_surplus, coarse_weight, coarse_most, seen,
):  # fmt: skip
    """Sum the rows and columns of the groups of a piece: `Pᵀ A P` without its diagonal, which follows from
    `coarse_surplus`.

    The entries of row `I` of the result are `columns[begin[I]:end[I]]`, from `position` on; how many there are is
    returned. The first members of a block's groups stand in `heads` from `bounds[block]` on. `coarse_most` is the
    strongest coupling of the members, those inside the group included: groups with strong inner couplings must not be
    joined by weak ones, as no smoothing could separate them again. `seen` is scratch memory of one thread, zero for
    each group in the beginning.
    """
    begun = position
    for block in range(len(bounds) - 1):
        start, stop = cut(piece, pieces, offsets, block)
        for g in range(start, stop):
            row = position
            total = 0.0
            held = 0.0
            largest = 0.0
            i = heads[g - offsets[block] + bounds[block]]
            while i >= 0:
                m = np.uint32(i)
                total += surplus[m]
                held += weight[m]
                largest = max(largest, most[m])
                for k in range(first[m], last[m]):
                    h = group[c[k]]
                    if h == LEFT_OUT:
                        total -= v[k]
                    elif h != g:
                        place = seen[np.uint32(h)]
                        if place > row:
                            values[place - ONE] += v[k]
                        else:
                            columns[position] = h
                            values[position] = v[k]
                            position += ONE
                            seen[np.uint32(h)] = position
                i = link[m]
            begin[g], end[g] = row, position
            coarse_surplus[g] = total
            coarse_weight[g] = held
            coarse_most[g] = largest
    return np.uint32(position - begun)


@brief_kernel
def match_repeatedly(  # type: ignore[no-untyped-def]
    first, last, team, done, matchings, strength, dominated, anyone, rows, whole, again, counts, room, heads, link,
    size, seen,
):  # fmt: skip
    """Match rows, then their groups, and so on, until `done[0]` has grown to `matchings`; `whole` gets each row's last
    group, −1 for those left out.

    `rows[m]` are the arrays of `AggregateRows` before matching `m`: those of the first one are given. A matching is not
    done where the arrays for its result are too short. All others are scratch memory: `again` has an entry for
    each row, `counts` for each block, `seen` a row for each member. Groups are merged in half as many pieces as `room`
    has entries, whatever their blocks; a piece's member follows from the number of entries before it.
    """
    mine, pieces = seen[first], len(room) // 2
    for matching in range(done[0], matchings):
        bounds, begin, end, c, v, surplus, weight, most = rows[matching]
        offsets, to_begin, to_end, columns, values, to_surplus, to_weight, to_most = rows[matching + 1]
        group = again if matching > 0 else whole
        least = KEPT if matching > 0 else dominated
        block = claim(team)
        while block < len(counts):
            counts[block] = pair_block(
                bounds[block], bounds[block + 1], begin, end, c, v, weight, surplus, most, strength, least, anyone,
                group, heads, link, size,
            )  # fmt: skip
            block = claim(team)
        number_groups(first, last, team, bounds, counts, offsets, group)
        if offsets[-1] > len(to_begin):
            break
        from_piece, to_piece = share(first, last, team, pieces)
        for piece in range(from_piece, to_piece):
            entries = np.int64(0)
            for block in range(len(counts)):
                lo, hi = cut(piece, pieces, offsets, block)
                for g in range(lo, hi):
                    i = heads[g - offsets[block] + bounds[block]]
                    while i >= 0:
                        entries += np.int64(end[np.uint32(i)] - begin[np.uint32(i)])
                        i = link[np.uint32(i)]
            room[piece] = entries
        if matching > 0:
            start, stop = share(first, last, team, len(whole))
            for row in range(start, stop):
                if whole[row] >= 0:
                    whole[row] = group[np.uint32(whole[row])]
        for g in range(offsets[-1]):
            mine[g] = 0
        if first == 0:
            team[CLAIMED] = 0
        meet(first, last, team)
        entries, position = np.int64(1), np.uint64(0)
        for piece in range(pieces):
            entries += np.int64(room[piece])
        for piece in range(pieces):
            owner = np.int64(position) * team[SIZE] // entries
            if first <= owner and owner < last:
                room[pieces + piece] = merge_piece(
                    piece, pieces, position, bounds, offsets, group, heads, link, begin, end, c, v, surplus, weight,
                    most, to_begin, to_end, columns, values, to_surplus, to_weight, to_most, mine,
                )  # fmt: skip
            position += room[piece]
        meet(first, last, team)
        if first == 0:
            done[0] = matching + 1
        if matching < matchings - 1:
            entries = np.int64(0)
            for piece in range(pieces):
                entries += np.int64(room[pieces + piece])
            if entries > len(rows[matching + 2][4]):
                break


@team_kernel
def merge_rows(  # type: ignore[no-untyped-def]
    offsets, group, heads, link, first, last, c, v, surplus, weight, most, begin, end, columns, values,
    coarse_surplus, coarse_weight, coarse_most, seen,
):  # fmt: skip
    """Sum the rows and columns of all groups as `merge_piece` does, in one piece; `heads` has the first member of each
    group."""
    merge_piece(
        0, 1, np.uint64(0), offsets, offsets, group, heads, link, first, last, c, v, surplus, weight, most, begin, end,
        columns, values, coarse_surplus, coarse_weight, coarse_most, seen,
    )  # fmt: skip
