"""A grid with a right-hand side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.poisson_grid import PoissonGrid

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Problem:
    """A system to solve: `b` is a full float64 array, zero outside the fluid and in the operator's range."""

    name: str
    grid: PoissonGrid
    b: Array
    exact: Array | None = None
    """The continuous problem's solution at cell centres, where it is known."""
    summary: str = ""
