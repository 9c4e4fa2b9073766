"""Compiled passes that fit a boosting stage: sigmoid, objective with gradient, and L-BFGS around them.

A stage is a network of `J` logistic units with `K` outputs, fitted to targets `r` by weighted least squares:

    f(x) = Cᵀ σ(W x + b) + c
    L(θ) = ½ Σ_i w_i ‖r_i − f(x_i)‖² + ½ λ (‖W‖² + ‖C‖²),   Σ w_i = 1

`θ` is one vector: `W` (J, d) row by row, `b` (J,), `C` (J, K) row by row, `c` (K,). Arrays are feature-major, so that
the inner loops run along rows of memory: `x` (d, n), `r` (K, n), `h` (J, n); all float64, C-contiguous.

With `project`, the optimiser moves `W` and `b` only, and `C`, `c` are the least-squares solution for them (variable
projection: Golub & Pereyra 1973). The gradient of that reduced objective is the partial gradient of `L` at the solved
`C`, `c`, as `∂L/∂C = 0` there. Without `project` all of `θ` moves together, as in the published algorithm.
"""

# Counts begin with NumPy's int64, for the sake of `FIRST`, and go on as Python's.
# mypy: disable-error-code="assignment"
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.compiled import kernel, kernel_part
from relaxon.solvers.threads import divide

Array = NDArray[np.float64]
BLOCK = 512
"""Rows a block: its activations stay in the first-level cache, its features in the second."""

FIRST = np.int64(0)
"""No literal: what is called with one is compiled once more."""

# Sums may be reordered, so that they vectorise, and products fused; NaN and infinity keep their meaning.
SUMS = {"reassoc", "contract", "nsz"}
# The exponential's range reduction must keep its order: only fused products.
ORDERED = {"contract"}

LOG2E = 1.4426950408889634
LN2_HIGH = 0.6931471803691238
LN2_LOW = 1.9082149292705877e-10
ROUND = 6755399441055744.0
"""1.5 · 2⁵²: adding it rounds to an integer, which the low bits of the sum then hold."""
EXPONENT_SHIFT = 52
EXPONENT_BIAS = 1023 << 52
LARGEST = 700.0
"""|z| beyond which σ is 0 or 1 to the last bit and exp would leave the range of normal numbers."""

ARMIJO, CURVATURE = 1e-4, 0.9
"""Wolfe constants as in L-BFGS-B (Zhu et al. 1997)."""
LINE_STEPS = 25
LEAST_CURVATURE = 2.2e-16
JITTER = 1e-12
"""Ridge on the projected solve, relative to the Gram matrix's mean diagonal: two equal units still have a solution."""


@kernel(fastmath=ORDERED, forceinline=True)
def sigmoid(z, scale, bits):  # type: ignore[no-untyped-def]
    """`z ← 1/(1 + e^{−z})` in place. `scale` is scratch of the size of `z`, `bits` its int64 view.

    e^t = 2^k e^s with |s| ≤ ½ ln 2; e^s by its Taylor polynomial of degree 12 (truncation below 2e-16).
    """
    n = z.size
    for i in range(n):
        t = min(max(-z[i], -LARGEST), LARGEST)
        shifted = t * LOG2E + ROUND
        scale[i] = shifted
        k = shifted - ROUND
        s = (t - k * LN2_HIGH) - k * LN2_LOW
        p = 2.08767569878681e-09 * s + 2.505210838544172e-08
        p = p * s + 2.755731922398589e-07
        p = p * s + 2.7557319223985893e-06
        p = p * s + 2.48015873015873e-05
        p = p * s + 1.984126984126984e-04
        p = p * s + 1.388888888888889e-03
        p = p * s + 8.333333333333333e-03
        p = p * s + 4.1666666666666664e-02
        p = p * s + 1.6666666666666666e-01
        p = p * s + 0.5
        p = p * s + 1.0
        z[i] = p * s + 1.0
    for i in range(n):
        bits[i] = (bits[i] << EXPONENT_SHIFT) + EXPONENT_BIAS
    for i in range(n):
        z[i] = 1.0 / (1.0 + z[i] * scale[i])


