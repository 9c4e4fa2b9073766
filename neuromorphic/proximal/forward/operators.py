"""Linear forward operators of inverse problems, each with its exact adjoint: identity, mask, blur, and compositions.

The Radon transform is in `radon`, a Poisson grid's solution map in `poisson_map`.
"""

# Imported on first use, for its weight: SciPy.

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import validation

Array = NDArray[np.float64]
BlurBoundary = Literal["zero", "periodic"]
NORM_STEPS = 300
NORM_RTOL = 1e-9
"""Relative change of the norm's estimate at which the power iteration stops."""
NORM_SAFETY = 1.0 + 1e-3
"""Factor applied to the last estimate of the power iteration, which approaches the norm from below."""
REACH = 4.0
"""Number of standard deviations at which a Gaussian kernel is truncated."""


class ForwardOperator(ABC):
    """A linear map A from signals of `input_shape` to observations of `output_shape`, float64."""

    name: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    @abstractmethod
    def _apply(self, x: Array) -> Array: ...

    @abstractmethod
    def _adjoint(self, y: Array) -> Array: ...

    def apply(self, x: ArrayLike) -> Array:
        """Return `A x` for `x` of `input_shape`; ValueError or TypeError for another shape, NaN or infinity."""
        return self._apply(check_signal("x", x, self.input_shape))

    def adjoint(self, y: ArrayLike) -> Array:
        """Return `Aᵀ y` for `y` of `output_shape`; errors as for `apply`."""
        return self._adjoint(check_signal("y", y, self.output_shape))

    @cached_property
    def norm(self) -> float:
        """An upper estimate of the largest singular value, by power iteration on `AᵀA` from a fixed initial vector."""
        v = np.random.default_rng(0).standard_normal(self.input_shape)
        size = 0.0
        for _ in range(NORM_STEPS):
            v /= max(float(np.linalg.norm(v)), np.finfo(float).tiny)
            v = self._adjoint(self._apply(v))
            before, size = size, math.sqrt(float(np.linalg.norm(v)))
            if size - before <= NORM_RTOL * size:
                break
        return NORM_SAFETY * size

    def to_scipy(self) -> Any:
        """Return the map between flat vectors as a `scipy.sparse.linalg.LinearOperator`."""
        from scipy.sparse.linalg import LinearOperator

        shape = (math.prod(self.output_shape), math.prod(self.input_shape))
        return LinearOperator(
            shape,
            matvec=lambda x: self._apply(np.asarray(x, np.float64).reshape(self.input_shape)).ravel(),
            rmatvec=lambda y: self._adjoint(np.asarray(y, np.float64).reshape(self.output_shape)).ravel(),
            dtype=np.float64,
        )


class IdentityOperator(ForwardOperator):
    """The identity: denoising.

    >>> IdentityOperator((3,)).apply([1.0, 2.0, 3.0]).tolist()
    [1.0, 2.0, 3.0]
    """

    name = "identity"

    def __init__(self, shape: Sequence[int]) -> None:
        self.input_shape = self.output_shape = check_shape("shape", shape)

    def _apply(self, x: Array) -> Array:
        return x.copy()

    def _adjoint(self, y: Array) -> Array:
        return y.copy()


class MaskOperator(ForwardOperator):
    """The observed entries of a signal, as a vector in C order: `observed` is boolean, True where there is a value.

    >>> MaskOperator([True, False, True]).apply([1.0, 2.0, 3.0]).tolist()
    [1.0, 3.0]
    """

    name = "mask"

    def __init__(self, observed: ArrayLike) -> None:
        array = np.asarray(observed)
        if array.dtype != np.bool_:
            raise TypeError(f"observed must be boolean, got dtype {array.dtype}")
        if array.ndim == 0 or not array.any():
            raise ValueError(f"observed must have at least one True entry, got shape {array.shape} without one")
        self.observed: NDArray[np.bool_] = array.copy()
        self.input_shape, self.output_shape = array.shape, (int(array.sum()),)

    def _apply(self, x: Array) -> Array:
        return x[self.observed]

    def _adjoint(self, y: Array) -> Array:
        full = np.zeros(self.input_shape)
        full[self.observed] = y
        return full


