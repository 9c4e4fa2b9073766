"""Compiled passes over a level whose couplings make a graph: how its nodes fall into parts, and smoothing.

While the levels are made a graph stands in rows of couplings (`starts`, `others`, `couplings`). For smoothing, eight
nodes one after the other share the lanes of a vector: row `p` of `others` and `couplings` `(…, 8)` has a coupling of
each of them, those of the nodes `8 s … 8 s + 7` are the rows from `begins[s]` to `begins[s + 1]`. A node with fewer
couplings than its neighbours has couplings of 0 to itself. Arrays of nodes are filled up with zeros to whole vectors.
"""

# Indices are unsigned in some loops (a signed one might count from the end) and signed in others.
# mypy: disable-error-code="assignment"
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.compiled import threads_for
from relaxon.solvers.kernels.lane_kernels import WIDTH, add_scaled, gather, load, multiply, store
from relaxon.solvers.kernels.lean import lean, lean_shared
from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.multigrid.cycle import Single
from relaxon.solvers.multigrid.plane_passes import F0

Index = NDArray[np.int32]
ONE = np.float32(1)
CELL = 7
"""Entries of a graph that count as a cell of a grid where work is divided among threads."""


class Rows(NamedTuple):
    """A graph in rows of couplings."""

    starts: Index
    """Where each node's couplings begin, `(n + 1,)`."""
    others: Index
    """The other node of each coupling."""
    couplings: Single


