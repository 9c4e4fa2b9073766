"""A checked right-hand side with its start, as solvers take it, and the memory that one leaves to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Request:
    """A checked right-hand side: arrays on `shape3`, zero outside the fluid, `b` in the range of `A`.

    `b` is the caller's divided by `2^exponent`, and so are `tolerance`, `atol` and `b_norm`; the exponent is 0 where
    `b` is of ordinary size.
    """

    b: NDArray[np.float64]
    x: NDArray[np.float64]
    packed: bool
    tolerance: float
    b_norm: float
    max_iterations: int | None
    inconsistent: str
    """Empty, or why no solution exists."""
    rtol: float
    atol: float
    exponent: int
    warm: bool
    """Whether `x` holds a start other than zero."""
    sides: tuple[float, float] | None = None
    """Of a part of a complex `b`: norms of the whole, as `Figures.beside` takes them."""
    column: bool = False
    """Whether `b` came as a column `(n, 1)`, as which `x` is given back."""


class RequestMemory:
    """Arrays of earlier requests for the next one's: fresh memory takes longer than what is then done with it. Each is
    one's alone who takes it, in any thread."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[np.float64]] = {}

    def take(self, name: str) -> NDArray[np.float64] | None:
        """The one that was last kept under a name, if it is still there."""
        return self._kept.pop(name, None)

    def keep(self, name: str, array: NDArray[np.float64]) -> None:
        """Keep one that nothing else has any more."""
        self._kept[name] = array


def packed_vector(name: str, array: NDArray[Any], unknowns: int) -> NDArray[Any] | None:
    """A vector of the unknowns, from `(unknowns,)` or a column `(unknowns, 1)`; None for any other shape.

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
    """ValueError where the right-hand sides of `solve_many` are the columns of an array, not its rows."""
    shape: tuple[int, ...] = getattr(b, "shape", ())
    if len(shape) == 2 and shape[0] == unknowns != shape[1]:
        raise ValueError(f"b must hold a right-hand side in each row, (k, {unknowns}), got {tuple(shape)}: pass b.T")
