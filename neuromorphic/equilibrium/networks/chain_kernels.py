"""Compiled elementwise work of a chain's steps, in one pass each: moves and their sums, sigmoids, softmax errors.

Complex arrays of `batch` rows are stored as two real planes `(2·batch, …)`, the imaginary one last.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from relaxon.solvers.kernels.compiled import part, plain

LOG2E = np.float32(1 / math.log(2))
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(math.log(2) - 0.693359375)
PI_HIGH, PI_LOW = np.float32(3.140625), np.float32(math.pi - 3.140625)
"""π and log 2 in two parts, of which a whole multiple of the first is exact."""
INVERSE_PI = np.float32(1 / math.pi)
LARGEST = np.float32(40.0)
"""Exponents are limited to it, above which `exp(−z)²` would overflow."""
BIAS, MANTISSA = np.int32(127), np.int32(23)
MAGNITUDE = {4: np.int32(0x7FFFFFFF), 8: np.int64(0x7FFFFFFFFFFFFFFF)}
"""All bits of a number but its sign, by its bytes."""


def _fit(function: Any, degree: int, half: float) -> tuple[np.float32, ...]:
    """Return the coefficients, from the constant on, of the interpolation of `function` at Chebyshev's points."""
    series = np.polynomial.Chebyshev.interpolate(function, degree, [-half, half])
    return tuple(np.float32(c) for c in series.convert(kind=np.polynomial.Polynomial).coef)


E0, E1, E2, E3, E4, E5, E6 = _fit(np.exp, 6, math.log(2) / 2)
C0, _, C2, _, C4, _, C6, _, C8, _, C10 = _fit(np.cos, 10, math.pi / 2)
S0, _, S2, _, S4, _, S6, _, S8 = _fit(lambda x: np.sinc(x / math.pi), 8, math.pi / 2)
ONE, TWO, HALF = np.float32(1), np.float32(2), np.float32(0.5)


@intrinsic
def _float_of_bits(typing: Any, bits: Any) -> Any:
    """Return the float32 with the bits of an int32, which Numba has no name for."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return (types.float32(bits), build) if bits == types.int32 else None


float_of_bits: Any = _float_of_bits
"""As kernels call it: with the bits alone."""


@part
def exponential(x):  # type: ignore[no-untyped-def]
    """Return `e^x` of a float32 within ±40, to a relative error of 2e-7, without a branch or a call."""
    n = np.rint(x * LOG2E)
    f = (x - n * LN2_HIGH) - n * LN2_LOW
    power = E0 + f * (E1 + f * (E2 + f * (E3 + f * (E4 + f * (E5 + f * E6)))))
    return power * float_of_bits(np.int32((np.int32(n) + BIAS) << MANTISSA))


@plain
def sigmoid_planes(start, stop, planes, rates):  # type: ignore[no-untyped-def]
    """Write `1/(1 + e^{−z})` for rows `start … stop − 1` of complex z; float32 planes `(2·batch, units)`."""
    batch = planes.shape[0] // 2
    for row in range(start, stop):
        a, b = planes[row], planes[batch + row]
        real, imaginary = rates[row], rates[batch + row]
        for i in range(a.size):
            e = exponential(min(max(-a[i], -LARGEST), LARGEST))
            n = np.rint(b[i] * INVERSE_PI)
            y = (b[i] - n * PI_HIGH) - n * PI_LOW
            # (−1)^n, as both functions change their sign after half a turn.
            half = n * HALF
            e *= ONE - TWO * abs(n - TWO * np.rint(half - np.float32(0.25)))
            s = y * y
            cosine = e * (C0 + s * (C2 + s * (C4 + s * (C6 + s * (C8 + s * C10)))))
            sine = e * y * (S0 + s * (S2 + s * (S4 + s * (S6 + s * S8))))
            p = ONE + cosine
            d = ONE / (p * p + sine * sine)
            real[i] = p * d
            imaginary[i] = sine * d


@plain
def measure_moves(start, stop, block, words, turn, magnitude, first, sums, largest):  # type: ignore[no-untyped-def]
    """Write the moves from a layer's states to its proposals, and sum what Anderson's mixing asks for.

    `block` `(6, rows, units)` holds states, rates, two proposals and two moves, of which those at `turn` are of now.
    Each row's `Σ change·move` and `Σ change²` are added to `sums`, and its largest `|move|` is raised in `largest` as
    the integer of its bits, which are ordered as the numbers are; those of NaN come last. `words` is `block` as
    integers. Where `first`, both start at 0.
    """
    for row in range(start, stop):
        to, at = block[2 + turn, row], block[0, row]
        now, before, bits = block[4 + turn, row], block[5 - turn, row], words[4 + turn, row]
        along = at[0] - at[0]
        square = along
        for i in range(now.size):
            move = to[i] - at[i]
            change = move - before[i]
            along += change * move
            square += change * change
            now[i] = move
        high = magnitude & 0 if first else largest[row]
        for i in range(bits.size):
            high = max(high, bits[i] & magnitude)
        largest[row] = high
        sums[row, 0] = along if first else sums[row, 0] + along
        sums[row, 1] = square if first else sums[row, 1] + square


@plain
def mix_moves(start, stop, block, turn, batch, mixed, sums):  # type: ignore[no-untyped-def]
    """Write the states of samples `start … stop − 1`: the proposal plus γ times the way back to the last one.

    `γ = Σ change·move / Σ change²` over the planes of a sample; 0 unless `mixed`.
    """
    for sample in range(start, stop):
        along = sums[sample, 0] - sums[sample, 0]
        square = along
        for row in range(sample, block.shape[1], batch):
            along += sums[row, 0]
            square += sums[row, 1]
        share = along / square if mixed and square > 0 else square - square
        for row in range(sample, block.shape[1], batch):
            at, now, before = block[0, row], block[2 + turn, row], block[3 - turn, row]
            for i in range(at.size):
                at[i] = now[i] + share * (before[i] - now[i]) if mixed else now[i]


@plain
def softmax_errors(start, stop, logits, bias, target, beta):  # type: ignore[no-untyped-def]
    """Replace rows of logits by `β (softmax(logits + bias) − target)`; real, or complex in two planes.

    `beta` is `(batch, 2)`, real and imaginary part; the logits are complex if they have twice the rows of `target`.
    """
    batch, classes = target.shape
    planes = logits.shape[0] // batch
    zero = logits[0, 0] - logits[0, 0]
    for row in range(start, stop):
        z, beta_real, beta_imaginary = logits[row], beta[row, 0], beta[row, 1]
        highest = z[0] + bias[0]
        for k in range(classes):
            z[k] += bias[k]
            highest = max(highest, z[k])
        real, imaginary = zero, zero
        if planes == 1:
            for k in range(classes):
                z[k] = np.exp(z[k] - highest)
                real += z[k]
            for k in range(classes):
                z[k] = beta_real * (z[k] / real - target[row, k])
            continue
        w = logits[batch + row]
        for k in range(classes):
            e = np.exp(z[k] - highest)
            z[k], w[k] = e * np.cos(w[k]), e * np.sin(w[k])
            real += z[k]
            imaginary += w[k]
        d = real * real + imaginary * imaginary
        for k in range(classes):
            a = (z[k] * real + w[k] * imaginary) / d - target[row, k]
            b = (w[k] * real - z[k] * imaginary) / d
            z[k], w[k] = beta_real * a - beta_imaginary * b, beta_real * b + beta_imaginary * a
