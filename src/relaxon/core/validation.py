"""Validation of arguments: each refusal names the argument, the value and what was expected."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.masked import plain_array


def positive_float(name: str, value: object) -> float:
    """Return `value` as a finite float > 0; TypeError or ValueError naming the argument otherwise."""
    number = finite_float(name, value)
    if number <= 0:
        raise ValueError(f"{name} must be greater than 0, got {value!r}")
    return number


def non_negative_float(name: str, value: object) -> float:
    """Return `value` as a finite float ≥ 0; TypeError or ValueError naming the argument otherwise."""
    number = finite_float(name, value)
    if number < 0:
        raise ValueError(f"{name} must be at least 0, got {value!r}")
    return number


def finite_float(name: str, value: object) -> float:
    """Return `value` as a finite float; a bool or a string is not a number."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return number


def positive_int(name: str, value: object) -> int:
    """Return `value` as an int ≥ 1; TypeError or ValueError naming the argument otherwise."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value!r}")
    return int(value)


def whole_number(name: str, value: object) -> int:
    """Return `value` as an int that fits into 64 bits, sign included."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{name} must fit into 64 bits, got {value!r}")
    return number


def array_like(name: str, value: Any) -> None:
    """Raise TypeError for a sparse matrix and for a tensor that requires gradients, saying what to do instead."""
    if hasattr(value, "tocsr"):
        raise TypeError(f"{name} must be a dense array, got a sparse {type(value).__name__}: pass {name}.toarray()")
    if getattr(value, "requires_grad", False) is True:
        raise TypeError(
            f"{name} must not require gradients, got a tensor with requires_grad=True: pass {name}.detach(), or "
            "differentiate through relaxon.solvers.torch.poisson_solve on a grid"
        )


def real_or_complex_array(name: str, value: Any, *, finite: bool = True) -> NDArray[Any]:
    """Return `value` as `real_array` does; complex64 and complex128 arrays with finite entries keep their dtype."""
    array_like(name, value)
    array = plain_array(name, value)
    if array.dtype.kind != "c":
        return real_array(name, value, finite=finite)
    if array.dtype.itemsize > np.dtype(np.complex128).itemsize:
        raise TypeError(f"{name} must be an array of complex64 or complex128 where it is complex, got {array.dtype}")
    real_array(name, array.real, finite=finite)
    real_array(name, array.imag, finite=finite)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def real_array(name: str, value: Any, *, finite: bool = True) -> NDArray[Any]:
    """Return `value` as a float32 or float64 array with finite entries; integers become float64, floats are not copied.

    `finite=False` leaves the check of the entries, which takes a pass over them, to `finite_entries`.
    """
    if value is None:
        raise TypeError(f"{name} must be an array, got None")
    array_like(name, value)
    array = plain_array(name, value)
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise TypeError(f"{name} must be an array of float32, float64 or integers, got dtype {array.dtype}")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.ndim == 0:
        raise ValueError(f"{name} must be an array with at least one axis, got a scalar")
    if finite:
        finite_entries(name, array)
    return array


def finite_entries(name: str, array: NDArray[Any]) -> None:
    """Raise ValueError if an entry of a real or complex array is not finite."""
    # One pass without a temporary: the sum is finite unless an entry is not, or the sum overflows.
    wide = np.complex128 if array.dtype.kind == "c" else np.float64
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum(dtype=wide)
    if not np.isfinite(total) and not np.isfinite(array).all():
        bad = int(np.count_nonzero(~np.isfinite(array)))
        raise ValueError(f"{name} must be finite, got {bad} NaN or infinite of {array.size} entries")
