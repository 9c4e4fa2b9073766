"""Kernels of the elimination order by approximate minimum degree, on a quotient graph.

Variables that have been eliminated are represented by elements, the cliques they leave behind. A variable's list has
its elements first, then the variables it is still coupled to directly. Variables with equal lists are merged.

Source: P. R. Amestoy, T. A. Davis, I. S. Duff, "An approximate minimum degree ordering algorithm", SIAM J. Matrix Anal.
Appl. 17 (1996).
"""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import part, plain

NONE = np.uint32(0xFFFFFFFF)


@plain
def has_mirrors(indptr, indices, place):  # type: ignore[no-untyped-def]
    """Return whether the pattern is symmetric, for columns ascending in each row; `place` is work space.

    Entries before the diagonal, row by row, are met by those behind it in the same order in each column.
    """
    n = len(indptr) - 1
    for i in range(n):
        k = indptr[i]
        while k < indptr[i + 1] and indices[k] < i:
            j = indices[k]
            if place[j] == indptr[j + np.uint32(1)] or indices[place[j]] != i:
                return False
            place[j] += np.uint32(1)
            k += np.uint32(1)
        if k < indptr[i + 1] and indices[k] == i:
            k += np.uint32(1)
        place[i] = k
    missing = 0
    for i in range(n):
        missing += place[i] != indptr[i + 1]
    return missing == 0


@plain
def build_lists(indptr, indices, most, begin, length, lists):  # type: ignore[no-untyped-def]
    """Write each row's couplings to others, those of more than `most` entries left out; return the entries written."""
    used = 0
    for i in range(len(begin)):
        begin[i] = used
        if indptr[i + 1] - indptr[i] <= most:
            for k in range(indptr[i], indptr[i + 1]):
                j = indices[k]
                if j != i and indptr[j + 1] - indptr[j] <= most:
                    lists[used] = j
                    used += 1
        length[i] = used - begin[i]
    return used


@part
def unlink(i, degree, head, after, before):  # type: ignore[no-untyped-def]
    """Take variable `i` out of the list of its degree."""
    following, preceding = after[i], before[i]
    if following != NONE:
        before[following] = preceding
    if preceding != NONE:
        after[preceding] = following
    else:
        head[degree[i]] = following


@part
def gather(first, stop, place, lists, size, degree, head, after, before):  # type: ignore[no-untyped-def]
    """Move the live variables of `lists[first:stop]` to the pivot's element, from `place` on; return where it ends and
    how many unknowns they represent."""
    weight = 0
    for p in range(first, stop):
        i = lists[p]
        if size[i] > 0:
            weight += size[i]
            size[i] = -size[i]
            lists[place] = i
            place += 1
            unlink(i, degree, head, after, before)
    return place, weight


@part
def merge_equal(i, tag, begin, length, elements, lists, size, owner, stamp, after):  # type: ignore[no-untyped-def]
    """Merge variables with equal lists among `i` and those that follow it in its bucket; return the next tag."""
    while i != NONE and after[i] != NONE:
        for p in range(begin[i] + 1, begin[i] + length[i]):
            stamp[lists[p]] = tag
        last, j = i, after[i]
        while j != NONE:
            equal = length[j] == length[i] and elements[j] == elements[i]
            p, stop = begin[j] + 1, begin[j] + length[j]
            while equal and p < stop:
                equal = stamp[lists[p]] == tag
                p += 1
            if equal:
                owner[j] = i
                size[i] += size[j]
                size[j] = 0
                after[last] = after[j]
            else:
                last = j
            j = after[j]
        i = after[i]
        tag += 1
    return tag


