"""The update of a hierarchy to new values on the same pattern: order, blocks, aggregates and patterns are kept."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.sparse.amg import updating_kernels as kernels
from relaxon.solvers.sparse.amg.coarsest import dense_inverse
from relaxon.solvers.sparse.amg.hierarchy import Floats, Hierarchy, Level, aggregate_labels
from relaxon.solvers.sparse.amg.smoothed_aggregation import (
    OMEGA,
    STRENGTH,
    KeptPatterns,
    Smoothed,
    Sparse,
    multiply,
    split_coarse,
    split_runs,
)
from relaxon.solvers.sparse.amg.smoothed_aggregation_kernels import apply_to_sums, sum_coarse_rows
from relaxon.solvers.sparse.amg.units import renew_weights, scale_unknowns
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem

NOTHING = np.empty(0, np.uint32)
SAMPLE = 500
"""Number of diagonal entries from which the change of scale is computed."""


def update_hierarchy(before: Hierarchy, old: MatrixSystem, system: MatrixSystem) -> Hierarchy:
    """Return the hierarchy of `system`, whose matrix has the pattern of `old`, for which `before` was set up.

    `before` is not modified; whatever does not depend on values is shared with it.
    """
    weights = renew_weights(before.weights, old, system)
    old, system = scale_unknowns(old, before.weights), scale_unknowns(system, weights)
    scale = before.scale * _change_of_scale(old, system)
    added = 1.0 / before.constants.relaxation - 1.0
    level = _refill_first_level(before, system, scale, added)
    levels = [level]
    for above, pattern in pairwise(before.levels):
        if above.smoothed is None:
            level.targets = _find_targets(above, pattern)
            level = _refill_next_level(level, pattern, level.targets, added)
        else:
            level = _refill_next_smoothed(level, pattern, _find_kept_patterns(above, above.smoothed), added)
        levels.append(level)
    solution = dense_inverse(level) if len(before.solution) == level.rows else before.solution
    return Hierarchy(tuple(levels), solution, before.order, scale, before.constants, weights)


def _change_of_scale(old: MatrixSystem, system: MatrixSystem) -> float:
    """Return the power of two by which the new diagonal is smaller, in the geometric mean of a sample."""
    step = max(1, system.unknowns // SAMPLE)
    was, now = old.diagonal[::step], system.diagonal[::step]
    both = (was > 0) & (now > 0)
    if not both.any():
        return 1.0
    return 2.0 ** -round(float(np.mean(np.log2(now[both]) - np.log2(was[both]))))


def _make_empty_level(pattern: Level, labels: NDArray[np.int32] | None) -> Level:
    """Return a level with the same pattern and aggregates, and its own memory for values."""
    n = pattern.rows
    diagonal, inverse, excess, most, sums = (np.empty(n, np.float32) for _ in range(5))
    return replace(
        pattern, values=np.empty_like(pattern.values), diagonal=diagonal, inverse=inverse, excess=excess, most=most,
        surplus=np.empty(n), sums=sums, labels=labels, half=None,
    )  # fmt: skip


def _refill_first_level(before: Hierarchy, system: MatrixSystem, scale: float, added: float) -> Level:
    labels, order = system.null.labels, before.order
    if labels is not None:
        labels = labels.reshape(-1) if order is None else labels.reshape(-1)[order]
    a, places = system.matrix, _find_places(before, system)
    level = _make_empty_level(before.levels[0], labels)  # with these places, for its own update
    level.over(
        kernels.refill_first, a.indptr.view(np.uint32), a.data, order is not None, NOTHING if order is None else order,
        places, scale, added, level.first, level.inner, level.last, *_fill_arrays(level),
    )  # fmt: skip
    if level.labels is not None:
        level.surplus[level.labels > 0] = 0.0
    level.sums[...] = level.surplus
    return level


def _find_places(before: Hierarchy, system: MatrixSystem) -> NDArray[np.uint32]:
    """Return the place of each of the matrix's entries on the first level, computed once for all updates."""
    level, order, a = before.levels[0], before.order, system.matrix
    if level.places is None:
        place = NOTHING
        if order is not None:
            place = np.empty(len(order), np.uint32)
            place[order] = np.arange(len(order), dtype=np.uint32)
        places = np.empty(a.nnz, np.uint32)
        divide(
            kernels.find_places, len(level.bounds) - 1, level.bounds, a.indptr.view(np.uint32),
            a.indices.view(np.uint32), order is not None, NOTHING if order is None else order, place, level.first,
            level.last, level.columns, places, chunks=level.chunks, work=lambda: (np.empty(level.rows, np.uint32),),
        )  # fmt: skip
        level.places = places
    return level.places


