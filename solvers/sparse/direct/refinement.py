"""Iterative refinement: repeated solves for the residual, recomputed in float64, while they reduce it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from relaxon.core.solution import Result
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.interface.verdict import subtract
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

PROGRESS = 0.5
"""Refinement continues while each step reduces the residual to at most this fraction."""


def refine(
    system: MatrixSystem,
    correction: Callable[[Array, float], Array | None],
    b: Array,
    x: Array,
    monitor: Monitor,
    max_iterations: int,
) -> Result:
    """Improve `x` in place as `MatrixEngine.run` does, by `x ← x + correction(r, ‖r‖)`, `r = b − A x`.

    A correction approximates `A⁻¹ r`, in a new array; None ends the run.
    """
    r = np.empty_like(b)
    norm = system.residual(b, x, r)
    reason = monitor.record(norm)
    for _ in range(max_iterations):
        if reason is not None:
            return reason
        step = correction(r, norm)
        if step is None:
            return Result.STAGNATED
        x += step
        monitor.stepped(partial(subtract, x, 1.0, step))
        system.project(x)
        before, norm = norm, system.residual(b, x, r)
        reason = monitor.record(norm)
        if reason is None and norm > PROGRESS * before:
            return Result.STAGNATED
    return reason or Result.MAX_ITERATIONS
