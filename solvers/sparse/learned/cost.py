"""The cost of a set-up and a solve, counted instead of timed, so that it is the same on any machine."""

from __future__ import annotations

import math

from relaxon.core.solution import Solution
from relaxon.solvers.sparse.amg.engine import MultigridDirections

# In units of one entry of a level in a sweep, about a nanosecond; fitted by `bench/sparse_learning.py --fit`.
SETUP_ENTRY, MATCHED_ENTRY, SETUP_ROW = 3.0, 7.0, 80.0
"""Costs in the set-up: of an entry of a level, of an entry in each matching, and of a row."""
OUTER_ENTRY, OUTER_ROW = 0.5, 12.0
"""Costs of an iteration outside the cycle: of an entry of the matrix and of a row."""


def setup_cost(engine: MultigridDirections) -> float:
    """Return the cost of a set-up for each entry of the matrix."""
    levels = engine.hierarchy.levels
    entries = [level.entries for level in levels]
    matched = MATCHED_ENTRY * engine.hierarchy.constants.matchings * sum(entries[:-1])
    rows = SETUP_ROW * sum(level.rows for level in levels)
    return float((SETUP_ENTRY * sum(entries) + matched + rows) / engine.system.matrix.nnz)


def iteration_cost(engine: MultigridDirections, iterations: int) -> float:
    """Return the cost of an iteration for each entry of the matrix, from the visits of levels in that many
    iterations."""
    cycle, levels = engine.cycle, engine.hierarchy.levels
    # A visit has two sweeps, and one product with the matrix where a second step is possible.
    touched = sum(
        count * level.entries * (3 if steps == 2 else 2)
        for count, level, steps in zip(cycle.visits, levels, cycle.steps, strict=True)
    )
    a = engine.system.matrix
    return float((OUTER_ENTRY * a.nnz + OUTER_ROW * a.shape[0] + touched / max(iterations, 1)) / a.nnz)


def fractional_iterations(solution: Solution) -> float:
    """Return the iterations to the tolerance, the last one by the fraction of its decades that was needed.

    With whole iterations the cost would jump by a tenth when constants change by a hundredth.
    """
    residuals, tolerance = solution.residuals, solution.tolerance
    if len(residuals) < 2:
        return float(solution.iterations)
    before, last = residuals[-2], residuals[-1]
    if not (solution.converged and 0 < last < before and last <= tolerance < before):
        return float(solution.iterations)
    return solution.iterations - 1 + math.log(before / tolerance) / math.log(before / last)


def solve_cost(engine: MultigridDirections, solution: Solution) -> float:
    """Return the cost of a set-up and the one solve since, for each entry of the matrix."""
    each = iteration_cost(engine, solution.iterations)
    return setup_cost(engine) + fractional_iterations(solution) * each