def _refill_next_level(fine: Level, pattern: Level, targets: NDArray[np.uint32], added: float) -> Level:
    """Return the level below a filled one, with sums over aggregates."""
    level = _make_empty_level(pattern, aggregate_labels(fine, pattern.rows))
    sums = np.zeros(len(pattern.columns) + len(fine.bounds) * int(kernels.APART), np.float32)
    fine.over(
        kernels.add_to_targets, fine.offsets, fine.group, fine.first, fine.last, targets, fine.values, fine.surplus,
        sums, level.surplus,
    )  # fmt: skip
    level.over(kernels.finish_rows, level.first, level.inner, level.last, sums, added, *_fill_arrays(level))
    level.sums[...] = level.surplus
    return level


def _refill_next_smoothed(fine: Level, pattern: Level, kept: KeptPatterns, added: float) -> Level:
    """Return the level below a filled one by smoothed aggregation; the filled one gets its own interpolation."""
    assert fine.smoothed is not None
    was, old = fine.smoothed.interpolation, fine.smoothed.restriction
    p = replace(was, values=np.empty_like(was.values))
    total, image = np.empty(fine.rows), np.empty(fine.rows)
    bounds, chunks = split_runs(fine.bounds), fine.chunks
    runs, below = len(bounds) - 1, split_coarse(fine.offsets, bounds)
    divide(
        kernels.refill_interpolation, runs, bounds, fine.first, fine.last, fine.values, fine.diagonal, fine.surplus,
        OMEGA, fine.group, kept.targets, p.begin, p.end, p.values, total, chunks=chunks,
    )  # fmt: skip
    r = replace(old, values=p.values[kept.turned])
    fine.smoothed = Smoothed(p, r, kept)
    level = _make_empty_level(pattern, aggregate_labels(fine, pattern.rows))
    ap = multiply(Sparse(fine.first, fine.last, fine.columns, fine.values, fine.rows), fine.diagonal, p, bounds, chunks)
    sums = np.empty(len(pattern.columns) + (runs + 1) * int(kernels.APART), np.float32)
    divide(
        kernels.refill_product, runs, below, r.begin, r.end, r.columns, r.values, ap.begin, ap.end, ap.columns,
        ap.values, level.first, level.last, level.columns, np.uint32(len(pattern.columns)), sums, chunks=chunks,
        work=lambda: (np.empty(p.width, np.uint32),),
    )  # fmt: skip
    divide(
        apply_to_sums, runs, bounds, fine.first, fine.last, fine.columns, fine.values, fine.surplus, total, image,
        chunks=chunks,
    )  # fmt: skip
    divide(sum_coarse_rows, runs, below, r.begin, r.end, r.columns, r.values, image, level.surplus, chunks=chunks)
    level.over(kernels.finish_rows, level.first, level.inner, level.last, sums, added, *_fill_arrays(level))
    level.sums[...] = level.surplus
    return level


def _find_kept_patterns(fine: Level, smoothed: Smoothed) -> KeptPatterns:
    """Return the patterns of an interpolation, computed once for all updates."""
    if smoothed.kept is None:
        p = smoothed.interpolation
        targets = np.empty(len(fine.columns), np.uint32)
        fine.over(
            kernels.find_interpolated, fine.first, fine.last, fine.columns, fine.values, fine.most,
            np.float32(STRENGTH**2), fine.group, p.begin, p.end, p.columns, targets,
            work=lambda: (np.empty(p.width, np.uint32),),
        )  # fmt: skip
        smoothed.kept = KeptPatterns(targets, np.argsort(p.columns, kind="stable"))
    return smoothed.kept


def _find_targets(fine: Level, coarse: Level) -> NDArray[np.uint32]:
    """Return the entry of the next level to which each entry is added, computed once for all updates."""
    if fine.targets is None:
        heads, link = np.empty(coarse.rows, np.int32), np.empty(fine.rows, np.int32)
        kernels.link_members(fine.group, heads, link)
        targets = np.empty(len(fine.columns), np.uint32)
        divide(
            kernels.find_targets, len(fine.bounds) - 1, fine.bounds, fine.offsets, fine.group, heads, link, fine.first,
            fine.last, fine.columns, coarse.first, coarse.last, coarse.columns, np.uint32(len(coarse.columns)), targets,
            chunks=fine.chunks, work=lambda: (np.empty(coarse.rows, np.uint32),),
        )  # fmt: skip
        fine.targets = targets
    return fine.targets


def _fill_arrays(level: Level) -> tuple[NDArray[Any], NDArray[np.float64], Floats, Floats, Floats, Floats]:
    """Return the arrays that fill a level, in the order of the kernels' arguments."""
    return level.values, level.surplus, level.diagonal, level.inverse, level.excess, level.most
