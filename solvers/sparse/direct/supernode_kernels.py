"""Kernels of the supernodes of a Cholesky factor: consecutive columns with the same rows, and nearly the same ones.

Columns are numbered in a postorder of the elimination tree. Source: C. Ashcraft, R. Grimes, "The influence of relaxed
supernode partitions on the multifrontal method", ACM Trans. Math. Softw. 15 (1989).
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import part, plain

NONE = np.uint32(0xFFFFFFFF)


@part
def worth(columns, zeros, entries):  # type: ignore[no-untyped-def]
    """Return whether a supernode of that many columns may store that many zeros among its entries."""
    if columns <= 8:
        return True
    share = 0.5 if columns <= 16 else 0.2 if columns <= 48 else 0.05
    return zeros <= share * entries


@plain
def find_supernodes(parent, counts, first, height, zeros):  # type: ignore[no-untyped-def]
    """Write the first column, the rows and the stored zeros of each supernode; return how many there are.

    A supernode is merged with the one before it where that is its child and few zeros are stored.
    """
    n, top = len(parent), -1
    j = 0
    while j < n:
        stop = j + 1
        while stop < n and parent[stop - 1] == stop and counts[stop - 1] == counts[stop] + 1:
            stop += 1
        start, rows, stored = j, counts[j], 0
        while top >= 0 and parent[start - 1] < stop:
            columns = start - first[top]
            more = stored + zeros[top] + columns * (rows + columns - height[top])
            if not worth(stop - first[top], more, (stop - first[top]) * (rows + columns)):
                break
            start, rows, stored = first[top], rows + columns, more
            top -= 1
        top += 1
        first[top], height[top], zeros[top] = start, rows, stored
        j = stop
    first[top + 1] = n
    return top + 1


@plain
def list_rows(indptr, indices, order, place, parent, first, count, member, above, seen, fill, begin, rows):  # type: ignore[no-untyped-def]
    """Write each supernode's rows below its own columns, ascending, and its parent, `NONE` for a root.

    Row `i` belongs to all supernodes on the paths from its entries up to its own. `member`, `seen` and `fill` are work
    space.
    """
    for s in range(count):
        seen[s] = NONE
        fill[s] = begin[s]
        for j in range(first[s], first[s + 1]):
            member[j] = np.uint32(s)
    for s in range(count):
        up = parent[first[s + 1] - 1]
        above[s] = member[up] if up != NONE else NONE
    for i in range(np.uint32(len(order))):
        seen[member[i]] = i
        row = order[i]
        for k in range(indptr[row], indptr[row + np.uint32(1)]):
            j = place[indices[k]]
            if j < i:
                s = member[j]
                while seen[s] != i:
                    seen[s] = i
                    rows[fill[s]] = i
                    fill[s] += 1
                    s = above[s]


@plain
def link_supernodes(first, begin, above, child, sibling, work):  # type: ignore[no-untyped-def]
    """Write each supernode's first child, its next sibling, ascending, and the operations of its subtree."""
    for s in range(len(above)):
        child[s], work[s] = NONE, 0.0
    for back in range(len(above)):
        last = np.uint32(len(above) - 1 - back)
        sibling[last] = NONE
        if above[last] != NONE:
            sibling[last], child[above[last]] = child[above[last]], last
    for s in range(len(above)):
        own, m = float(first[s + 1] - first[s]), float(begin[s + 1] - begin[s])
        work[s] += own * (own * (own / 3 + m) + m * m)
        if above[s] != NONE:
            work[above[s]] += work[s]


@plain
def place_contributions(bins, listed, begin, child, sibling, member, positions, building):  # type: ignore[no-untyped-def]
    """Write where each contribution is kept, and where it is built before; return how many entries all of them take.

    Those of a list of supernodes form a stack, and those of different lists do not overlap. `member` is work space.
    """
    for one in range(len(bins) - 1):
        for at in range(bins[one], bins[one + 1]):
            member[listed[at]] = np.uint32(one)
    end = 0
    for one in range(len(bins) - 1):
        top = end
        for at in range(bins[one], bins[one + 1]):
            s = listed[at]
            positions[s], building[s] = top, top
            below = child[s]
            while below != NONE:
                if member[below] == one:
                    positions[s] = min(positions[s], positions[below])
                below = sibling[below]
            size = (begin[s + 1] - begin[s]) ** 2
            end = max(end, top + size)
            top = positions[s] + size
    return end
