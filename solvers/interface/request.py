"""A checked right-hand side with its initial guess, as engines take it, and the memory that is reused for the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Request:
    """A checked right-hand side: arrays on `shape3`, zero outside the fluid, `b` in the range of `A`.

    `b` is the caller's divided by `2^exponent`, and so are `tolerance`, `atol` and `b_norm`. The exponent is 0 if `b`
    is of ordinary size.
    """

    b: NDArray[np.float64]
    x: NDArray[np.float64]
    packed: bool
    tolerance: float
    b_norm: float
    max_iterations: int | None
    inconsistent: str
    """Why no solution exists; empty if one does."""
    rtol: float
    atol: float
    exponent: int
    warm: bool
    """Whether `x` holds an initial guess other than zero."""
    sides: tuple[float, float] | None = None
    """For one part of a complex `b`: the norms of the whole, as `Figures.beside` takes them."""
    column: bool = False
    """Whether `b` was given as a column `(n, 1)`; `x` is then returned as one."""


class RequestMemory:
    """Arrays of earlier requests, to be reused: touching fresh memory takes longer than the work done in it.

    Whoever takes an array owns it, in any thread.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[np.float64]] = {}

    def take(self, name: str) -> NDArray[np.float64] | None:
        """Return the array last kept under a name, if nobody has taken it."""
        return self._kept.pop(name, None)

    def keep(self, name: str, array: NDArray[np.float64]) -> None:
        """Keep an array that nothing else references any more."""
        self._kept[name] = array


def packed_vector(name: str, array: NDArray[Any], unknowns: int) -> NDArray[Any] | None:
    """Return a vector of the unknowns, given `(unknowns,)` or a column `(unknowns, 1)`; None for any other shape.

    ValueError, naming `solve_many`, for several columns.
    """
    if array.shape in ((unknowns,), (unknowns, 1)):
        return array.reshape(unknowns)
    if array.ndim == 2 and array.shape[0] == unknowns:
        raise ValueError(
            f"{name} must have shape ({unknowns},) or ({unknowns}, 1), got {array.shape}: for several right-hand sides "
            f"call solve_many(A, {name}.T)"
        )
    return None


def refuse_columns(b: object, unknowns: int) -> None:
    """Raise ValueError if the right-hand sides of `solve_many` are the columns of an array, not its rows."""
    shape: tuple[int, ...] = getattr(b, "shape", ())
    if len(shape) == 2 and shape[0] == unknowns != shape[1]:
        raise ValueError(f"b must hold a right-hand side in each row, (k, {unknowns}), got {tuple(shape)}: pass b.T")
