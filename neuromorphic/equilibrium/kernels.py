"""Compiled relaxation of a layered network with a softmax readout, separately for each sample and nudge.

Layers are stored one after the other in `u (units,)`. With `r = σ(4u − 2)`, the field of layer n is
`W_n r_{n−1} + B_{n+1}ᵀ r_{n+1} + drive_n − u_n`, plus `−β Vᵀ (softmax(V r + c) − y)` in the last layer. A complex state
has a real and an imaginary plane: real weights act on each separately; only φ, the softmax and β couple them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.compiled import part, plain
from relaxon.solvers.kernels.threads import divide

SLOPE, OFFSET = 4.0, 2.0


@part
def rates(u, r):  # type: ignore[no-untyped-def]
    """Write `r ← σ(4u − 2)`; `u` and `r` are (planes, units)."""
    one = u.dtype.type(1)
    if u.shape[0] == 1:
        for i in range(u.shape[1]):
            r[0, i] = one / (one + np.exp(-(SLOPE * u[0, i] - OFFSET)))
        return
    for i in range(u.shape[1]):
        # 1/(1 + e^{−z}), e^{−z} = e (cos b − i sin b).
        e = np.exp(-(SLOPE * u[0, i] - OFFSET))
        b = SLOPE * u[1, i]
        cosine, sine = e * np.cos(b), e * np.sin(b)
        p = one + cosine
        d = one / (p * p + sine * sine)
        r[0, i], r[1, i] = p * d, sine * d


@part
def pull(r, drive, up, down, sizes, g):  # type: ignore[no-untyped-def]
    """Write `g ← W r + Bᵀ r + drive`; `up` and `down` are the matrices `(h_{n+1}, h_n)` of all pairs, row by row."""
    for plane in range(r.shape[0]):
        for i in range(r.shape[1]):
            g[plane, i] = drive[i] if plane == 0 else drive[i] - drive[i]
        low, place = 0, 0
        for n in range(len(sizes) - 1):
            below, above = sizes[n], sizes[n + 1]
            high = low + below
            r_low, g_low = r[plane, low:high], g[plane, low:high]
            for i in range(above):
                row, back = up[place : place + below], down[place : place + below]
                rate = r[plane, high + i]
                total = rate - rate
                for j in range(below):
                    total += row[j] * r_low[j]
                for j in range(below):
                    g_low[j] += back[j] * rate
                g[plane, high + i] += total
                place += below
            low = high


@part
def error(r, readout, bias, target, z):  # type: ignore[no-untyped-def]
    """Write `z ← softmax(V r + c) − y`, `(planes, classes)`; `r` is the last layer, `(planes, units)`."""
    planes, classes = z.shape
    for plane in range(planes):
        for k in range(classes):
            total = bias[k] if plane == 0 else bias[k] - bias[k]
            for j in range(r.shape[1]):
                total += readout[k, j] * r[plane, j]
            z[plane, k] = total
    largest = z[0].max()
    if planes == 1:
        total = z[0, 0] - z[0, 0]
        for k in range(classes):
            z[0, k] = np.exp(z[0, k] - largest)
            total += z[0, k]
        for k in range(classes):
            z[0, k] = z[0, k] / total - target[k]
        return
    real = z[0, 0] - z[0, 0]
    imaginary = real
    for k in range(classes):
        e, b = np.exp(z[0, k] - largest), z[1, k]
        z[0, k], z[1, k] = e * np.cos(b), e * np.sin(b)
        real += z[0, k]
        imaginary += z[1, k]
    d = real * real + imaginary * imaginary
    for k in range(classes):
        a, b = z[0, k], z[1, k]
        z[0, k] = (a * real + b * imaginary) / d - target[k]
        z[1, k] = (b * real - a * imaginary) / d


@part
def relax_one(u, drive, up, down, sizes, readout, bias, target, beta, tolerance, steps, work, z):  # type: ignore[no-untyped-def]
    """Relax `u (planes, units)` in place under the nudge `beta (2,)`; return the residual and the number of steps."""
    planes, units = u.shape
    last = units - sizes[-1]
    r, g = work[0, :planes], work[1, :planes]
    nudged = beta[0] != 0 or beta[1] != 0
    taken = 0
    while True:
        rates(u, r)
        pull(r, drive, up, down, sizes, g)
        if nudged:
            error(r[:, last:], readout, bias, target, z)
            for k in range(z.shape[1]):
                a = beta[0] * z[0, k]
                b = beta[1] * z[0, k]
                if planes == 2:
                    a -= beta[1] * z[1, k]
                    b += beta[0] * z[1, k]
                for j in range(sizes[-1]):
                    g[0, last + j] -= a * readout[k, j]
                if planes == 2:
                    for j in range(sizes[-1]):
                        g[1, last + j] -= b * readout[k, j]
        residual = u[0, 0] - u[0, 0]
        for plane in range(planes):
            for i in range(units):
                g[plane, i] -= u[plane, i]
                residual = max(residual, abs(g[plane, i]))
        # With NaN both comparisons are false, so the loop ends after the last step and not as converged.
        if residual <= tolerance or taken == steps:
            return residual, taken
        for plane in range(planes):
            for i in range(units):
                u[plane, i] += g[plane, i]
        taken += 1


@plain
def relax_jobs(start, stop, u, drive, up, down, sizes, readout, bias, target, beta, tolerance, steps, residual, taken):  # type: ignore[no-untyped-def]
    """Relax `u[sample, point]` for the pairs `start … stop − 1` of sample and point, in C order."""
    _, points, planes, units = u.shape
    work = np.empty((2, planes, units), u.dtype)
    z = np.empty((planes, readout.shape[0]), u.dtype)
    for job in range(start, stop):
        sample = job // points
        point = job - sample * points
        found, count = relax_one(
            *(u[sample, point], drive[sample], up, down, sizes, readout, bias, target[sample], beta[point]),
            *(tolerance, steps, work, z),
        )
        residual[sample, point] = found
        taken[sample, point] = count


def relax(u: NDArray[Any], *args: Any) -> None:
    """Relax `u (samples, points, planes, units)` in place, with samples and points divided among threads.

    The other arguments are `drive (samples, units)`, the input and the biases; `up` and `down`, the matrices of all
    pairs; `sizes`, `readout`, `bias`; `target (samples, classes)`, one-hot; `beta (points, 2)`, the real and the
    imaginary part of each nudge; `tolerance`, `steps`; and `residual`, `taken (samples, points)`, which are written.
    """
    divide(relax_jobs, u.shape[0] * u.shape[1], u, *args)
