"""Compiled passes of the cycle whose coarse unknowns are connected parts of blocks of cells.

Level 0 is the grid's, with three axes and `lower_a` the coupling to the cell below along axis `a`; the levels under it
are graphs (`graph_kernels`). `members` lists the cells, or nodes, of each part, those of part `p` from `first[p]` to
`first[p + 1]`. Parts are shared among threads; a cell belongs to one of them at most, so that the number of threads
does not show.
"""

# Indices are unsigned in some loops (a signed one might count from the end) and signed in others.
# mypy: disable-error-code="assignment"
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.compiled import threads_for
from relaxon.solvers.kernels.lean import inlined, lean, lean_shared
from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.multigrid.plane_passes import F0

MOST_JOINED = 48
"""Faces of a block's eight cells, all of which may lead to parts of their own."""


@inlined
def _coupling(lower0, lower1, lower2, wrap, i, j, k, side):  # type: ignore[no-untyped-def]
    """Return the coupling of a cell through its face `side` (below, above along each axis) and the cell beyond it."""
    n0, n1, n2 = lower0.shape
    axis, up = side // 2, side % 2
    n = n0 if axis == 0 else (n1 if axis == 1 else n2)
    index = i if axis == 0 else (j if axis == 1 else k)
    other = index + 1 if up else index - 1
    edge = other < 0 or other >= n
    other = (0 if up else n - 1) if edge else other
    a, b, c = (other if axis == 0 else i), (other if axis == 1 else j), (other if axis == 2 else k)
    p, q, s = (a, b, c) if up else (i, j, k)
    value = lower0[p, q, s] if axis == 0 else (lower1[p, q, s] if axis == 1 else lower2[p, q, s])
    return (F0 if edge and not wrap[axis] else value), a, b, c


@lean_shared("rows", of="strength")
def add_couplings(start, stop, lower0, lower1, lower2, wrap, strength):  # type: ignore[no-untyped-def]
    """`strength` ← the sum of each cell's couplings."""
    _, n1, n2 = strength.shape
    for row in range(start, stop):
        i, j = row // n1, row % n1
        for k in range(n2):
            total = F0
            for side in range(6):
                value, _, _, _ = _coupling(lower0, lower1, lower2, wrap, i, j, k, side)
                total += value
            strength[i, j, k] = total


@lean_shared("rows", of="diagonal", sums=8)
def survey(start, stop, lower0, lower1, lower2, wrap, stride, diagonal, parts):  # type: ignore[no-untyped-def]
    """Sums over the unknowns of every `stride`th row: 1; closed faces; faces of less than a 25th of a cell's couplings;
    axes whose two faces differ by a factor of 1.5, and of 10; cells whose axes differ by a factor of 2, and of 10;
    the part of the diagonal that is no coupling.
    """
    _, n1, n2 = diagonal.shape
    for row in range(start, stop):
        found, closed, weak, uneven, jumps, along, far, held = 0, 0, 0, 0, 0, 0, 0, 0.0
        i, j = row // n1, row % n1
        for k in range(n2 if row % stride == 0 else 0):
            d = diagonal[i, j, k]
            if not d > F0:
                continue
            found += 1
            total, most, least = F0, F0, d + d
            for axis in range(3):
                if diagonal.shape[axis] == 1:
                    continue
                one, _, _, _ = _coupling(lower0, lower1, lower2, wrap, i, j, k, 2 * axis)
                other, _, _, _ = _coupling(lower0, lower1, lower2, wrap, i, j, k, 2 * axis + 1)
                low, high = min(one, other), max(one, other)
                closed += (low == F0) + (high == F0)
                weak += (F0 < low < d / 25) + (F0 < high < d / 25)
                uneven += low > F0 and high > np.float32(1.5) * low
                jumps += low > F0 and high > 10 * low
                both = one + other
                total += both
                most, least = max(most, both), min(least, both) if low > F0 else least
            along += most > 2 * least
            far += most > 10 * least
            held += max(F0, d - total) / d
        parts[row, 0], parts[row, 1], parts[row, 2], parts[row, 3] = found, closed, weak, uneven
        parts[row, 4], parts[row, 5], parts[row, 6], parts[row, 7] = jumps, along, far, held


