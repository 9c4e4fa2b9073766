"""The loop of every iterative method: a step at a time, until the monitor or a lack of progress ends it."""

from __future__ import annotations

import math
from collections.abc import Generator

from relaxon.core.solution import Result
from relaxon.solvers.interface.engine import Monitor

Steps = Generator[float, int, Result]
"""A method on one right-hand side: it yields the norm of the residual at the start and after each step.

It is sent the number of steps since the last least residual, and returns where it can take no further step: see
`end_of`. Before a step may overwrite the last direction it calls `Monitor.stepped(None)`."""


def iterate(steps: Steps, monitor: Monitor, max_iterations: int, stagnation_steps: int) -> Result:
    """Take steps until the monitor gives a reason to stop, `max_iterations` are done, or there is no progress.

    Parameters
    ----------
    stagnation_steps : without a new least residual for so many steps, rounding or the directions forbid progress.
    """
    norm = next(steps)
    least, since = norm, 0
    reason = monitor.record(norm)
    for _ in range(max_iterations):
        if reason is not None:
            return reason
        try:
            norm = steps.send(since)
        except StopIteration as end:
            result: Result = end.value
            return result
        reason = monitor.record(norm)
        least, since = (norm, 0) if norm < least else (least, since + 1)
        if reason is None and since >= stagnation_steps:
            return Result.STAGNATED
    return reason or Result.MAX_ITERATIONS


def end_of(*values: float) -> Result:
    """Return why a method ends whose curvature or product is not positive: rounding, or a value that is not finite."""
    return Result.STAGNATED if all(map(math.isfinite, values)) else Result.NON_FINITE
