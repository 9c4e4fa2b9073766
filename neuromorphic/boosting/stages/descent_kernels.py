"""L-BFGS for the objective of a boosting stage: a single descent, a batch of them, and the screening of starts."""

# Counts begin with NumPy's int64, for the sake of `FIRST`, and go on as Python's.
# mypy: disable-error-code="assignment"
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting.stages.kernels import BLOCK, align_empty, objective, weigh
from relaxon.neuromorphic.boosting.stages.lbfgs_kernels import (
    ARMIJO,
    CURVATURE,
    LINE_STEPS,
    lengthen_step,
    remember,
    shorten_step,
    two_loop,
)
from relaxon.neuromorphic.boosting.stages.projection_kernels import descend_projected, screen_starts
from relaxon.solvers.kernels.compiled import kernel
from relaxon.solvers.kernels.threads import divide

Array = NDArray[np.float64]
OF_OBJECTIVE = 9
"""Number of scratch arrays of the objective."""


def minimise(
    theta: Array, x: Array, r: Array, w: Array, rows: int, units: int, ridge: float, project: bool, iterations: int,
    tolerance: float, least_scale: float, *scratch: Any,
) -> tuple[float, int, int]:  # fmt: skip
    """Move `theta` to a minimum of the stage objective on `rows` rows, by L-BFGS.

    Returns the value, iterations and evaluations.

    Stops after `iterations`, or where an iteration lowers the value by less than
    `tolerance · max(value, least_scale)`. A step satisfies the weak Wolfe conditions, by bracketing. `scratch` are the
    arrays of `buffers`; the last of them counts the pairs that are remembered of an earlier descent, 0 for a fresh one.
    """
    options = (theta, x, r, w, rows, units, ridge, iterations, tolerance, least_scale)
    found: tuple[float, int, int]
    if project:
        weigh(r, w, rows, *scratch[:2])
        found = descend_projected(*options, *scratch)
    else:
        # No sums, changes of sums or changes of activations there.
        found = descend(*options, *scratch[:-4], scratch[-1])
    return found


@kernel()
def descend(  # type: ignore[no-untyped-def]
    theta, x, r, w, rows, units, ridge, iterations, tolerance, least_scale,
    places, known, h, error, delta, rounded, gram, right, grad, trial, trial_grad, direction, s, y, rho,
    alpha, pairs,
):  # fmt: skip
    """Minimise without projection, moving all of `theta`.

    `pairs` counts the `s`, `y`, `rho` there are from an earlier descent and says which is the oldest; then of this one.
    """
    size, moved = s.shape[0], theta.size
    evaluations, done, stored, first = 0, -1, pairs[0], pairs[1]
    value, slope, step = 0.0, 0.0, 0.0
    for i in range(moved):
        direction[i] = 0.0
    # The first turn of the loop is the evaluation at the start, so that each function is called at one place.
    while done < iterations:
        starting = done < 0
        if not starting:
            two_loop(grad, moved, size, s, y, rho, first, stored, direction, alpha)
            slope, length = 0.0, 0.0
            for i in range(moved):
                slope += grad[i] * direction[i]
                length += grad[i] * grad[i]
            if not slope < 0.0:
                break
            step = 1.0 if stored > 0 else min(1.0, 1.0 / np.sqrt(length))
        low, high, accepted, reached = 0.0, np.inf, False, value
        for attempt in range(LINE_STEPS + 1):
            if attempt == LINE_STEPS:
                # The search ended between brackets: go back to the last step that lowered the value enough.
                if not accepted or low == step:
                    break
                step = low
            for i in range(moved):
                trial[i] = theta[i] + step * direction[i]
            reached = objective(trial, x, r, w, rows, units, ridge, places, h, error, delta, rounded, trial_grad)
            evaluations += 1
            if starting or attempt == LINE_STEPS:
                accepted = True
                break
            if not reached <= value + ARMIJO * step * slope:
                high = step
                step = shorten_step(step, low, high, value, reached, slope)
                continue
            trial_slope = 0.0
            for i in range(moved):
                trial_slope += trial_grad[i] * direction[i]
            low = step
            accepted = True
            if trial_slope >= CURVATURE * slope:
                break
            step = lengthen_step(step, high, trial_slope, slope)
        if not accepted or not np.isfinite(reached):
            if starting:
                value = reached
            break
        gained = value - reached
        value = reached
        if not starting:
            stored, first = remember(theta, trial, grad, trial_grad, moved, size, s, y, rho, first, stored)
        # Element by element: an assignment of whole arrays compiles the message of its error, for seconds.
        for i in range(moved):
            theta[i] = trial[i]
            grad[i] = trial_grad[i]
        done += 1
        if not starting and gained <= tolerance * max(abs(value), least_scale):
            break
    pairs[0], pairs[1] = stored, first
    return value, max(done, 0), evaluations


def buffers(
    features: int, rows: int, units: int, outputs: int, memory: int, dtype: Any = np.float64
) -> tuple[NDArray[Any], ...]:
    """Allocate the scratch arrays of `minimise` in the order of its arguments; they are reused by every stage.

    `dtype` is that of the rows, float64 or float32. The first array contains the block starts, here contiguous.
    """
    length = units * (features + 1) + (units + 1) * outputs
    h, z, dz, deltas = (align_empty((units, rows), dtype) for _ in range(4))
    return (
        np.arange(0, max(rows, 1), BLOCK), np.zeros(2), h,
        np.empty((outputs, BLOCK), dtype), np.empty(BLOCK, dtype), np.empty(length, dtype),
        np.empty((units + 1, units + 1)), np.empty((units + 1) * outputs), np.empty(length), np.empty(length),
        np.empty(length), np.empty(length), np.empty((memory, length)), np.empty((memory, length)),
        np.empty(memory), np.empty(memory), z, dz, deltas, np.zeros(2, np.int64),
    )  # fmt: skip


def minimise_batch(
    starts: Array,
    values: Array,
    counts: NDArray[np.int64],
    x: Array,
    r: Array,
    w: Array,
    rows: int,
    units: int,
    *rest: Any,
) -> None:
    """Minimise from each row of `starts`, shared among threads; the results of the rows are independent.

    `rest` is `ridge, project, iterations, tolerance, least_scale` of `minimise`, the pairs that it remembers, and where
    the blocks of rows begin: one after another where that is not said.
    """
    divide(_minimise_run, len(starts), starts, values, counts, x, r, w, rows, units, *rest)


def _minimise_run(
    first: int, past: int, starts: Array, values: Array, counts: NDArray[np.int64], x: Array, r: Array, w: Array,
    rows: int, units: int, ridge: float, project: bool, iterations: int, tolerance: float, least_scale: float,
    memory: int, places: NDArray[np.int64] | None = None,
) -> None:  # fmt: skip
    scratch = buffers(x.shape[0], rows, units, r.shape[0], memory, x.dtype)
    scratch = scratch if places is None else (places, *scratch[1:])
    for index in range(first, past):
        values[index], *counts[index] = minimise(
            starts[index], x, r, w, rows, units, ridge, project, iterations, tolerance, least_scale, *scratch
        )
        scratch[-1][:] = 0


def screen(
    starts: Array,
    values: Array,
    x: Array,
    r: Array,
    w: Array,
    rows: int,
    units: int,
    ridge: float,
    scratch: tuple[Any, ...],
) -> None:
    """Compute the projected objective at each row of `starts`, to select the most promising ones."""
    weigh(r, w, rows, *scratch[:2])
    screen_starts(starts, values, x, r, w, rows, units, ridge, *scratch[: OF_OBJECTIVE - 1], *scratch[-4:-2])
