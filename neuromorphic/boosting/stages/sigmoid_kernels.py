"""The logistic function in place, in double and in single precision, vectorised.

e^t = 2^k e^s with |s| ≤ ½ ln 2, and 2^k from the bits of an integer. For |s| ≤ ½ ln 2, e^s is its Taylor polynomial of
degree 12 in double precision (truncation below 2e-16), and 1 + s q(s) in single, with q of degree 5 fitted to the least
largest relative error (2e-9, by Lawson's weights), well below that precision's rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from relaxon.solvers.kernels.compiled import kernel

ORDERED = {"contract"}
"""The exponential's range reduction must keep its order: only fused products."""

LOG2E = 1.4426950408889634
LN2_HIGH = 0.6931471803691238
LN2_LOW = 1.9082149292705877e-10
ROUND = 6755399441055744.0
"""1.5 · 2⁵²: adding it rounds to an integer, which the low bits of the sum then hold."""
EXPONENT_SHIFT = 52
EXPONENT_BIAS = 1023 << 52
LARGEST = 700.0
"""|z| beyond which σ is 0 or 1 to the last bit and exp would leave the range of normal numbers."""

SINGLE = np.float32
LOG2E_SINGLE = SINGLE(LOG2E)
LN2_HIGH_SINGLE, LN2_LOW_SINGLE = SINGLE(0.693359375), SINGLE(-2.12194440e-4)
"""The first has few enough digits that its products with whole numbers up to 2⁹ are exact."""
ROUND_SINGLE = SINGLE(12582912.0)
"""1.5 · 2²³."""
EXPONENT_SHIFT_SINGLE = 23
EXPONENT_BIAS_SINGLE = 127 << 23
LARGEST_SINGLE = SINGLE(30.0)
"""Beyond it σ is 1 to the last bit, or so small that products of it would be subnormal numbers, which are slow."""
ONE = SINGLE(1.0)
Q0, Q1, Q2 = SINGLE(1.0000000321838478), SINGLE(0.49999994205550646), SINGLE(0.16666431169907417)
Q3, Q4, Q5 = SINGLE(0.04166800257619531), SINGLE(0.008374163391929902), SINGLE(0.0013843644062491178)


@kernel(fastmath=ORDERED, error_model="numpy", forceinline=True)
def sigmoid(z, scale, bits):  # type: ignore[no-untyped-def]
    """Compute `z ← 1/(1 + e^{−z})` in place. `scale` is scratch of the size of `z`, `bits` its int64 view."""
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


@kernel(fastmath=ORDERED, error_model="numpy", forceinline=True)
def sigmoid_single(z, scale, bits):  # type: ignore[no-untyped-def]
    """Compute `sigmoid` of float32 `z`; `bits` is the int32 view of `scale`."""
    n = z.size
    for i in range(n):
        t = min(max(-z[i], -LARGEST_SINGLE), LARGEST_SINGLE)
        shifted = t * LOG2E_SINGLE + ROUND_SINGLE
        scale[i] = shifted
        k = shifted - ROUND_SINGLE
        s = (t - k * LN2_HIGH_SINGLE) - k * LN2_LOW_SINGLE
        q = Q5 * s + Q4
        q = q * s + Q3
        q = q * s + Q2
        q = q * s + Q1
        q = q * s + Q0
        z[i] = q * s + ONE
    for i in range(n):
        bits[i] = (bits[i] << EXPONENT_SHIFT_SINGLE) + EXPONENT_BIAS_SINGLE
    for i in range(n):
        z[i] = ONE / (ONE + z[i] * scale[i])


def sigmoid_in_place(z: Any, scale: Any, bits: Any) -> None:
    """Apply `sigmoid` or `sigmoid_single`, depending on the type of `z`."""
    (sigmoid if z.dtype == np.float64 else sigmoid_single)(z, scale, bits)


@overload(sigmoid_in_place, jit_options={"forceinline": True})
def _compiled_sigmoid(z, scale, bits):  # type: ignore[no-untyped-def]
    if z.dtype == types.float64:
        return lambda z, scale, bits: sigmoid(z, scale, bits)
    return lambda z, scale, bits: sigmoid_single(z, scale, bits)
