"""The change to the vectors of one axis, with `Vᵀ K V = diag(values)` and `Vᵀ M V = 1`, along an axis of an array.

Where widths and coefficients are equal all along an axis, its vectors are cosines, sines, or both: a fast transform
takes some ten operations an entry and no matrix. Elsewhere they are computed, and multiplied with.

Source: R. E. Lynch, J. R. Rice, D. H. Thomas, "Direct solution of partial difference equations by tensor product
methods", Numer. Math. 6 (1964); for the kinds of fast transforms G. Strang, "The discrete cosine transform", SIAM
Review 41 (1999).
"""

# Imported on first use, for their weight: SciPy, `kernels`.

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.separable.axes import SAME, Axis

Array = NDArray[np.float64]
QUICK_FACTOR = 13
"""A fast transform takes about seven times as long for lengths with a greater prime factor."""
SLOW_SIDE = 160
"""Up to this length a product is quicker than a fast transform of such a length."""
QUICK_FAST, SLOW_FAST, PRODUCT = 6.5, 40.0, 0.11
"""Nanoseconds an entry, there and back, of fast transforms and, times the length, of products; in one thread."""
VECTORS = 60.0
"""Nanoseconds, times the length squared, that it takes to compute an axis' vectors."""
ENDS = {"ring": (0.0, 0.0), "closed": (0.0, 0.0), "held": (2.0, 2.0), "held low": (2.0, 0.0), "held high": (0.0, 2.0)}
"""What the ends of an axis add to the diagonal, in couplings: a value held half a cell away adds two."""


class Transform(ABC):
    """`x → Vᵀ x` and `x → V x` along one axis of arrays with three axes, of which `x` is overwritten.

    `values` `(n,)`: where `K` is singular, the first is the one that is zero. In these vectors `K` is
    `scale · diag(values)`, and `M` is `scale`.
    """

    values: Array
    scale: float = 1.0

    @abstractmethod
    def forward(self, x: Array, axis: int) -> Array:
        """Return `Vᵀ x`, in its memory or in new memory."""

    @abstractmethod
    def back(self, x: Array, axis: int) -> Array:
        """Return `V x`, in the same way."""


def transform_of(axis: Axis) -> Transform:
    """Return the quicker transform of an axis of more than one cell."""
    kind = _quick_kind(axis)
    return Product(axis) if kind is None else Fast(axis, kind)


def transform_nanoseconds(axis: Axis, cells: int) -> float:
    """Return about how long the transform of an axis takes there and back, a cell of `cells`, and its set-up."""
    if _quick_kind(axis) is None:
        return PRODUCT * axis.size + VECTORS * axis.size**2 / cells
    return QUICK_FAST if _largest_factor(axis.size) <= QUICK_FACTOR else SLOW_FAST


def _quick_kind(axis: Axis) -> str | None:
    """Return which of the fast transforms serves an axis, None where a product does."""
    kind = _kind(axis)
    short = axis.size <= SLOW_SIDE
    return None if kind is None or (short and _largest_factor(axis.size) > QUICK_FACTOR) else kind


def _largest_factor(n: int) -> int:
    largest, factor = 1, 2
    while n > 1:
        while n % factor == 0:
            largest, n = factor, n // factor
        factor += 1
    return largest


def _kind(axis: Axis) -> str | None:
    """Return which of the fast transforms fits an axis, None where none does."""
    unit = float(axis.coupling.max())
    equal = (axis.weight, axis.coupling if axis.cyclic else axis.coupling[1:])
    if unit == 0.0 or any(np.ptp(values) > SAME * values.max() for values in equal):
        return None
    excess = axis.excess / unit
    if np.abs(excess[1:-1]).max(initial=0.0) > SAME:
        return None
    for kind, ends in ENDS.items():
        if np.abs(excess[[0, -1]] - ends).max() <= SAME and axis.cyclic == (kind == "ring"):
            return kind
    return None


class Fast(Transform):
    """A change of basis by SciPy's transforms, in the calling thread. Their factors cancel on the way back."""

    def __init__(self, axis: Axis, kind: str) -> None:
        from scipy import fft, fftpack

        n, k = axis.size, np.arange(axis.size)
        halves = {"ring": (k + 1) // 2 * 2, "closed": k, "held": k + 1}.get(kind, k + 0.5)
        self.scale = float(axis.weight[0])
        # 2 − 2 cos θ, without the loss of digits at small angles.
        self.values = 4.0 * np.sin(np.pi * halves / (2 * n)) ** 2 * (float(axis.coupling[-1]) / self.scale)
        if kind == "ring":
            self._there, self._back = fftpack.rfft, fftpack.irfft
        else:
            of = 4 if kind in ("held low", "held high") else 2
            there, back = (fft.dct, fft.idct) if kind in ("closed", "held high") else (fft.dst, fft.idst)
            self._there, self._back = partial(there, type=of), partial(back, type=of)

    def forward(self, x: Array, axis: int) -> Array:
        found: Array = self._there(x, axis=axis, overwrite_x=True)
        return found

    def back(self, x: Array, axis: int) -> Array:
        found: Array = self._back(x, axis=axis, overwrite_x=True)
        return found


class Product(Transform):
    """A change of basis by products with the vectors."""

    def __init__(self, axis: Axis) -> None:
        from scipy.linalg import eigh, eigh_tridiagonal

        root = np.sqrt(axis.weight)
        diagonal, beside = axis.diagonal / axis.weight, -axis.coupling / (root * np.roll(root, 1))
        if axis.cyclic:
            full = np.diag(diagonal) + np.diag(beside[1:], 1) + np.diag(beside[1:], -1)
            full[0, -1] += beside[0]
            full[-1, 0] += beside[0]
            self.values, vectors = eigh(full)
        else:
            self.values, vectors = eigh_tridiagonal(diagonal, beside[1:])
        self._vectors = np.ascontiguousarray(vectors / root[:, None])
        self._transposed = np.ascontiguousarray(self._vectors.T)

    def forward(self, x: Array, axis: int) -> Array:
        return _multiply(x, axis, self._transposed, self._vectors)

    def back(self, x: Array, axis: int) -> Array:
        return _multiply(x, axis, self._vectors, self._transposed)


def _multiply(x: Array, axis: int, left: Array, right: Array) -> Array:
    """`left @ x` along an axis of `x`; `right` is its transpose."""
    from relaxon.solvers.separable import kernels

    x = np.ascontiguousarray(x)
    found = np.empty_like(x)
    n0, n1, n2 = x.shape
    packed = np.empty((kernels.INNER, kernels.COLUMNS + kernels.PAD))
    if axis == 0:
        kernels.multiply(left, x.reshape(n0, n1 * n2), found.reshape(n0, n1 * n2), packed)
    elif axis == 1:
        for plane, into in zip(x, found, strict=True):
            kernels.multiply(left, plane, into, packed)
    else:
        kernels.multiply(x.reshape(n0 * n1, n2), right, found.reshape(n0 * n1, n2), packed)
    return found