@kernel_part(fastmath=SUMS)
def activate_unit(theta, x, units, j, low, high, z, scale, bits):  # type: ignore[no-untyped-def]
    """`z ← σ(W_j x + b_j)` on the rows from `low` to `high`."""
    d = x.shape[0]
    count = high - low
    z[:] = theta[units * d + j]
    at = j * d
    f = 0
    while f + 4 <= d:
        w0, w1, w2, w3 = theta[at + f], theta[at + f + 1], theta[at + f + 2], theta[at + f + 3]
        x0, x1, x2, x3 = x[f, low:high], x[f + 1, low:high], x[f + 2, low:high], x[f + 3, low:high]
        for i in range(count):
            z[i] += w0 * x0[i] + w1 * x1[i] + w2 * x2[i] + w3 * x3[i]
        f += 4
    while f < d:
        w0, x0 = theta[at + f], x[f, low:high]
        for i in range(count):
            z[i] += w0 * x0[i]
        f += 1
    sigmoid(z, scale[:count], bits[:count])


@kernel_part()
def activate(theta, x, units, low, high, h, scale, bits):  # type: ignore[no-untyped-def]
    """`h[j, low:high] ← σ(W_j x + b_j)` for all units of `theta`."""
    for j in range(units):
        activate_unit(theta, x, units, j, low, high, h[j, low:high], scale, bits)


@kernel_part(fastmath=SUMS)
def solve_outputs(theta, r, w, units, d, ridge, h, gram, right, weighted):  # type: ignore[no-untyped-def]
    """`C`, `c` of `theta` ← the ridge solution for the activations `h`, by Cholesky; False where there is none."""
    outputs, n = r.shape
    gram[:] = 0.0
    right[:] = 0.0
    low = FIRST
    while low < n:
        high = min(low + BLOCK, n)
        count = high - low
        wb, part = w[low:high], weighted[:count]
        for j in range(units + 1):
            if j < units:
                hj = h[j, low:high]
                for i in range(count):
                    part[i] = wb[i] * hj[i]
            else:
                for i in range(count):
                    part[i] = wb[i]
            for m in range(j):
                hm, total = h[m, low:high], 0.0
                for i in range(count):
                    total += part[i] * hm[i]
                gram[j, m] += total
            total = 0.0
            if j < units:
                hj = h[j, low:high]
                for i in range(count):
                    total += part[i] * hj[i]
            else:
                for i in range(count):
                    total += part[i]
            gram[j, j] += total
            for k in range(outputs):
                rk, total = r[k, low:high], 0.0
                for i in range(count):
                    total += part[i] * rk[i]
                right[j, k] += total
        low = high
    size, trace = units + 1, 0.0
    for j in range(size):
        trace += gram[j, j]
    for j in range(size):
        gram[j, j] += (ridge if j < units else 0.0) + JITTER * trace / size
    for j in range(size):
        for m in range(j + 1):
            total = gram[j, m]
            for q in range(m):
                total -= gram[j, q] * gram[m, q]
            if j == m:
                if not total > 0.0:
                    return False
                gram[j, j] = np.sqrt(total)
            else:
                gram[j, m] = total / gram[m, m]
    at = units * (d + 1)
    for k in range(outputs):
        for j in range(size):
            total = right[j, k]
            for m in range(j):
                total -= gram[j, m] * right[m, k]
            right[j, k] = total / gram[j, j]
        for j in range(size - 1, -1, -1):
            total = right[j, k]
            for m in range(j + 1, size):
                total -= gram[m, j] * right[m, k]
            right[j, k] = total / gram[j, j]
        for j in range(size):
            theta[at + j * outputs + k] = right[j, k]
    return True


