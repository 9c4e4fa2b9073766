"""Compiled labelling of connected cells: runs along the last axis, joined by union and find.

Source: L. He, Y. Chao, K. Suzuki, "A Run-Based Two-Scan Labeling Algorithm", IEEE Trans. Image Process. 17 (2008).
"""

# Indices are unsigned in some loops (a signed one might count from the end) and signed in others.
# mypy: disable-error-code="assignment"
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.compiled import ONE, part, plain, shared


@part
def _root(parent, label):  # type: ignore[no-untyped-def]
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@part
def _join(parent, a, b):  # type: ignore[no-untyped-def]
    one, two = _root(parent, a), _root(parent, b)
    if one < two:
        parent[two] = one
    elif two < one:
        parent[one] = two


@plain
def count_runs(fluid):  # type: ignore[no-untyped-def]
    """How many runs of True there are along the last axis of `(n0, n1, n2)` bool."""
    n0, n1, n2 = fluid.shape
    count = 0
    for i in range(n0):
        for j in range(n1):
            row = fluid[i, j]
            before = False
            for k in range(n2):
                count += row[k] and not before
                before = row[k]
    return count


@part
def _starts(fluid, first, start, stop):  # type: ignore[no-untyped-def]
    """Each row's runs: `start`, `stop` (runs,), and the number of its `first` (n0 n1 + 1,)."""
    n0, n1, n2 = fluid.shape
    run = 0
    for line in range(n0 * n1):
        first[line] = run
        row = fluid[line // n1, line % n1]
        before = False
        for k in range(n2):
            if row[k] and not before:
                start[run] = k
            if before and not row[k]:
                stop[run] = k
                run += 1
            before = row[k]
        if before:
            stop[run] = n2
            run += 1
    first[n0 * n1] = run


@part
def _join_lines(first, start, stop, parent, one, two):  # type: ignore[no-untyped-def]
    """Join the runs of two neighbouring rows that touch."""
    a, b = first[one], first[two]
    while a < first[one + 1] and b < first[two + 1]:
        if start[a] < stop[b] and start[b] < stop[a]:
            _join(parent, a, b)
        if stop[a] < stop[b]:
            a += 1
        else:
            b += 1


@plain
def _number_components(fluid, held, wrap, first, start, stop, parent, holds, component, sizes):  # type: ignore[no-untyped-def]
    """Each run's `component`, 1 … count, 0 where it is held, and their `sizes`; returns `count`.

    `holds` (runs,) bool is False before, and `sizes` 0.
    """
    n0, n1, n2 = fluid.shape
    _starts(fluid, first, start, stop)
    for run in range(parent.size):
        parent[run] = run
    for i in range(n0):
        for j in range(n1):
            line = i * n1 + j
            # The rows before it along both axes, around the edge where periodic.
            for axis in range(2):
                index, n, by = (i, n0, n1) if axis == 0 else (j, n1, 1)
                if index > 0:
                    _join_lines(first, start, stop, parent, line - by, line)
                elif wrap[axis] and n > 1:
                    _join_lines(first, start, stop, parent, line + (n - 1) * by, line)
            if wrap[2] and first[line] < first[line + 1]:
                a, b = first[line], first[line + 1] - 1
                if start[a] == 0 and stop[b] == n2:
                    _join(parent, a, b)
    for line in range(n0 * n1):
        row = held[line // n1, line % n1]
        for run in range(first[line], first[line + 1]):
            root = _root(parent, run)
            if not holds[root]:
                for k in range(start[run], stop[run]):
                    if row[k]:
                        holds[root] = True
                        break
    count = 0
    for run in range(parent.size):
        # A component's root is its first run, which is numbered before the others.
        root = _root(parent, run)
        if root == run:
            component[run] = 0
            if not holds[run]:
                count += 1
                component[run] = count
        component[run] = component[root]
        if component[run] > 0:
            sizes[component[run]] += stop[run] - start[run]
    return count


def components(fluid: Any, held: Any, wrap: Any) -> tuple[NDArray[Any], ...]:
    """Components of `fluid` that hold no cell of `held` (both `(n0, n1, n2)` bool), by faces.

    Returns the row starts, the runs' starts and stops, each run's component, 1 … count, 0 where it is held, and the
    components' sizes `(count + 1,)`.
    """
    n0, n1, _ = fluid.shape
    runs = count_runs(fluid)
    first = np.empty(n0 * n1 + 1, np.int64)
    start, stop, component = (np.empty(runs, np.int32) for _ in range(3))
    parent, sizes = np.empty(runs, np.int64), np.zeros(runs + 1, np.int64)
    holds = np.zeros(runs, bool)
    count = _number_components(fluid, held, wrap, first, start, stop, parent, holds, component, sizes)
    return first, start, stop, component, sizes[: count + 1].copy()


@plain
def paint(first, start, stop, component, labels):  # type: ignore[no-untyped-def]
    """`labels` (zero before) ← each run's component."""
    n1 = labels.shape[1]
    for line in range(first.size - 1):
        row = labels[line // n1, line % n1]
        for run in range(first[line], first[line + 1]):
            for k in range(start[run], stop[run]):
                row[k] = component[run]


@shared("rows", of="cells")
def dirichlet_cells(start, stop, cells, sides, wrap, held):  # type: ignore[no-untyped-def]
    """`held` ← FLUID cells with an AIR neighbour or at a Dirichlet side; `sides` (3, 2) bool."""
    n0, n1, n2 = cells.shape
    for row in range(start, stop):
        i, j = row // n1, row % n1
        here, out = cells[i, j], held[i, j]
        for k in range(n2):
            out[k] = False
        for axis in range(2):
            index, n = (i, n0) if axis == 0 else (j, n1)
            if (index == 0 and sides[axis, 0]) or (index == n - 1 and sides[axis, 1]):
                for k in range(n2):
                    out[k] = True
            for by in range(-1, 2, 2):
                if 0 <= index + by < n or wrap[axis]:
                    other = cells[(i + by) % n0, j] if axis == 0 else cells[i, (j + by) % n1]
                    for cell in range(n2):
                        k = np.uint64(cell)
                        out[k] |= other[k] == 2
        for cell in range(n2 - 1):
            k = np.uint64(cell)
            out[k] |= here[k + ONE] == 2
        for cell in range(n2 - 1):
            k = np.uint64(cell)
            out[k + ONE] |= here[k] == 2
        if wrap[2]:
            out[0] |= here[n2 - 1] == 2
            out[n2 - 1] |= here[0] == 2
        out[0] |= sides[2, 0]
        out[n2 - 1] |= sides[2, 1]
        for cell in range(n2):
            k = np.uint64(cell)
            out[k] &= here[k] == 0
