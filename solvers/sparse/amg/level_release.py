"""Release of the arrays that only a set-up reads, once a cycle has its own copy, and their restoration for an
update."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from relaxon.solvers.sparse.amg import coarsening_kernels, updating_kernels
from relaxon.solvers.sparse.amg.hierarchy import OF_SET_UP, Hierarchy, Level, allocate_rows, build_below, build_finest
from relaxon.solvers.sparse.amg.smoothed_aggregation import (
    AggregateRows,
    build_interpolation,
    project_smoothed,
)
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem


def release_levels(hierarchy: Hierarchy) -> None:
    """Release what a cycle does not read of the levels."""
    for level in hierarchy.levels:
        level.released, level.half = True, None
        for name in OF_SET_UP:
            setattr(level, name, getattr(level, name)[:0].copy())


def restore_levels(hierarchy: Hierarchy, system: MatrixSystem) -> None:
    """Restore what was released, from the system for which the hierarchy was set up; its aggregates are kept."""
    levels = hierarchy.levels
    if not levels[0].released:
        return
    level = build_finest(system, hierarchy.constants.relaxation)[0]
    made = [level]
    for above, _ in pairwise(levels):
        level.group, level.offsets = above.group, above.offsets
        if above.smoothed is None:
            rows = _sum_aggregates(level)
        else:
            p, total = build_interpolation(level, level.group, int(level.offsets[-1]))
            level.smoothed, rows = project_smoothed(level, p, total, level.offsets)
        level = build_below(level, rows, hierarchy.constants)
        made.append(level)
    level.group, level.offsets = levels[-1].group, levels[-1].offsets
    # Arrays that a cycle reads are not replaced; the first level is completed last, which tells another thread that all
    # levels are complete.
    for own, new in zip(reversed(levels), reversed(made), strict=True):
        for name in OF_SET_UP:
            setattr(own, name, getattr(new, name))
        own.released = False


def _sum_aggregates(level: Level) -> AggregateRows:
    """Return `Pᵀ A P` of a level's aggregates, which are in the order of their first rows."""
    heads, link = np.empty(int(level.offsets[-1]), np.int32), np.empty(level.rows, np.int32)
    updating_kernels.link_members(level.group, heads, link)
    rows = allocate_rows(len(heads), 0, len(level.columns))
    rows.bounds = level.offsets
    coarsening_kernels.merge_rows(
        level.offsets, level.group, heads, link, level.first, level.last, level.columns, level.values,
        level.surplus, level.diagonal, level.most, rows.first, rows.last, rows.columns, rows.values, rows.surplus,
        rows.weight, rows.most, np.zeros(len(heads), np.uint32),
    )  # fmt: skip
    return rows