@kernel_part(fastmath=SUMS)
def differentiate(theta, x, r, w, units, low, high, h, error, delta, grad):  # type: ignore[no-untyped-def]
    """Add the block's share to `grad` (of all of `theta`); returns its share of the objective without the ridge."""
    d, outputs, count = x.shape[0], r.shape[0], high - low
    at = units * (d + 1)
    last = at + units * outputs
    wb, value = w[low:high], 0.0
    for k in range(outputs):
        e, rk = error[k, :count], r[k, low:high]
        constant = theta[last + k]
        for i in range(count):
            e[i] = constant - rk[i]
        for j in range(units):
            hj, coefficient = h[j, low:high], theta[at + j * outputs + k]
            for i in range(count):
                e[i] += coefficient * hj[i]
        total = 0.0
        for i in range(count):
            weighted = wb[i] * e[i]
            value += weighted * e[i]
            e[i] = weighted
            total += weighted
        grad[last + k] += total
    for j in range(units):
        hj, dj = h[j, low:high], delta[:count]
        dj[:] = 0.0
        for k in range(outputs):
            e, coefficient, total = error[k, :count], theta[at + j * outputs + k], 0.0
            for i in range(count):
                dj[i] += coefficient * e[i]
                total += e[i] * hj[i]
            grad[at + j * outputs + k] += total
        total = 0.0
        for i in range(count):
            dj[i] *= hj[i] * (1.0 - hj[i])
            total += dj[i]
        grad[units * d + j] += total
        f = 0
        while f + 4 <= d:
            x0, x1, x2, x3 = x[f, low:high], x[f + 1, low:high], x[f + 2, low:high], x[f + 3, low:high]
            s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
            for i in range(count):
                s0 += dj[i] * x0[i]
                s1 += dj[i] * x1[i]
                s2 += dj[i] * x2[i]
                s3 += dj[i] * x3[i]
            grad[j * d + f] += s0
            grad[j * d + f + 1] += s1
            grad[j * d + f + 2] += s2
            grad[j * d + f + 3] += s3
            f += 4
        while f < d:
            x0, s0 = x[f, low:high], 0.0
            for i in range(count):
                s0 += dj[i] * x0[i]
            grad[j * d + f] += s0
            f += 1
    return 0.5 * value


@kernel(forceinline=True)
def objective(theta, x, r, w, units, ridge, project, h, scale, bits, error, delta, gram, right, grad):  # type: ignore[no-untyped-def]
    """`L(θ)`, with its gradient in `grad`; `project` first puts the solved `C`, `c` into `theta`.

    The gradient is that of all of `θ`; under `project` its last part is zero but for rounding. Infinite where the
    projected solve has no solution. The buffers are those of `buffers`.
    """
    d, n = x.shape
    outputs = r.shape[0]
    at = units * (d + 1)
    grad[:] = 0.0
    value = 0.0
    # One loop for both passes of `project`: each function is called at one place, and so compiled once.
    for turn in range(2 if project else 1):
        if turn == 1 and not solve_outputs(theta, r, w, units, d, ridge, h, gram, right, delta):
            return np.inf
        low = FIRST
        while low < n:
            high = min(low + BLOCK, n)
            if turn == 0:
                activate(theta, x, units, low, high, h, scale, bits)
            if turn == 1 or not project:
                value += differentiate(theta, x, r, w, units, low, high, h, error, delta, grad)
            low = high
    for i in range(units * d):
        value += 0.5 * ridge * theta[i] * theta[i]
        grad[i] += ridge * theta[i]
    for i in range(at, at + units * outputs):
        value += 0.5 * ridge * theta[i] * theta[i]
        grad[i] += ridge * theta[i]
    return value


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
    theta: Array, x: Array, r: Array, w: Array, units: int, ridge: float, project: bool, iterations: int,
    tolerance: float, least_scale: float, *scratch: Any,
) -> tuple[float, int, int]:  # fmt: skip
    """Move `theta` to a minimum of the stage objective by L-BFGS; returns the value, iterations and evaluations.

    Stops after `iterations`, or where an iteration lowers the value by less than
    `tolerance · max(value, least_scale)`. A step satisfies the weak Wolfe conditions, by bracketing. `scratch` are the
    arrays of `buffers`.
    """
    value = objective(theta, x, r, w, units, ridge, project, *scratch[:8])
    found: tuple[float, int, int] = descend(
        theta, value, x, r, w, units, ridge, project, iterations, tolerance, least_scale, *scratch
    )
    return found