@inlined
def _joined(lower0, lower1, lower2, i, j, k, axis, strength, least):  # type: ignore[no-untyped-def]
    """Return whether a cell's face above it along an axis is strong beside all others of both its cells."""
    a, b, c = (i + 1 if axis == 0 else i), (j + 1 if axis == 1 else j), (k + 1 if axis == 2 else k)
    value = lower0[a, b, c] if axis == 0 else (lower1[a, b, c] if axis == 1 else lower2[a, b, c])
    # Two square roots in place of one: a product of two couplings may leave float32's range.
    return value > F0 and value >= least * np.sqrt(strength[i, j, k]) * np.sqrt(strength[a, b, c])


@lean_shared("rows", of="count")
def label_blocks(start, stop, lower0, lower1, lower2, strength, steps, least, part, count):  # type: ignore[no-untyped-def]
    """`part` ← the number within its block of the part that each cell belongs to, −1 for a cell without couplings.

    A part is what faces inside the block join that carry at least `least` of the geometric mean of what their two cells
    couple with in all. `count` ← how many parts each block has; a block is `steps` cells.
    """
    n0, n1, n2 = strength.shape
    _, m1, m2 = count.shape
    for row in range(start, stop):
        i, j = row // m1 * steps[0], row % m1 * steps[1]
        for block in range(m2):
            k = block * steps[2]
            i1, j1, k1 = min(i + steps[0], n0), min(j + steps[1], n1), min(k + steps[2], n2)
            for a in range(i, i1):
                for b in range(j, j1):
                    for c in range(k, k1):
                        own = (a - i) * 4 + (b - j) * 2 + c - k
                        part[a, b, c] = own if strength[a, b, c] > 0 else -1
            changed = True
            while changed:
                changed = False
                for a in range(i, i1):
                    for b in range(j, j1):
                        for c in range(k, k1):
                            for axis in range(3):
                                p, q, s = (
                                    (a + 1 if axis == 0 else a),
                                    (b + 1 if axis == 1 else b),
                                    (c + 1 if axis == 2 else c),
                                )
                                if p >= i1 or q >= j1 or s >= k1 or part[a, b, c] == part[p, q, s]:
                                    continue
                                if _joined(lower0, lower1, lower2, a, b, c, axis, strength, least):
                                    both = min(part[a, b, c], part[p, q, s])
                                    part[a, b, c] = both
                                    part[p, q, s] = both
                                    changed = True
            # From the least member's number to 0, 1, …: a member that has its own number is its part's least.
            found = 0
            for own in range(8):
                a, b, c = i + own // 4, j + own // 2 % 2, k + own % 2
                if a >= i1 or b >= j1 or c >= k1 or part[a, b, c] != own:
                    continue
                for p in range(a, i1):
                    for q in range(j, j1):
                        for s in range(k, k1):
                            if part[p, q, s] == own:
                                part[p, q, s] = found
                found += 1
            count[row // m1, row % m1, block] = found


@lean_shared("rows", of="part")
def number_parts(start, stop, offset, steps, part):  # type: ignore[no-untyped-def]
    """Add to the number of each cell's part within its block the number of the block's first part."""
    _, n1, n2 = part.shape
    for row in range(start, stop):
        i, j = row // n1, row % n1
        parts, firsts = part[i, j], offset[i // steps[0], j // steps[1]]
        for k in range(n2):
            if parts[k] >= 0:
                parts[k] += firsts[k // steps[2]]


@lean
def count_members(part, first):  # type: ignore[no-untyped-def]
    """`first` ← where the members of each part begin, `(parts + 1,)`, 0 before."""
    for cell in range(len(part)):
        if part[cell] >= 0:
            first[part[cell] + 1] += 1
    for own in range(len(first) - 1):
        first[own + 1] += first[own]


@lean
def list_members(part, place, members):  # type: ignore[no-untyped-def]
    """`members` ← the cells of each part, in order; `place` comes as where each part's begin."""
    for cell in range(len(part)):
        own = part[cell]
        if own >= 0:
            members[place[own]] = cell
            place[own] += 1


@lean
def _join(start, stop, first, members, part, lower0, lower1, lower2, wrap, starts, others, couplings, fill, seen, sums):  # type: ignore[no-untyped-def]
    _, n1, n2 = lower0.shape
    around = wrap[0] or wrap[1] or wrap[2]
    flat0, flat1, flat2 = lower0.reshape(-1), lower1.reshape(-1), lower2.reshape(-1)
    for own in range(start, stop):
        known = 0
        for place in range(first[own], first[own + 1]):
            cell = members[place]
            for side in range(6):
                if around:
                    i, j, k = cell // (n1 * n2), cell // n2 % n1, cell % n2
                    value, a, b, c = _coupling(lower0, lower1, lower2, wrap, i, j, k, side)
                    beyond = (a * n1 + b) * n2 + c
                else:  # the couplings of the first cells along an axis, to those before them, are 0
                    axis = side // 2
                    lower = flat0 if axis == 0 else (flat1 if axis == 1 else flat2)
                    step = n1 * n2 if axis == 0 else (n2 if axis == 1 else 1)
                    upper = cell + step if side % 2 else cell
                    value = lower[upper] if upper < len(lower) else F0
                    beyond = upper if side % 2 else cell - step
                if not value > F0:
                    continue
                other = part[beyond]
                if other == own or other < 0:
                    continue
                at = 0
                while at < known and seen[at] != other:
                    at += 1
                if at == known:
                    seen[at] = other
                    sums[at] = F0
                    known += 1
                sums[at] += value
        if fill:
            for at in range(known):
                others[starts[own] + at] = seen[at]
                couplings[starts[own] + at] = sums[at]
        else:
            starts[own + 1] = known


def join_parts(
    first: NDArray[np.int64], members: NDArray[np.int32], part: NDArray[np.int32], lower: Any, wrap: Any
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Return the couplings between parts of level 0, sums over the faces between them: rows, columns and values."""
    count = len(first) - 1
    starts = np.zeros(count + 1, np.int32)
    others, couplings = np.empty(1, np.int32), np.empty(1, np.float32)
    for fill in (False, True):
        args = (first, members, part, *lower, wrap, starts, others, couplings, fill)
        divide(_join, count, *args, chunks=threads_for(part.size), work=_seen)
        if not fill:
            np.cumsum(starts, out=starts)
            others, couplings = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    return starts, others, couplings


def _seen() -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    return np.empty(MOST_JOINED, np.int32), np.empty(MOST_JOINED, np.float32)


@lean
def _gather(start, stop, first, members, fine, coarse):  # type: ignore[no-untyped-def]
    for own in range(start, stop):
        total = F0
        for place in range(first[own], first[own + 1]):
            total += fine[members[place]]
        coarse[own] = total


def gather(first: Any, members: Any, fine: Any, coarse: Any) -> None:
    """`coarse` ← the sums of `fine` over the members of each part."""
    divide(_gather, len(first) - 1, first, members, fine, coarse, chunks=threads_for(len(fine)))


@lean
def _sum_members(start, stop, first, members, fine, sums):  # type: ignore[no-untyped-def]
    for own in range(start, stop):
        total = 0.0
        for place in range(first[own], first[own + 1]):
            total += fine[members[place]]
        sums[own] = total


def sum_members(first: Any, members: Any, fine: Any) -> NDArray[np.float64]:
    """Return the sums of `fine` over the members of each part, in float64."""
    sums = np.empty(len(first) - 1)
    divide(_sum_members, len(sums), first, members, fine, sums, chunks=threads_for(len(fine)))
    return sums


@lean
def _spread(start, stop, first, members, coarse, fine):  # type: ignore[no-untyped-def]
    for own in range(start, stop):
        value = coarse[own]
        for place in range(first[own], first[own + 1]):
            fine[members[place]] += value


def spread(first: Any, members: Any, coarse: Any, fine: Any) -> None:
    """Add each part's value to its members."""
    divide(_spread, len(first) - 1, first, members, coarse, fine, chunks=threads_for(len(fine)))
