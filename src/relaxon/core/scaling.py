"""Powers of two that scale vectors and operators of any size so that the sums of their squares are representable.

Multiplication by a power of two is exact: a scaled system has the same solution to the last bit. Ordinary systems are
not scaled.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from relaxon.core.solution import Callback, Progress

SAFE_EXPONENT = 200
"""Between `2⁻²⁰⁰` and `2²⁰⁰` (about 1e±60) products of three numbers and sums of many are far from float64's limits."""

SAMPLE, NARROW = 4096, 1e4
"""Numbers in a sample, and the ratio of the largest to the smallest up to which it stands for all."""


def is_safe(magnitude: float) -> bool:
    """Return whether a norm or a largest entry needs no scaling. False for 0, NaN and infinity."""
    return 2.0**-SAFE_EXPONENT <= magnitude <= 2.0**SAFE_EXPONENT


def exponent_of(magnitude: float) -> int:
    """Return `e` with `magnitude / 2ᵉ` from ½ to 1; 0 for 0."""
    return math.frexp(magnitude)[1]


def mean_scale(values: NDArray[np.float64]) -> float:
    """Return a power of two near the reciprocal of the geometric mean of the nonzero magnitudes; 1 if there are none.

    Values multiplied by it lie in the middle of float32's range.
    """
    sizes = np.abs(values[values != 0])
    return 2.0 ** -round(float(np.mean(np.log2(sizes)))) if len(sizes) else 1.0


def mean_scale_of_many(values: NDArray[np.float64]) -> float:
    """Return such a power of two for many numbers, by a sample of them where that has a narrow range and no zero."""
    sample = values[:: max(1, len(values) // SAMPLE)]
    least, most = float(np.abs(sample).min(initial=np.inf)), float(np.abs(sample).max(initial=0.0))
    return mean_scale(sample if least > 0.0 and most <= NARROW * least else values)


def scale(array: NDArray[np.float64], exponent: int) -> None:
    """Multiply `array` by `2^exponent`, in place. Values that leave float64's range become 0 or infinity."""
    if exponent:
        with np.errstate(over="ignore", under="ignore"):
            np.ldexp(array, exponent, out=array)


def scaled(value: float, exponent: int) -> float:
    """Return `value · 2^exponent`; infinity if that is too large."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(math.inf, value)


def unscaled_callback(callback: Callback | None, exponent: int) -> Callback | None:
    """Return the caller's callback for a solver whose residuals are divided by `2^exponent`."""
    if callback is None or not exponent:
        return callback

    def called(progress: Progress) -> object:
        residual, tolerance = scaled(progress.residual, exponent), scaled(progress.tolerance, exponent)
        return callback(replace(progress, residual=residual, tolerance=tolerance))

    return called