@kernel()
def descend(  # type: ignore[no-untyped-def]
    theta, value, x, r, w, units, ridge, project, iterations, tolerance, least_scale,
    h, scale, bits, error, delta, gram, right, grad, trial, trial_grad, direction, s, y, rho, alpha,
):  # fmt: skip
    """`minimise` from a `theta` whose objective is `value`, with its gradient in `grad`."""
    size, moved = s.shape[0], units * (x.shape[0] + 1) if project else theta.size
    evaluations, done, stored, first = 1, 0, FIRST, FIRST
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
                trial, x, r, w, units, ridge, project, h, scale, bits, error, delta, gram, right, trial_grad
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
                step = 2.0 * step if high == np.inf else 0.5 * (low + high)
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
    return value, done, evaluations


def buffers(features: int, rows: int, units: int, outputs: int, memory: int) -> tuple[NDArray[Any], ...]:
    """The scratch arrays of `minimise`, in the order of its arguments; made once and used by every stage."""
    length = units * (features + 1) + (units + 1) * outputs
    scale = np.empty(BLOCK)
    return (
        np.empty((units, rows)), scale, scale.view(np.int64), np.empty((outputs, BLOCK)), np.empty(BLOCK),
        np.empty((units + 1, units + 1)), np.empty((units + 1, outputs)), np.empty(length), np.empty(length),
        np.empty(length), np.empty(length), np.empty((memory, length)), np.empty((memory, length)),
        np.empty(memory), np.empty(memory),
    )  # fmt: skip


def minimise_batch(
    starts: Array, values: Array, counts: NDArray[np.int64], x: Array, r: Array, w: Array, units: int, *rest: Any
) -> None:
    """`minimise` from each row of `starts`, shared among threads; each row's outcome does not depend on the others.

    `rest` is `ridge, project, iterations, tolerance, least_scale` of `minimise` and the pairs that it remembers.
    """
    divide(_minimise_run, len(starts), starts, values, counts, x, r, w, units, *rest)


def _minimise_run(
    first: int, past: int, starts: Array, values: Array, counts: NDArray[np.int64], x: Array, r: Array, w: Array,
    units: int, ridge: float, project: bool, iterations: int, tolerance: float, least_scale: float, memory: int,
) -> None:  # fmt: skip
    scratch = buffers(x.shape[0], x.shape[1], units, r.shape[0], memory)
    for index in range(first, past):
        values[index], *counts[index] = minimise(
            starts[index], x, r, w, units, ridge, project, iterations, tolerance, least_scale, *scratch
        )


def screen(
    starts: Array, values: Array, x: Array, r: Array, w: Array, units: int, ridge: float, scratch: tuple[Any, ...]
) -> None:
    """The projected objective at each row of `starts`: which of them is worth following."""
    for index, start in enumerate(starts):
        values[index] = objective(start, x, r, w, units, ridge, True, *scratch[:8])


@kernel(fastmath=SUMS)
def stage_outputs(theta, x, units, outputs):  # type: ignore[no-untyped-def]
    """`f(x)` of a stage on all rows: `(K, n)`."""
    d, n = x.shape
    at = units * (d + 1)
    last = at + units * outputs
    f = np.empty((outputs, n))
    buffer, scale = np.empty(BLOCK), np.empty(BLOCK)
    bits = scale.view(np.int64)
    low = FIRST
    while low < n:
        high = min(low + BLOCK, n)
        count = high - low
        h = buffer[:count]
        for k in range(outputs):
            f[k, low:high] = theta[last + k]
        for j in range(units):
            activate_unit(theta, x, units, j, low, high, h, scale, bits)
            for k in range(outputs):
                fk, coefficient = f[k, low:high], theta[at + j * outputs + k]
                for i in range(count):
                    fk[i] += coefficient * h[i]
        low = high
    return f