class BlurOperator(ForwardOperator):
    """Correlation with a kernel over the last axes: `(A x)_i = Σ_j k_j x_{i + j − centre}`.

    Parameters
    ----------
    shape : shape of the signal.
    kernel : an array with odd sides and at most as many axes as the signal; it acts on the last axes.
    boundary : outside the signal, "zero" means 0 and "periodic" means periodic continuation.

    Raises `TypeError` or `ValueError` naming the argument.

    >>> BlurOperator((3,), [0.25, 0.5, 0.25]).apply([0.0, 4.0, 0.0]).tolist()
    [1.0, 2.0, 1.0]
    """

    name = "blur"

    def __init__(self, shape: Sequence[int], kernel: ArrayLike, *, boundary: BlurBoundary = "zero") -> None:
        self.input_shape = self.output_shape = check_shape("shape", shape)
        array = np.array(validation.real_array("kernel", kernel), np.float64)
        if array.ndim > len(self.input_shape) or any(side % 2 == 0 for side in array.shape):
            raise ValueError(
                f"kernel must have odd sides and at most {len(self.input_shape)} axes, got shape {array.shape}"
            )
        if not array.any():
            raise ValueError("kernel must have an entry other than 0, got none")
        if boundary not in get_args(BlurBoundary):
            raise ValueError(f"boundary must be 'zero' or 'periodic', got {boundary!r}")
        self.kernel, self.boundary = array, boundary
        self._full = array.reshape((1,) * (len(self.input_shape) - array.ndim) + array.shape)
        self._flipped = np.flip(self._full)
        self._mode = "constant" if boundary == "zero" else "grid-wrap"

    @classmethod
    def gaussian(cls, shape: Sequence[int], width: float, *, boundary: BlurBoundary = "zero") -> BlurOperator:
        """Return the blur by a Gaussian of standard deviation `width`, in pixels, over the last two axes (or the one).

        The kernel is cut off after 4 standard deviations and sums to 1.
        """
        sides = check_shape("shape", shape)
        width = validation.positive_float("width", width)
        places = np.arange(-math.ceil(REACH * width), math.ceil(REACH * width) + 1)
        line = np.exp(-0.5 * (places / width) ** 2)
        line /= line.sum()
        return cls(sides, line if len(sides) == 1 else np.outer(line, line), boundary=boundary)

    def _apply(self, x: Array) -> Array:
        return self._correlate(x, self._full)

    def _adjoint(self, y: Array) -> Array:
        return self._correlate(y, self._flipped)

    def _correlate(self, x: Array, kernel: Array) -> Array:
        from scipy.ndimage import correlate

        return np.asarray(correlate(x, kernel, mode=self._mode, cval=0.0))


class CompositeOperator(ForwardOperator):
    """A composition of operators, of which the first is applied first.

    >>> import numpy as np
    >>> blur, mask = BlurOperator((3,), [0.25, 0.5, 0.25]), MaskOperator([False, True, False])
    >>> CompositeOperator([blur, mask]).apply(np.array([0.0, 4.0, 0.0])).tolist()
    [2.0]
    """

    name = "composite"

    def __init__(self, operators: Sequence[ForwardOperator]) -> None:
        self.operators = tuple(operators)
        if not self.operators:
            raise ValueError("operators must have at least one entry, got none")
        for place, operator in enumerate(self.operators):
            if not isinstance(operator, ForwardOperator):
                raise TypeError(f"operators[{place}] must be a ForwardOperator, got {type(operator).__name__}")
            before = self.operators[place - 1]
            if place and operator.input_shape != before.output_shape:
                raise ValueError(
                    f"operators[{place}] must have the input shape {before.output_shape} that the one before gives, "
                    f"got {operator.input_shape}"
                )
        self.input_shape, self.output_shape = self.operators[0].input_shape, self.operators[-1].output_shape

    def _apply(self, x: Array) -> Array:
        for operator in self.operators:
            x = operator._apply(x)
        return x

    def _adjoint(self, y: Array) -> Array:
        for operator in reversed(self.operators):
            y = operator._adjoint(y)
        return y


OPERATORS: dict[str, tuple[str, str]] = {
    "identity": ("relaxon.neuromorphic.proximal.forward.operators", "IdentityOperator"),
    "mask": ("relaxon.neuromorphic.proximal.forward.operators", "MaskOperator"),
    "blur": ("relaxon.neuromorphic.proximal.forward.operators", "BlurOperator"),
    "radon": ("relaxon.neuromorphic.proximal.forward.radon", "RadonOperator"),
    "poisson": ("relaxon.neuromorphic.proximal.forward.poisson_map", "PoissonMap"),
    "composite": ("relaxon.neuromorphic.proximal.forward.operators", "CompositeOperator"),
}
"""The module and the class of each forward operator, by name."""


def check_shape(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape of at least one axis, each at least 1."""
    if isinstance(shape, str) or not hasattr(shape, "__iter__"):
        raise TypeError(f"{name} must be integers, got {type(shape).__name__}")
    sides = tuple(validation.positive_int(name, side) for side in shape)
    if not sides:
        raise ValueError(f"{name} must have at least one axis, got none")
    return sides


def check_signal(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return `value` as float64 of that shape, finite."""
    array = validation.real_array(name, value)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array.astype(np.float64, copy=False)
