"""The projected descent of a stage: L-BFGS on the hidden weights alone, with the outputs solved for at every point.

Along a line the sums `z = W x + b` are linear in the step, so that a line search passes over the features once for its
direction and once for the gradient at its end, however many steps it tries. Variable projection: Golub and Pereyra
1973. Arrays and `θ` are those of `kernels`; `z`, `dz`, `h` and `deltas` are `(J, n)`, in the order in which blocks are
passed.
"""

# Counts begin with NumPy's int64, for the sake of `FIRST`, and go on as Python's.
# mypy: disable-error-code="assignment"
from __future__ import annotations

import numpy as np

from relaxon.neuromorphic.boosting.stages.kernels import (
    BLOCK,
    FIRST,
    SUMS,
    add_dots,
    add_products,
    add_rows,
    solve_outputs,
    squares,
)
from relaxon.neuromorphic.boosting.stages.lbfgs_kernels import (
    ARMIJO,
    CURVATURE,
    LINE_STEPS,
    lengthen_step,
    remember,
    shorten_step,
    two_loop,
)
from relaxon.neuromorphic.boosting.stages.sigmoid_kernels import sigmoid
from relaxon.solvers.kernels.compiled import kernel, kernel_part


@kernel_part()
def find_sums(theta, x, n, units, places, rounded, z):  # type: ignore[no-untyped-def]
    """Compute `z ← W x + b` of `n` rows."""
    d = x.shape[0]
    for i in range(units * (d + 1)):
        rounded[i] = theta[i]
    low, block = FIRST, FIRST
    while low < n:
        at, count = places[block], min(BLOCK, n - low)
        for j in range(units):
            own = z[j, low : low + count]
            own[:] = rounded[units * d + j]
            add_rows(own, rounded, j * d, x, at, count)
        low += count
        block += 1


@kernel_part(fastmath=SUMS, error_model="numpy")
def find_value(  # type: ignore[no-untyped-def]
    theta, r, w, n, units, d, ridge, step, places, known, z, dz, h, weighted, gram, right
):
    """Return the objective at the sums `z + step · dz`, with activations in `h` and solved outputs in `theta`.

    It is infinite if there is no solution.
    """
    by = z.dtype.type(step)
    gram[:] = 0.0
    right[:] = 0.0
    low, block = FIRST, FIRST
    while low < n:
        count = min(BLOCK, n - low)
        for j in range(units):
            zj, dj, hj = z[j, low : low + count], dz[j, low : low + count], h[j, low : low + count]
            for i in range(count):
                hj[i] = sigmoid(zj[i] + by * dj[i])
        add_products(r, w, units, places[block], low, count, h, gram, right, weighted)
        low += count
        block += 1
    explained = solve_outputs(theta, units, d, r.shape[0], ridge, gram, right)
    if explained < 0.0:
        return np.inf
    left = known[0] - explained
    # Where all is explained, what is left of the difference is rounding.
    return 0.5 * ((0.0 if left < 0.0 else left) + ridge * squares(theta, FIRST, units * d))


@kernel_part(fastmath=SUMS, error_model="numpy")
def find_deltas(theta, r, w, n, units, d, places, h, dz, error, rounded, deltas):  # type: ignore[no-untyped-def]
    """Compute `deltas ← ∂L/∂z` at the outputs of `theta` and activations `h`; return its product with `dz`."""
    outputs, zero, one = r.shape[0], r.dtype.type(0), r.dtype.type(1)
    own, along, square = units * (d + 1), zero, zero
    last, slope = own + units * outputs, 0.0
    for i in range(own, theta.size):
        rounded[i] = theta[i]
    if units == 1:
        for k in range(outputs):
            along += rounded[own + k] * rounded[last + k]
            square += rounded[own + k] * rounded[own + k]
    low, block = FIRST, FIRST
    while low < n:
        at, count = places[block], min(BLOCK, n - low)
        wb = w[at : at + count]
        if units > 1:
            for k in range(outputs):
                e, rk, constant = error[k, :count], r[k, at : at + count], rounded[last + k]
                for i in range(count):
                    e[i] = constant - rk[i]
                for j in range(units):
                    hj, coefficient = h[j, low : low + count], rounded[own + j * outputs + k]
                    for i in range(count):
                        e[i] += coefficient * hj[i]
                for i in range(count):
                    e[i] *= wb[i]
        for j in range(units):
            hj, tj, dj = h[j, low : low + count], dz[j, low : low + count], deltas[j, low : low + count]
            dj[:] = zero
            total = zero
            if units == 1:
                # Σ_k C_k (c_k + C_k h − r_k) without the outputs one by one.
                add_rows(dj, rounded, own, r, at, count)
                for i in range(count):
                    dj[i] = wb[i] * (along + square * hj[i] - dj[i]) * (hj[i] * (one - hj[i]))
                    total += dj[i] * tj[i]
            else:
                for k in range(outputs):
                    e, coefficient = error[k, :count], rounded[own + j * outputs + k]
                    for i in range(count):
                        dj[i] += coefficient * e[i]
                for i in range(count):
                    dj[i] *= hj[i] * (one - hj[i])
                    total += dj[i] * tj[i]
            slope += total
        low += count
        block += 1
    return slope


