"""A caller's preconditioner as a map from vectors to vectors, whose results are validated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[Any]
Map = Callable[[Vector], Vector]
"""Maps a residual `(n,)`, float64 or complex128 and of norm 1, to a direction; it must not modify the residual."""


def is_map(given: Any) -> bool:
    """Return whether `given` is a callable, a `LinearOperator` or a sparse matrix."""
    return callable(given) or hasattr(given, "matvec") or hasattr(given, "tocsr")


def check_map(name: str, given: Any) -> None:
    """Raise TypeError, naming the argument, unless `given` is a map."""
    if not is_map(given):
        raise TypeError(f"{name} must be a callable, a LinearOperator or a sparse matrix, got {type(given).__name__}")


def check_shape(name: str, given: Any, unknowns: int) -> None:
    """Raise ValueError, naming the argument, where `given` has a shape that does not fit."""
    shape = getattr(given, "shape", None)
    if shape is not None and tuple(shape) != (unknowns, unknowns):
        raise ValueError(f"{name} must have shape ({unknowns}, {unknowns}), got {tuple(shape)}")


def wrap_map(
    name: str, given: Any, unknowns: int, is_complex: bool = False, kept: NDArray[np.int64] | None = None
) -> Map:
    """Return `given` as a map on `unknowns` unknowns whose results are validated.

    ValueError, naming it, for results that are not such vectors. With `kept`, the returned map acts on these unknowns
    only: the others are zero in the argument of `given`.
    """
    check_shape(name, given, unknowns)
    call: Callable[[Vector], Any] = given
    if hasattr(given, "matvec"):
        call = given.matvec
    elif hasattr(given, "tocsr"):
        call = given.tocsr().__matmul__
    kinds, wanted = ("fc", "numbers") if is_complex else ("f", "floats")

    def apply_whole(r: Vector) -> Vector:
        z = np.asarray(call(r))
        if z.shape != (unknowns,) or z.dtype.kind not in kinds:
            raise ValueError(f"{name} must return {wanted} of shape ({unknowns},), got {z.dtype} of shape {z.shape}")
        return z

    def apply_part(r: Vector) -> Vector:
        full = np.zeros(unknowns, r.dtype)
        full[kept] = r
        return np.asarray(apply_whole(full)[kept])

    return apply_whole if kept is None else apply_part
