"""Compiled value and gradient of a dense input-convex potential, for the reference without torch.

The parameters are stored in `theta` one after the other: for each hidden layer its `V_k (h_k, d)`, then each layer's
`b_k (h_k)`, then `W_k (h_k, h_{k−1})` from the second layer on, `w (h_L)`, and `v (d)`.
"""

from __future__ import annotations

import math

from relaxon.solvers.kernels.compiled import kernel


@kernel(forceinline=True)
def softplus(t, beta):  # type: ignore[no-untyped-def]
    """Return `log(1 + e^{βt})/β` without overflow."""
    s = beta * t
    return (max(s, 0.0) + math.log1p(math.exp(-abs(s)))) / beta


@kernel()
def potential_run(start, stop, y, theta, widths, constants, work, values, proximal):  # type: ignore[no-untyped-def]
    """Write `values[n] ← ψ(y_n)` and `proximal[n] ← ∇ψ(y_n)` for rows `start … stop − 1` of `y (rows, d)`.

    `widths` are the hidden layers'; `constants` are β, α, scale, offset. `work (rows, 2, layers, widest)` holds the
    arguments `a_k` of the softplus units, and `z_k` on the way up, `∂ψ/∂z_k` on the way down.
    """
    d, layers = y.shape[1], len(widths)
    beta, alpha, scale, offset = constants[0], constants[1], constants[2], constants[3]
    units = 0
    for k in range(layers):
        units += widths[k]
    for n in range(start, stop):
        arguments, hidden = work[n, 0], work[n, 1]
        reads, biases, carries = 0, units * d, units * (d + 1)
        value = 0.0
        for k in range(layers):
            for j in range(widths[k]):
                a = theta[biases + j]
                for i in range(d):
                    a += theta[reads + j * d + i] * (y[n, i] - offset) / scale
                if k > 0:
                    for i in range(widths[k - 1]):
                        a += theta[carries + j * widths[k - 1] + i] * hidden[k - 1, i]
                arguments[k, j] = a
                hidden[k, j] = softplus(a, beta)
            reads += widths[k] * d
            biases += widths[k]
            if k > 0:
                carries += widths[k] * widths[k - 1]
        last = widths[layers - 1]
        for j in range(last):
            value += theta[carries + j] * hidden[layers - 1, j]
            hidden[layers - 1, j] = theta[carries + j]
        shift = 0.0
        for i in range(d):
            z = (y[n, i] - offset) / scale
            value += theta[carries + last + i] * z + alpha * z * z
            shift += offset * y[n, i]
            proximal[n, i] = theta[carries + last + i] + 2.0 * alpha * z
        values[n] = scale * scale * value + shift
        for k in range(layers - 1, -1, -1):
            reads -= widths[k] * d
            if k > 0:
                carries -= widths[k] * widths[k - 1]
                for i in range(widths[k - 1]):
                    hidden[k - 1, i] = 0.0
            for j in range(widths[k]):
                slope = hidden[k, j] / (1.0 + math.exp(-beta * arguments[k, j]))
                for i in range(d):
                    proximal[n, i] += slope * theta[reads + j * d + i]
                if k > 0:
                    for i in range(widths[k - 1]):
                        hidden[k - 1, i] += slope * theta[carries + j * widths[k - 1] + i]
        for i in range(d):
            proximal[n, i] = scale * proximal[n, i] + offset


@kernel()
def gradient_step(matrix, x, observation, weight, misfit, y):  # type: ignore[no-untyped-def]
    """Write `y ← x − weight Aᵀ(A x − b)` for one signal; `misfit` is work space of the shape of b."""
    m, n = matrix.shape
    for i in range(n):
        y[i] = x[i]
    for r in range(m):
        total = -observation[r]
        for i in range(n):
            total += matrix[r, i] * x[i]
        misfit[r] = weight * total
    for r in range(m):
        for i in range(n):
            y[i] -= matrix[r, i] * misfit[r]