@kernel_part(fastmath=SUMS)
def find_gradient(theta, x, n, units, ridge, places, deltas, grad):  # type: ignore[no-untyped-def]
    """Compute the gradient by `W` and `b` from `deltas`."""
    d = x.shape[0]
    grad[:] = 0.0
    low, block = FIRST, FIRST
    while low < n:
        at, count = places[block], min(BLOCK, n - low)
        for j in range(units):
            dj, total = deltas[j, low : low + count], x.dtype.type(0)
            for i in range(count):
                total += dj[i]
            grad[units * d + j] += total
            add_dots(dj, x, at, count, grad, j * d)
        low += count
        block += 1
    for i in range(units * d):
        grad[i] += ridge * theta[i]


@kernel(fastmath=SUMS)
def descend_projected(  # type: ignore[no-untyped-def]
    theta, x, r, w, n, units, ridge, iterations, tolerance, least_scale, places, known, h, error, delta, rounded,
    gram, right, grad, trial, trial_grad, direction, s, y, rho, alpha, z, dz, deltas, pairs,
):  # fmt: skip
    """Minimise by projection, as `descent_kernels.minimise`; return value, iterations and evaluations.

    `pairs` counts the `s`, `y`, `rho` there are from an earlier descent and says which is the oldest; then of this one.
    """
    d = x.shape[0]
    size, moved = s.shape[0], units * (d + 1)
    evaluations, done, value = 0, -1, 0.0
    stored, first, slope, step = pairs[0], pairs[1], 0.0, 0.0
    for i in range(theta.size):
        trial[i] = theta[i]
        direction[i] = 0.0
    dz[:] = x.dtype.type(0)
    # The first turn of the loop is the evaluation at the start, so that each function is called at one place.
    while done < iterations:
        starting = done < 0
        if not starting:
            two_loop(grad, moved, size, s, y, rho, first, stored, direction, alpha)
            slope, length = 0.0, 0.0
            for i in range(moved):
                slope += grad[i] * direction[i]
                length += grad[i] * grad[i]
            if not slope < 0.0 or (stored > 0 and -slope <= tolerance * value):
                break
            step = 1.0 if stored > 0 else min(1.0, 1.0 / np.sqrt(length))
        find_sums(theta if starting else direction, x, n, units, places, rounded, z if starting else dz)
        low, high, accepted, reached = 0.0, np.inf, False, value
        for attempt in range(LINE_STEPS + 1):
            if attempt == LINE_STEPS:
                # The search ended between brackets: go back to the last step that lowered the value enough.
                if not accepted or low == step:
                    break
                step = low
            for i in range(moved):
                trial[i] = theta[i] + step * direction[i]
            reached = find_value(trial, r, w, n, units, d, ridge, step, places, known, z, dz, h, delta, gram, right)
            evaluations += 1
            if not starting and attempt < LINE_STEPS and not reached <= value + ARMIJO * step * slope:
                high = step
                step = shorten_step(step, low, high, value, reached, slope)
                continue
            trial_slope = find_deltas(trial, r, w, n, units, d, places, h, dz, error, rounded, deltas)
            for i in range(units * d):
                trial_slope += ridge * trial[i] * direction[i]
            low = step
            accepted = True
            if starting or attempt == LINE_STEPS or trial_slope >= CURVATURE * slope:
                break
            step = lengthen_step(step, high, trial_slope, slope)
        if not accepted or not np.isfinite(reached):
            if starting:
                value = reached
            break
        find_gradient(trial, x, n, units, ridge, places, deltas, trial_grad)
        gained = value - reached
        value = reached
        if not starting:
            by = z.dtype.type(step)
            for j in range(units):
                for i in range(n):
                    z[j, i] += by * dz[j, i]
            stored, first = remember(theta, trial, grad, trial_grad, moved, size, s, y, rho, first, stored)
        # Element by element: an assignment of whole arrays compiles the message of its error, for seconds.
        for i in range(theta.size):
            theta[i] = trial[i]
            grad[i] = trial_grad[i]
        done += 1
        if not starting and gained <= tolerance * max(abs(value), least_scale):
            break
    pairs[0], pairs[1] = stored, first
    return value, max(done, 0), evaluations


@kernel(fastmath=SUMS)
def screen_starts(  # type: ignore[no-untyped-def]
    starts, values, x, r, w, n, units, ridge, places, known, h, error, delta, rounded, gram, right, z, dz
):
    """Set `values` to the projected objective at each row of `starts`, which receive the solved outputs."""
    dz[:] = x.dtype.type(0)
    for index in range(len(starts)):
        find_sums(starts[index], x, n, units, places, rounded, z)
        values[index] = find_value(
            starts[index], r, w, n, units, x.shape[0], ridge, 0.0, places, known, z, dz, h, delta, gram, right,
        )  # fmt: skip


@kernel(fastmath=SUMS)
def projected_objective(  # type: ignore[no-untyped-def]
    theta, x, r, w, n, units, ridge, places, known, h, error, delta, rounded, gram, right, grad, z, dz,
    deltas,
):  # fmt: skip
    """Return the objective at `theta`, which receives the solved outputs, with its gradient by `W`, `b` in `grad`."""
    dz[:] = x.dtype.type(0)
    find_sums(theta, x, n, units, places, rounded, z)
    value = find_value(theta, r, w, n, units, x.shape[0], ridge, 0.0, places, known, z, dz, h, delta, gram, right)
    find_deltas(theta, r, w, n, units, x.shape[0], places, h, dz, error, rounded, deltas)
    find_gradient(theta, x, n, units, ridge, places, deltas, grad)
    return value
