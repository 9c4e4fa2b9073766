"""The logistic function of a number, in double and in single precision, and `exp`, for loops that vectorise.

With −z log₂ e = k + f, k whole and |f| ≤ ½, is e^{−z} = 2^k (q + f p)/(q − f p), where f p/q approximates
tanh(½ f ln 2), so that σ(z) takes one division. `p` and `q` are polynomials in f², interpolated at the zeros of a
Chebyshev polynomial: the relative error of the quotient is 9e-19 in double and 1e-10 in single precision, well below
rounding. 2^k is put together from the bits of an integer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from relaxon.solvers.kernels.compiled import kernel

ORDERED = {"contract"}
"""The range reduction must keep its order: only fused products."""

LOG2E, LOG2E_LOW = 1.4426950408889634, 2.0355273740931033e-17
NEAR_LOG2E = 1.4426950408889632
"""The number before `LOG2E`: products with two constants are two operations, of which each can be fused with a sum."""
ROUND = 6755399441055744.0
"""1.5 · 2⁵²: adding it rounds to an integer, which the low bits of the sum then hold."""
LARGEST_POWER, LARGEST_POWER_SINGLE = 1000.0, np.float32(100.0)
"""|t| up to which `1/(1 + 2^t)` is computed: beyond it 2^t, or products with it, would not be normal numbers."""
LARGEST = 700.0
"""|z| beyond which σ is 0 or 1 to the last bit and exp would leave the range of normal numbers."""
P0, P1, P2 = 0.34657359027997264547, 0.0046247909923900672327, 5.2866829561414059087e-6
Q1, Q2 = 0.053382077219586179758, 0.00022892664520304956724

SINGLE = np.float32
LOG2E_SINGLE, LOG2E_LOW_SINGLE = SINGLE(LOG2E), SINGLE(1.925963033500011e-8)
NEAR_LOG2E_SINGLE = SINGLE(1.4426949)
ROUND_SINGLE = SINGLE(12582912.0)
"""1.5 · 2²³."""
LARGEST_SINGLE = SINGLE(30.0)
"""Beyond it σ is 1 to the last bit, or so small that products of it would be subnormal numbers, which are slow."""
ONE = SINGLE(1)
P0_SINGLE, P1_SINGLE, Q1_SINGLE = SINGLE(0.34657358963), SINGLE(0.00277104147434), SINGLE(0.0480332266163)


def read_power(shifted: Any) -> Any:
    """Return 2^k for the sum of an integer k and `ROUND`, or `ROUND_SINGLE`, in its precision."""
    k = int(shifted - (ROUND if isinstance(shifted, float) else ROUND_SINGLE))
    return type(shifted)(2.0**k)


@intrinsic
def _shift_bits(typing, shifted):  # type: ignore[no-untyped-def]
    digits, bias = (52, 1023) if shifted == types.float64 else (23, 127)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        whole = ir.IntType(shifted.bitwidth)
        bits = builder.shl(builder.bitcast(args[0], whole), whole(digits))
        return builder.bitcast(builder.add(bits, whole(bias << digits)), args[0].type)

    return shifted(shifted), generate


@overload(read_power, jit_options={"forceinline": True})
def _compiled_power(shifted):  # type: ignore[no-untyped-def]
    return lambda shifted: _shift_bits(shifted)  # type: ignore[call-arg]


@kernel(fastmath=ORDERED, error_model="numpy", forceinline=True)
def split_fraction(f):  # type: ignore[no-untyped-def]
    """Return `n` and `d` of which `2^f` is the quotient, for `|f|` up to ½."""
    y = f * f
    q = (Q2 * y + Q1) * y + 1.0
    p = ((P2 * y + P1) * y + P0) * f
    return q + p, q - p


@kernel(fastmath=ORDERED, error_model="numpy", forceinline=True)
def split_exponential(z):  # type: ignore[no-untyped-def]
    """Return `n`, `d` and 2^k of which `e^z` is `n/d · 2^k`; beyond `LARGEST` in size, those of `LARGEST`."""
    t = min(max(z, -LARGEST), LARGEST)
    shifted = ROUND + t * NEAR_LOG2E
    f = ((ROUND - shifted) + t * LOG2E) + t * LOG2E_LOW
    n, d = split_fraction(f)
    return n, d, read_power(shifted)


@kernel(fastmath=ORDERED, error_model="numpy", forceinline=True)
def sigmoid_double(z):  # type: ignore[no-untyped-def]
    """Return `1/(1 + e^{−z})` of a float64, to 3 units in the last place."""
    n, d, power = split_exponential(-z)
    return d / (d + n * power)


@kernel(fastmath=ORDERED, error_model="numpy", forceinline=True)
def exponential(z):  # type: ignore[no-untyped-def]
    """Return `e^z` of a float64 up to `LARGEST` in size, to 3 units in the last place; beyond it, that of `LARGEST`."""
    n, d, power = split_exponential(z)
    return n / d * power


@kernel(fastmath=ORDERED, error_model="numpy", forceinline=True)
def split_fraction_single(f):  # type: ignore[no-untyped-def]
    """Return `n` and `d` of which `2^f` is the quotient, for a float32 `|f|` up to ½."""
    y = f * f
    q = Q1_SINGLE * y + ONE
    p = (P1_SINGLE * y + P0_SINGLE) * f
    return q + p, q - p


@kernel(fastmath=ORDERED, error_model="numpy", forceinline=True)
def sigmoid_single(z):  # type: ignore[no-untyped-def]
    """Return `1/(1 + e^{−z})` of a float32."""
    t = min(max(z, -LARGEST_SINGLE), LARGEST_SINGLE)
    shifted = ROUND_SINGLE - t * NEAR_LOG2E_SINGLE
    f = ((ROUND_SINGLE - shifted) - t * LOG2E_SINGLE) - t * LOG2E_LOW_SINGLE
    n, d = split_fraction_single(f)
    return d / (d + n * read_power(shifted))


@kernel(fastmath=ORDERED, error_model="numpy", forceinline=True)
def logistic_double(t):  # type: ignore[no-untyped-def]
    """Return `1/(1 + 2^t)` of a float64 up to `LARGEST_POWER` in size."""
    shifted = ROUND + t
    n, d = split_fraction(t - (shifted - ROUND))
    return d / (d + n * read_power(shifted))


@kernel(fastmath=ORDERED, error_model="numpy", forceinline=True)
def logistic_single(t):  # type: ignore[no-untyped-def]
    """Return `1/(1 + 2^t)` of a float32 up to `LARGEST_POWER_SINGLE` in size."""
    shifted = ROUND_SINGLE + t
    n, d = split_fraction_single(t - (shifted - ROUND_SINGLE))
    return d / (d + n * read_power(shifted))


def sigmoid(z: Any) -> Any:
    """Return `sigmoid_double` or `sigmoid_single` of `z`, depending on its type."""
    return sigmoid_double(z) if isinstance(z, float) else sigmoid_single(z)


@overload(sigmoid, jit_options={"forceinline": True})
def _compiled_sigmoid(z):  # type: ignore[no-untyped-def]
    if z == types.float64:
        return lambda z: sigmoid_double(z)
    return lambda z: sigmoid_single(z)


def logistic(t: Any) -> Any:
    """Return `logistic_double` or `logistic_single` of `t`, depending on its type."""
    return logistic_double(t) if isinstance(t, float) else logistic_single(t)


@overload(logistic, jit_options={"forceinline": True})
def _compiled_logistic(t):  # type: ignore[no-untyped-def]
    if t == types.float64:
        return lambda t: logistic_double(t)
    return lambda t: logistic_single(t)