@part
def reduce_lists(p0, p1, me, tag, begin, length, elements, lists, size, degree, owner, stamp, after, before, bucket):  # type: ignore[no-untyped-def]
    """Replace what the pivot's element covers in the lists of its variables, bound their degrees, and put them into
    buckets by their lists; return how many unknowns are eliminated with the pivot, as they are coupled to nothing
    else."""
    n, along = np.uint32(len(begin)), 0
    for p in range(p0, p1):  # what of each element is outside the pivot's
        i = lists[p]
        weight = -size[i]
        for q in range(begin[i], begin[i] + elements[i]):
            e = lists[q]
            if stamp[e] >= tag:
                stamp[e] -= weight
            elif stamp[e] != 0:
                stamp[e] = degree[e] + tag - weight
    for p in range(p0, p1):
        i = lists[p]
        first = begin[i]
        kept, outside, key = first, 0, np.uint32(0)
        for q in range(first, first + elements[i]):
            e = lists[q]
            if stamp[e] > tag:
                outside += stamp[e] - tag
                lists[kept] = e
                kept += 1
                key += e
            elif stamp[e] != 0:  # it lies in the pivot's element
                owner[e] = me
                stamp[e] = 0
        middle = kept
        for q in range(first + elements[i], first + length[i]):
            j = lists[q]
            if size[j] > 0:
                outside += size[j]
                lists[kept] = j
                kept += 1
                key += j
        if kept == first:
            owner[i] = me
            along -= size[i]
            size[i] = 0
            continue
        degree[i] = min(degree[i], outside)
        lists[kept] = lists[middle]  # the pivot's own place in this list has become free
        lists[middle] = lists[first]
        lists[first] = me
        elements[i], length[i] = middle - first + 1, kept - first + 1
        key %= n
        after[i], bucket[key], before[i] = bucket[key], i, key
    return along


@plain
def order_by_degree(  # type: ignore[no-untyped-def]
    begin, length, lists, used, elements, size, degree, owner, stamp, head, after, before, bucket, pivots, most
):
    """Eliminate all variables, write the pivots in their order, and return their number; −1 where `lists` is too short,
    −2 where the factor takes more than about `most` operations.

    Afterwards `size` has the number of unknowns of each pivot, 0 for others, whose `owner` leads to a pivot.
    """
    n = len(begin)
    for i in range(n):
        head[i], bucket[i], stamp[i], size[i], elements[i] = NONE, NONE, 1, 1, 0
    for i in range(n):
        degree[i] = length[i]
        after[i], before[i] = head[degree[i]], NONE
        if after[i] != NONE:
            before[after[i]] = np.uint32(i)
        head[degree[i]] = np.uint32(i)
    count, done, least, tag, work = 0, 0, 0, 2, 0.0
    while done < n:
        if work > most:
            return -2
        while head[least] == NONE:
            least += 1
        me = head[least]
        unlink(me, degree, head, after, before)
        pivot, size[me] = size[me], -size[me]
        first, stop = begin[me], begin[me] + length[me]
        if elements[me] == 0:
            p0 = first
            p1, weight = gather(first, stop, p0, lists, size, degree, head, after, before)
        else:
            p0, bound, weight = used, length[me], 0
            for p in range(first, first + elements[me]):
                bound += length[lists[p]]
            if used + bound > len(lists):
                return -1
            p1 = p0
            for p in range(first, first + elements[me]):
                e = lists[p]
                p1, more = gather(begin[e], begin[e] + length[e], p1, lists, size, degree, head, after, before)
                weight += more
                owner[e] = me
                stamp[e] = 0
            p1, more = gather(first + elements[me], stop, p1, lists, size, degree, head, after, before)
            weight += more
        along = reduce_lists(
            p0, p1, me, tag, begin, length, elements, lists, size, degree, owner, stamp, after, before, bucket
        )
        pivot += along
        weight -= along
        done += pivot
        work += pivot * float(weight + pivot) ** 2
        tag += n + 1
        for p in range(p0, p1):
            i = lists[p]
            if size[i] < 0:
                key = before[i]
                i = bucket[key]
                bucket[key] = NONE
                tag = merge_equal(i, tag, begin, length, elements, lists, size, owner, stamp, after)
        kept = p0
        for p in range(p0, p1):
            i = lists[p]
            if size[i] < 0:
                size[i] = -size[i]
                at = max(min(degree[i] + weight - size[i], n - done - size[i]), 0)
                degree[i] = at
                after[i], before[i] = head[at], NONE
                if after[i] != NONE:
                    before[after[i]] = i
                head[at] = i
                least = min(least, at)
                lists[kept] = i
                kept += 1
        begin[me], length[me], degree[me], size[me] = p0, kept - p0, weight, pivot
        if p0 == used:
            used = kept
        pivots[count] = me
        count += 1
    return count


@plain
def list_unknowns(pivots, size, owner, place, order):  # type: ignore[no-untyped-def]
    """Write the unknowns in the order of their pivots; `place` is work space."""
    at = 0
    for k in range(len(pivots)):
        place[pivots[k]] = at
        at += size[pivots[k]]
    for i in range(len(owner)):
        pivot = np.uint32(i)
        while size[pivot] == 0:
            pivot = owner[pivot]
        order[place[pivot]] = np.uint32(i)
        place[pivot] += 1
