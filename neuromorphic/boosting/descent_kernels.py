"""L-BFGS around the objective of a boosting stage: one descent, a batch of them, and the screening of their starts."""

# Counts begin with NumPy's int64, for the sake of `FIRST`, and go on as Python's.
# mypy: disable-error-code="assignment"
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting.kernels import BLOCK, SUMS, objective
from relaxon.solvers.compiled import kernel, kernel_part
from relaxon.solvers.threads import divide

Array = NDArray[np.float64]
ARMIJO, CURVATURE = 1e-4, 0.9
"""Wolfe constants as in L-BFGS-B (Zhu et al. 1997)."""
LINE_STEPS = 25
FARTHEST_STEP = 10.0
"""The most that a step that is too short is lengthened by."""
LEAST_CURVATURE = 2.2e-16
OF_OBJECTIVE = 9
"""So many of the scratch arrays are the objective's."""


@kernel_part(fastmath=SUMS)
def two_loop(grad, moved, size, s, y, rho, first, stored, direction, alpha):  # type: ignore[no-untyped-def]
    """`direction ← −H grad` over the first `moved` entries, `H` from the `stored` newest pairs (Nocedal 1980)."""
    for i in range(moved):
        direction[i] = -grad[i]
    for back in range(stored):
        slot = (first + stored - 1 - back) % size
        total = 0.0
        for i in range(moved):
            total += s[slot, i] * direction[i]
        alpha[slot] = rho[slot] * total
        for i in range(moved):
            direction[i] -= alpha[slot] * y[slot, i]
    if stored > 0:
        slot, yy = (first + stored - 1) % size, 0.0
        for i in range(moved):
            yy += y[slot, i] * y[slot, i]
        for i in range(moved):
            direction[i] /= rho[slot] * yy
    for back in range(stored):
        slot = (first + back) % size
        total = 0.0
        for i in range(moved):
            total += y[slot, i] * direction[i]
        for i in range(moved):
            direction[i] += s[slot, i] * (alpha[slot] - rho[slot] * total)


def minimise(
    theta: Array, x: Array, r: Array, w: Array, rows: int, units: int, ridge: float, project: bool, iterations: int,
    tolerance: float, least_scale: float, *scratch: Any,
) -> tuple[float, int, int]:  # fmt: skip
    """Move `theta` to a minimum of the stage objective on the first `rows` rows, by L-BFGS.

    Returns the value, iterations and evaluations.

    Stops after `iterations`, or where an iteration lowers the value by less than
    `tolerance · max(value, least_scale)`. A step satisfies the weak Wolfe conditions, by bracketing. `scratch` are the
    arrays of `buffers`; the last of them counts the pairs that are remembered of an earlier descent, 0 for a fresh one.
    """
    value = objective(theta, x, r, w, rows, units, ridge, project, *scratch[:OF_OBJECTIVE])
    found: tuple[float, int, int] = descend(
        theta, value, x, r, w, rows, units, ridge, project, iterations, tolerance, least_scale, *scratch
    )
    return found


