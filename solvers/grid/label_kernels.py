"""Compiled labelling of connected cells: runs along the last axis, joined by union and find.

Source: L. He, Y. Chao, K. Suzuki, "A Run-Based Two-Scan Labeling Algorithm", IEEE Trans. Image Process. 17 (2008).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.compiled import part, plain


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
def _number_components(held, wrap, first, start, stop, parent, holds, component, sizes):  # type: ignore[no-untyped-def]
    """Number each run's `component`, 1 … count, 0 where it is held, and fill in their `sizes`; returns `count`.

    `parent` (runs,) numbers the runs before, `holds` (runs,) bool is False, and `sizes` 0.
    """
    n0, n1, n2 = held.shape
    for i in range(n0):
        for j in range(n1):
            line = i * n1 + j
            # The rows before it along both axes, around the edge where periodic.
            for axis in range(2):
                index, n, by = (i, n0, n1) if axis == 0 else (j, n1, 1)
                other = line - by if index > 0 else line + (n - 1) * by
                if index > 0 or (wrap[axis] and n > 1):
                    _join_lines(first, start, stop, parent, other, line)
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
    """Find the components of `fluid` that hold no cell of `held` (both `(n0, n1, n2)` bool), by faces.

    Returns the row starts, the runs' starts and stops, each run's component, 1 … count, 0 where it is held, and the
    components' sizes `(count + 1,)`.
    """
    first, start, stop = _runs(fluid)
    runs = len(start)
    component, parent, sizes = np.empty(runs, np.int32), np.arange(runs), np.zeros(runs + 1, np.int64)
    holds = np.zeros(runs, bool)
    count = _number_components(held, wrap, first, start, stop, parent, holds, component, sizes)
    return first, start, stop, component, sizes[: count + 1].copy()


def _runs(fluid: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Runs of True along the last axis of `(n0, n1, n2)`: where each row's begin, as numbers of runs
    `(n0 n1 + 1,) int64`, and each run's `start` and `stop` `(runs,) int32`.
    """
    n2 = fluid.shape[2]
    ends = fluid.copy()
    np.greater(fluid[..., 1:], fluid[..., :-1], out=ends[..., 1:])
    row, start = np.divmod(np.flatnonzero(ends), n2)
    ends[...] = fluid
    np.greater(fluid[..., :-1], fluid[..., 1:], out=ends[..., :-1])
    stop = np.flatnonzero(ends) % n2 + 1
    first = np.zeros(fluid.size // n2 + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=first.size - 1), out=first[1:])
    return first, start.astype(np.int32), stop.astype(np.int32)


@plain
def paint(first, start, stop, component, labels):  # type: ignore[no-untyped-def]
    """`labels` (zero before) ← each run's component."""
    n1 = labels.shape[1]
    for line in range(first.size - 1):
        row = labels[line // n1, line % n1]
        for run in range(first[line], first[line + 1]):
            for k in range(start[run], stop[run]):
                row[k] = component[run]


def label_by_faces(
    fluid: NDArray[np.bool_], held: NDArray[np.bool_], faces: Any
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Label the components of `fluid` that hold no cell of `held`, joined by faces whose coupling is positive.

    `fluid` and `held` are `(n0, n1, n2)` bool; `faces` one float64 array an axis, of the faces below the cells, that at
    index 0 around the axis. Returns labels `(n0, n1, n2) int32`, 1 … count, 0 elsewhere, and sizes `(count + 1,)`.
    """
    labels = np.zeros(fluid.shape, np.int32)
    parent = np.arange(fluid.size)
    count = _join_by_faces(fluid, held, faces[0], faces[1], faces[2], parent, labels)
    return labels, np.bincount(labels.reshape(-1), minlength=count + 1) * (np.arange(count + 1) > 0)


@plain
def _join_by_faces(fluid, held, face0, face1, face2, parent, labels):  # type: ignore[no-untyped-def]
    """`parent` (cells,) numbers the cells before; returns the count."""
    n0, n1, n2 = fluid.shape
    for i in range(n0):
        for j in range(n1):
            for k in range(n2):
                if not fluid[i, j, k]:
                    continue
                cell = (i * n1 + j) * n2 + k
                for axis in range(3):
                    face = face0[i, j, k] if axis == 0 else (face1[i, j, k] if axis == 1 else face2[i, j, k])
                    if not face > 0:
                        continue
                    p = (i - 1) % n0 if axis == 0 else i
                    q = (j - 1) % n1 if axis == 1 else j
                    r = (k - 1) % n2 if axis == 2 else k
                    if fluid[p, q, r]:
                        _join(parent, cell, (p * n1 + q) * n2 + r)
    # A component's root is its first cell. Its label says first whether it is held, then which it is.
    for cell in range(fluid.size):
        i, j, k = cell // (n1 * n2), cell // n2 % n1, cell % n2
        if held[i, j, k]:
            root = _root(parent, cell)
            labels[root // (n1 * n2), root // n2 % n1, root % n2] = -1
    count = 0
    for cell in range(fluid.size):
        i, j, k = cell // (n1 * n2), cell // n2 % n1, cell % n2
        if not fluid[i, j, k]:
            continue
        root = _root(parent, cell)
        if root == cell:
            if labels[i, j, k] == 0:
                count += 1
                labels[i, j, k] = count
        else:
            labels[i, j, k] = labels[root // (n1 * n2), root // n2 % n1, root % n2]
    for i in range(n0):
        for j in range(n1):
            row = labels[i, j]
            for k in range(n2):
                if row[k] < 0:
                    row[k] = 0
    return count
