"""What a system offers to those who compare solvers on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from relaxon.cli.contest import Run

Order = NDArray[np.int64] | None
"""The order in which a solver took the rows of a matrix; None for their own order."""


class ContestSystem(ABC):
    """A system `A x = b` on which solvers are compared."""

    @abstractmethod
    def describe(self) -> str:
        """Return its name and sizes in one line."""

    @abstractmethod
    def as_dict(self) -> dict[str, Any]:
        """Return its properties as JSON values."""

    @abstractmethod
    def draw(self, figure: Figure, axes: Axes, run: Run, order: Order) -> None:
        """Draw the system, or the solution of a run that took the rows in `order`."""
