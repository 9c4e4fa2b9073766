"""Compiled proximal steps of the logistic and softmax losses, by Newton's method, row by row."""

from __future__ import annotations

from math import exp, inf, log

from relaxon.solvers.kernels.compiled import part, plain

STEPS = 60
HALVINGS = 52
HINGE, LOGISTIC, SQUARED = 0, 1, 2
CLOSE = 1e-14
"""Newton stops where a step moves no output by more than this share of it, or of 1."""


@plain
def prox_logistic(m, sigma, out):  # type: ignore[no-untyped-def]
    """Write `argmin_z log(1 + e^{−z}) + ½ σ (z − m)²` for each entry: `m`, `out` (n,) float64.

    The root of `g(z) = σ (z − m) − 1/(1 + e^z)` lies in `[m, m + 1/σ]`; a Newton step that leaves what is left of that
    interval, or is longer than half the step before, is replaced by bisection.
    """
    for i in range(m.size):
        low, high = m[i], m[i] + 1.0 / sigma
        z = 0.5 * (low + high)
        last = high - low
        for _ in range(STEPS):
            e = exp(-abs(z))
            s = e / (1.0 + e) if z > 0.0 else 1.0 / (1.0 + e)
            g = sigma * (z - m[i]) - s
            if g > 0.0:
                high = z
            else:
                low = z
            new = z - g / (sigma + s * (1.0 - s))
            if new < low or new > high or abs(new - z) > 0.5 * last:
                new = 0.5 * (low + high)
            last = abs(new - z)
            z = new
            if last <= CLOSE * max(1.0, abs(z)):
                break
        out[i] = z


@part
def log_share(t, sigma):  # type: ignore[no-untyped-def]
    """Return the root of `e^x + σ x = t` by Newton's method from its right, where the steps cannot pass it."""
    x = log(t) if t > 1.0 else min(0.0, t / sigma)
    for _ in range(STEPS):
        e = exp(x)
        step = (e + sigma * x - t) / (e + sigma)
        x -= step
        if step <= CLOSE * max(1.0, abs(x)):
            break
    return x


@plain
def prox_softmax(a, labels, sigma, out):  # type: ignore[no-untyped-def]
    """Write `argmin_z log Σ e^{z_j} − z_y + ½ σ ‖z − a‖²` for each row: `a`, `out` (n, K) float64, `labels` (n,).

    With `L = log Σ e^{z_j}` and `x_j = z_j − L`, the optimum has `e^{x_j} + σ x_j = σ a_j + [y = j] − σ L`, which gives
    each `x_j(L)`, and `Σ e^{x_j} = 1`, whose left side is convex and falls with `L`: Newton's method from the left.
    """
    n, classes = a.shape
    for i in range(n):
        most = -inf
        for j in range(classes):
            most = max(most, sigma * a[i, j] + (1.0 if labels[i] == j else 0.0))
        level = (most - 1.0) / sigma
        for _ in range(STEPS):
            total, slope = -1.0, 0.0
            for j in range(classes):
                x = log_share(sigma * (a[i, j] - level) + (1.0 if labels[i] == j else 0.0), sigma)
                e = exp(x)
                out[i, j] = x + level
                total += e
                slope += sigma * e / (e + sigma)
            level += total / slope
            if total <= CLOSE * classes:
                break


@part
def slope_at(s, a, y, kind, sigma):  # type: ignore[no-untyped-def]
    """Return `−h'` of the worst margin, or the worst error, at the point that multiplier `s` leads to."""
    reach = 0.0
    for j in range(1, a.size):
        reach += max(abs(a[j]) - s / sigma, 0.0)
    if kind == SQUARED:
        return max(abs(a[0] - y) - s / sigma, 0.0) + reach
    margin = y * a[0] + s / sigma - reach
    if kind == HINGE:
        return 1.0 if margin < 1.0 else 0.0
    return 1.0 / (1.0 + exp(margin))


@plain
def prox_robust(a, y, kind, sigma, out):  # type: ignore[no-untyped-def]
    """Write `argmin ℓ_worst(z, r) + ½ σ ((z − a_0)² + ‖r − a_{1…}‖²)` for each row: `a`, `out` (n, 1 + d), `y` (n,).

    The optimum moves `z` by `s/σ` in the direction that lowers the loss and shrinks each `r_j` by `s/σ`, where `s` is
    the size of the loss's slope there, which falls as `s` grows: bisection. `kind` is `HINGE`, `LOGISTIC` or `SQUARED`.
    """
    n, width = a.shape
    for i in range(n):
        low, high = 0.0, 1.0
        if kind == SQUARED:
            high = slope_at(0.0, a[i], y[i], kind, sigma)
        for _ in range(HALVINGS):
            s = 0.5 * (low + high)
            if slope_at(s, a[i], y[i], kind, sigma) > s:
                low = s
            else:
                high = s
        s = 0.5 * (low + high)
        if kind == SQUARED:
            error = a[i, 0] - y[i]
            short = max(abs(error) - s / sigma, 0.0)
            out[i, 0] = y[i] + (short if error > 0.0 else -short)
        else:
            out[i, 0] = a[i, 0] + y[i] * s / sigma
        for j in range(1, width):
            short = max(abs(a[i, j]) - s / sigma, 0.0)
            out[i, j] = short if a[i, j] > 0.0 else -short