class LanedRows(NamedTuple):
    """The same, eight nodes beside one another."""

    begins: Index
    others: Index
    couplings: Single

    @classmethod
    def of(cls, rows: Rows, factor: float) -> LanedRows:
        """Lay rows out in this way, with all couplings times `factor`."""
        nodes = len(rows.starts) - 1
        lengths = np.zeros(fill_up(nodes), np.int32)
        lengths[:nodes] = np.diff(rows.starts)
        vectors = len(lengths) // WIDTH
        begins = np.zeros(vectors + 1, np.int32)
        np.cumsum(lengths.reshape(-1, WIDTH).max(1), out=begins[1:])
        laned = cls(begins, *(np.empty((begins[-1], WIDTH), kind) for kind in (np.int32, np.float32)))
        divide(_lay_out, vectors, *rows, np.float32(factor), *laned, chunks=threads_for(len(rows.others) // CELL))
        return laned


def fill_up(nodes: int) -> int:
    """Return how many nodes there are with those that fill the last vector up."""
    return -(-nodes // WIDTH) * WIDTH


@lean
def _lay_out(start, stop, starts, others, couplings, factor, begins, laned_others, laned_couplings):  # type: ignore[no-untyped-def]
    nodes = len(starts) - 1
    for vector in range(start, stop):
        for place in range(begins[vector], begins[vector + 1]):
            for lane in range(WIDTH):
                node = vector * WIDTH + lane
                at = starts[min(node, nodes)] + place - begins[vector]
                inside = at < starts[min(node + 1, nodes)]
                laned_others[place, lane] = others[at] if inside else node
                laned_couplings[place, lane] = factor * couplings[at] if inside else F0


@lean
def halve_blocks(block, n1, n2, halved):  # type: ignore[no-untyped-def]
    """`halved` ← the numbers of the blocks of 2×2×2 blocks that `block` has the numbers of; these are of a grid whose
    second and third axis have `n1` and `n2` of them.
    """
    m1, m2 = (n1 + 1) // 2, (n2 + 1) // 2
    for node in range(len(block)):
        i, j, k = block[node] // (n1 * n2), block[node] // n2 % n1, block[node] % n2
        halved[node] = (i // 2 * m1 + j // 2) * m2 + k // 2


@lean
def _add_rows(start, stop, starts, couplings, sums):  # type: ignore[no-untyped-def]
    for node in range(start, stop):
        total = 0.0
        for place in range(starts[node], starts[node + 1]):
            total += couplings[place]
        sums[node] = total


def add_rows(rows: Rows) -> NDArray[np.float64]:
    """Return the sum of each node's couplings."""
    sums = np.empty(len(rows.starts) - 1)
    divide(_add_rows, len(sums), rows.starts, rows.couplings, sums, chunks=threads_for(len(rows.others) // CELL))
    return sums


@lean
def label_nodes(starts, others, couplings, strength, block, least, part, waiting):  # type: ignore[no-untyped-def]
    """`part` ← the number of the part that each node belongs to, −1 for a node without couplings; returns their count.

    A part is what couplings between nodes of one `block` join that carry at least `least` of the geometric mean of
    what their two nodes couple with in all, which is `strength`. Parts are numbered by their first nodes. `waiting`,
    of as many nodes, is work space.
    """
    part[:] = -1
    count = 0
    for node in range(len(part)):
        if part[node] >= 0 or not strength[node] > 0:
            continue
        part[node] = count
        waiting[0] = node
        left = 1
        while left > 0:
            left -= 1
            own = waiting[left]
            bound = least * np.sqrt(strength[own])
            for place in range(starts[own], starts[own + 1]):
                other = others[place]
                if part[other] >= 0 or block[other] != block[own]:
                    continue
                if couplings[place] >= bound * np.sqrt(strength[other]):
                    part[other] = count
                    waiting[left] = other
                    left += 1
        count += 1
    return count


@lean
def _join_nodes(first, members, part, starts, others, couplings, seen, begins, found, sums):  # type: ignore[no-untyped-def]
    count = 0
    for own in range(len(first) - 1):
        begin = count
        for place in range(first[own], first[own + 1]):
            node = members[place]
            for entry in range(starts[node], starts[node + 1]):
                other = part[others[entry]]
                if other == own:
                    continue
                at = seen[other]
                if at < begin:
                    seen[other] = count
                    found[count] = other
                    sums[count] = couplings[entry]
                    count += 1
                else:
                    sums[at] += couplings[entry]
        begins[own + 1] = count
    return count


def join_nodes(first: NDArray[np.int64], members: Index, part: Index, rows: Rows) -> Rows:
    """Return the couplings between the parts of a graph, sums over the couplings of their members."""
    count = len(first) - 1
    begins, seen = np.zeros(count + 1, np.int32), np.full(count, -1, np.int32)
    found, sums = np.empty_like(rows.others), np.empty_like(rows.couplings)
    entries = _join_nodes(first, members, part, *rows, seen, begins, found, sums)
    return Rows(begins, found[:entries], sums[:entries])


@lean_shared("entries", of="x")
def first_sweep(start, stop, r, omega, inverse, x):  # type: ignore[no-untyped-def]
    """`x ← ωD⁻¹ r`, a damped Jacobi sweep from zero; `inverse` is `D⁻¹`."""
    for entry in range(start, stop):
        node = np.uint64(entry)
        x[node] = omega * inverse[node] * r[node]


@lean
def _sweep(start, stop, begins, others, couplings, diagonal, inverse, omega, flat, x, r, added, y):  # type: ignore[no-untyped-def]
    for vector in range(start, stop):
        own = load(x, vector)
        total = add_scaled(load(r, vector), -ONE, multiply(load(diagonal, vector), own))
        for place in range(begins[vector], begins[vector + 1]):
            total = add_scaled(total, load(couplings, place), gather(flat, others, place))
        if added:
            total = add_scaled(own, multiply(load(inverse, vector), omega), total)
        store(y, vector, total)


def graph_sweep(rows: LanedRows, diagonal: Single, inverse: Single, omega: np.float32, *rest: Any) -> None:
    """`y ← x + ωD⁻¹ (r − A x)` on a graph where `added`, else `y ← r − A x`; `rest` is `x, r, added, y`."""
    x, r, added, y = rest
    own, known, out, *matrix = (array.reshape(-1, WIDTH) for array in (x, r, y, diagonal, inverse))
    args = (*rows, *matrix, omega, x, own, known, added, out)
    divide(_sweep, len(own), *args, chunks=threads_for(rows.others.size // CELL))