@kernel()
def descend(  # type: ignore[no-untyped-def]
    theta, value, x, r, w, rows, units, ridge, project, iterations, tolerance, least_scale,
    h, scale, bits, error, delta, rounded, gram, right, grad, trial, trial_grad, direction, s, y, rho, alpha, pairs,
):  # fmt: skip
    """`minimise` from a `theta` whose objective is `value`, with its gradient in `grad`.

    `pairs` counts the `s`, `y`, `rho` there are from an earlier descent and says which is the oldest; then of this one.
    """
    size, moved = s.shape[0], units * (x.shape[0] + 1) if project else theta.size
    evaluations, done, stored, first = 1, 0, pairs[0], pairs[1]
    while done < iterations and np.isfinite(value):
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
            for i in range(moved, theta.size):
                trial[i] = theta[i]
            reached = objective(
                trial,
                x,
                r,
                w,
                rows,
                units,
                ridge,
                project,
                h,
                scale,
                bits,
                error,
                delta,
                rounded,
                gram,
                right,
                trial_grad,
            )
            evaluations += 1
            if attempt == LINE_STEPS:
                break
            trial_slope = 0.0
            for i in range(moved):
                trial_slope += trial_grad[i] * direction[i]
            if not reached <= value + ARMIJO * step * slope:
                high = step
                inner = 0.5
                if np.isfinite(reached) and low == 0.0:
                    # The parabola through the value, the slope and the value at the step has its minimum there.
                    inner = min(max(-0.5 * slope * step / (reached - value - slope * step), 0.1), 0.5)
                step = low + inner * (high - low)
            elif trial_slope < CURVATURE * slope:
                low = step
                accepted = True
                if high == np.inf:
                    # Where the slope, taken as linear, is zero, within bounds.
                    fall = 1.0 - trial_slope / slope
                    step *= min(max(1.0 / fall, 2.0), FARTHEST_STEP) if fall > 0.0 else FARTHEST_STEP
                else:
                    step = 0.5 * (low + high)
            else:
                low = step
                accepted = True
                break
        if not accepted:
            break
        slot = (first + stored) % size if stored < size else first
        sy, yy = 0.0, 0.0
        for i in range(moved):
            s[slot, i] = trial[i] - theta[i]
            y[slot, i] = trial_grad[i] - grad[i]
            sy += s[slot, i] * y[slot, i]
            yy += y[slot, i] * y[slot, i]
        if sy > LEAST_CURVATURE * yy:
            rho[slot] = 1.0 / sy
            if stored < size:
                stored += 1
            else:
                first = (first + 1) % size
        elif stored == size:
            stored = 0  # the pair has been written over the oldest one: begin anew
        gained = value - reached
        value = reached
        # Element by element: an assignment of whole arrays compiles the message of its error, for seconds.
        for i in range(theta.size):
            theta[i] = trial[i]
            grad[i] = trial_grad[i]
        done += 1
        if gained <= tolerance * max(abs(value), least_scale):
            break
    pairs[0], pairs[1] = stored, first
    return value, done, evaluations


def buffers(
    features: int, rows: int, units: int, outputs: int, memory: int, dtype: Any = np.float64
) -> tuple[NDArray[Any], ...]:
    """The scratch arrays of `minimise`, in the order of its arguments; made once and used by every stage.

    `dtype` is that of the rows, float64 or float32.
    """
    length = units * (features + 1) + (units + 1) * outputs
    scale = np.empty(BLOCK, dtype)
    return (
        np.empty((units, rows), dtype), scale, scale.view(np.int64 if scale.itemsize == 8 else np.int32),
        np.empty((outputs, BLOCK), dtype), np.empty(BLOCK, dtype), np.empty(length, dtype),
        np.empty((units + 1, units + 1)), np.empty((units + 1, outputs)), np.empty(length), np.empty(length),
        np.empty(length), np.empty(length), np.empty((memory, length)), np.empty((memory, length)),
        np.empty(memory), np.empty(memory), np.zeros(2, np.int64),
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
    """`minimise` from each row of `starts`, shared among threads; each row's outcome does not depend on the others.

    `rest` is `ridge, project, iterations, tolerance, least_scale` of `minimise` and the pairs that it remembers.
    """
    divide(_minimise_run, len(starts), starts, values, counts, x, r, w, rows, units, *rest)


def _minimise_run(
    first: int, past: int, starts: Array, values: Array, counts: NDArray[np.int64], x: Array, r: Array, w: Array,
    rows: int, units: int, ridge: float, project: bool, iterations: int, tolerance: float, least_scale: float,
    memory: int,
) -> None:  # fmt: skip
    scratch = buffers(x.shape[0], x.shape[1], units, r.shape[0], memory, x.dtype)
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
    """The projected objective at each row of `starts`: which of them is worth following."""
    screen_starts(starts, values, x, r, w, rows, units, ridge, True, *scratch[:OF_OBJECTIVE])


@kernel()
def screen_starts(  # type: ignore[no-untyped-def]
    starts, values, x, r, w, rows, units, ridge, project, h, scale, bits, error, delta, rounded, gram, right, grad
):
    for index in range(len(starts)):
        values[index] = objective(
            starts[index],
            x,
            r,
            w,
            rows,
            units,
            ridge,
            project,
            h,
            scale,
            bits,
            error,
            delta,
            rounded,
            gram,
            right,
            grad,
        )
