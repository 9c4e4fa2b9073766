"""What the sides of a domain do to the cells beside them: kinds by name, and Robin's, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation


class Boundary(StrEnum):
    """What a side of the domain does to the fluid cells beside it."""

    NEUMANN = "neumann"
    """No flux through the side."""
    DIRICHLET = "dirichlet"
    """The value 0 on the side's face, half a cell from the cell's centre."""
    DIRICHLET_NODE = "dirichlet-node"
    """The value 0 on a node beside the last cell, a whole cell from its centre."""
    PERIODIC = "periodic"
    """The neighbour is the cell at the opposite side; both sides of an axis or neither."""


@dataclass(frozen=True, slots=True, eq=False)
class Robin:
    """A side that lets through what is in proportion to x: `κ ∂x/∂n + h x = 0` on its face, n pointing outward.

    Heat that a surface gives to its surroundings, with h the heat transfer coefficient; an absorbing layer. h = 0 is a
    Neumann side, and the limit of large h a Dirichlet one.

    Parameters
    ----------
    h : a number or an array of the side's shape (the grid's without that axis), finite and ≥ 0, in units of κ over a
        length. An array is copied.

    Raises
    ------
    TypeError, ValueError : naming h.

    Examples
    --------
    >>> import numpy as np
    >>> from relaxon.solvers import PoissonGrid, Robin
    >>> grid = PoissonGrid(np.zeros((8, 4), np.uint8), 1 / 8, [("dirichlet", Robin(2.0)), "neumann"])
    >>> grid
    PoissonGrid(8×4, 32 unknowns, sides dirichlet/robin, neumann)
    """

    h: float | NDArray[np.float64]

    def __post_init__(self) -> None:
        if np.ndim(self.h) == 0:
            object.__setattr__(self, "h", validation.non_negative_float("h", self.h))
            return
        array = np.array(validation.real_array("h", self.h), np.float64, order="C")
        if array.min(initial=0.0) < 0:
            raise ValueError(f"h must be at least 0 everywhere, got {array.min()}")
        array.flags.writeable = False
        object.__setattr__(self, "h", array)

    def __str__(self) -> str:
        return "robin"


PLAIN_SIDES = (Boundary.NEUMANN, Boundary.DIRICHLET, Boundary.PERIODIC)
"""Those of the matrix that what is learned serves."""
Side = Boundary | Robin
SideLike = str | Robin
BoundaryLike = SideLike | Sequence[SideLike | Sequence[SideLike]]
Sides = tuple[tuple[Side, Side], ...]


def validate_boundary(boundary: BoundaryLike, ndim: int) -> Sides:
    """Return the two sides of each axis; TypeError or ValueError naming the entry that is none."""
    axes = [boundary] * ndim if isinstance(boundary, str | Robin) else list(boundary)
    if len(axes) != ndim:
        raise ValueError(f"boundary must be one name or {ndim} entries (one an axis), got {len(axes)}")
    sides = []
    for axis, entry in enumerate(axes):
        pair = [entry, entry] if isinstance(entry, str | Robin) else list(entry)
        if len(pair) != 2:
            raise ValueError(f"boundary[{axis}] must be a name, a Robin or a (low, high) pair, got {entry!r}")
        low, high = (_validate_side(f"boundary[{axis}]", name) for name in pair)
        if (low is Boundary.PERIODIC) != (high is Boundary.PERIODIC):
            raise ValueError(f"boundary[{axis}] must be periodic on both sides or on neither, got {entry!r}")
        sides.append((low, high))
    return tuple(sides)


def check_films(sides: Sides, shape: tuple[int, ...]) -> None:
    """Raise ValueError where the h of a Robin side is an array of another shape than the side's."""
    for axis, pair in enumerate(sides):
        expected = shape[:axis] + shape[axis + 1 :]
        for side in pair:
            if isinstance(side, Robin) and np.ndim(side.h) and np.shape(side.h) != expected:
                raise ValueError(
                    f"boundary[{axis}] must have an h that is one number or of the side's shape {expected}, "
                    f"got shape {np.shape(side.h)}"
                )


def film_of(side: Robin, axis: int) -> float | NDArray[np.float64]:
    """Return h with an axis of length 1 across the side, or the number."""
    return np.expand_dims(side.h, axis) if isinstance(side.h, np.ndarray) else side.h


def _validate_side(name: str, value: object) -> Side:
    if isinstance(value, Robin):
        return value
    try:
        return Boundary(str(value))
    except ValueError:
        names = ", ".join(repr(side.value) for side in Boundary)
        raise ValueError(f"{name} must be one of {names} or a Robin, got {value!r}") from None
