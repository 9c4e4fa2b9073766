"""Kernels of the symbolic factorisation: the elimination tree, its postorder, and the number of entries of each column.

Rows and columns are numbered in elimination order: row `i` is row `order[i]` of the matrix, and `place` is the inverse.
The time is that of a pass over the entries, up to a factor of the inverse Ackermann function.

Sources: J. W. H. Liu, "The role of elimination trees in sparse factorization", SIAM J. Matrix Anal. Appl. 11 (1990),
for the tree; J. R. Gilbert, E. G. Ng, B. W. Peyton, "An efficient algorithm to compute row and column counts for sparse
Cholesky factorization", SIAM J. Matrix Anal. Appl. 15 (1994), for the counts.
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import plain

NONE = np.uint32(0xFFFFFFFF)
ONE = np.uint32(1)


@plain
def eliminate(indptr, indices, order, place, parent, ancestor):  # type: ignore[no-untyped-def]
    """Write each column's parent in the elimination tree, `NONE` for a root; `ancestor` is work space."""
    for i in range(np.uint32(len(order))):
        parent[i] = NONE
        ancestor[i] = NONE
        row = order[i]
        for k in range(indptr[row], indptr[row + ONE]):
            j = place[indices[k]]
            while j < i:
                following = ancestor[j]
                ancestor[j] = i  # later searches from here are short
                if following == NONE:
                    parent[j] = i
                    break
                j = following


@plain
def postorder(parent, first_child, next_child, post):  # type: ignore[no-untyped-def]
    """Write the columns to `post` so that each follows all of its descendants; the two middle arguments are work
    space."""
    n = np.uint32(len(parent))
    for i in range(n):
        first_child[i] = NONE
    roots = NONE
    for back in range(n):
        child = n - ONE - back
        above = parent[child]
        if above == NONE:
            next_child[child] = roots
            roots = child
        else:
            next_child[child] = first_child[above]
            first_child[above] = child
    count = np.uint32(0)
    node = roots
    while node != NONE:
        while first_child[node] != NONE:  # down to a leaf
            node = first_child[node]
        while True:
            post[count] = node
            count += ONE
            if next_child[node] != NONE:
                node = next_child[node]
                break
            node = parent[node]
            if node == NONE:
                break


@plain
def count_columns(indptr, indices, order, place, parent, post, first, seen, leaf, ancestor, counts):  # type: ignore[no-untyped-def]
    """Write the number of entries of each column of the factor, the diagonal included, to `counts`, int64.

    Column `j` is a leaf of the subtree of row `i` where no descendant of it was seen in that row. A leaf adds one to
    all columns from itself up to `i`, except those that an earlier leaf has reached, from their least common ancestor
    on. `first`, `seen`, `leaf` and `ancestor` are work space.
    """
    n = np.uint32(len(order))
    for i in range(n):
        first[i] = NONE
        leaf[i] = NONE
        seen[i] = np.uint32(0)
        ancestor[i] = i
        counts[i] = 0
    for p in range(n):  # the number, from 1, of the first descendant in postorder
        j = post[p]
        if first[j] == NONE:
            counts[j] = 1
        while j != NONE and first[j] == NONE:
            first[j] = p + ONE
            j = parent[j]
    for p in range(n):
        j = post[p]
        above = parent[j]
        if above != NONE:
            counts[above] -= 1
        row = order[j]
        for k in range(indptr[row], indptr[row + ONE]):
            i = place[indices[k]]
            if i > j:
                if first[j] > seen[i]:
                    counts[j] += 1
                    earlier = leaf[i]
                    if earlier != NONE:
                        top = earlier
                        while ancestor[top] != top:
                            top = ancestor[top]
                        while ancestor[earlier] != top:
                            below = ancestor[earlier]
                            ancestor[earlier] = top
                            earlier = below
                        counts[top] -= 1
                    leaf[i] = j
                seen[i] = p + ONE
        if above != NONE:
            ancestor[j] = above
    for p in range(n):
        j = post[p]
        if parent[j] != NONE:
            counts[parent[j]] += counts[j]
