"""The parts that L-BFGS descents share: the two-loop recursion, the correction pairs and the line search."""

from __future__ import annotations

import numpy as np

from relaxon.neuromorphic.boosting.stages.kernels import SUMS
from relaxon.solvers.kernels.compiled import kernel_part

ARMIJO, CURVATURE = 1e-4, 0.9
"""Wolfe constants as in L-BFGS-B (Zhu et al. 1997)."""
LINE_STEPS = 25
FARTHEST_STEP = 10.0
"""Maximum factor by which a too short step is lengthened."""
LEAST_CURVATURE = 2.2e-16


@kernel_part(fastmath=SUMS)
def two_loop(grad, moved, size, s, y, rho, first, stored, direction, alpha):  # type: ignore[no-untyped-def]
    """Compute `direction ← −H grad` on the first `moved` entries, `H` from the newest `stored` pairs (Nocedal 1980)."""
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


@kernel_part(fastmath=SUMS)
def remember(theta, trial, grad, trial_grad, moved, size, s, y, rho, first, stored):  # type: ignore[no-untyped-def]
    """Store the pair of a step from `theta` to `trial`; return the number of pairs and the index of the oldest."""
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
    return stored, first


@kernel_part()
def shorten_step(step, low, high, value, reached, slope):  # type: ignore[no-untyped-def]
    """Return the next trial step if `step` was too long; steps up to `low` decrease the value sufficiently."""
    inner = 0.5
    if np.isfinite(reached) and low == 0.0:
        # The parabola through the value, the slope and the value at the step has its minimum there.
        inner = min(max(-0.5 * slope * step / (reached - value - slope * step), 0.1), 0.5)
    return low + inner * (high - low)


@kernel_part()
def lengthen_step(step, high, trial_slope, slope):  # type: ignore[no-untyped-def]
    """Return the next trial step if `step` was too short; steps from `high` on are too long."""
    if high < np.inf:
        return 0.5 * (step + high)
    # Where the slope, taken as linear, is zero, within bounds.
    fall = 1.0 - trial_slope / slope
    return step * (min(max(1.0 / fall, 2.0), FARTHEST_STEP) if fall > 0.0 else FARTHEST_STEP)
