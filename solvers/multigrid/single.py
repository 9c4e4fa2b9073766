"""A V-cycle in float32 as a preconditioner of float64 arrays."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Single = NDArray[np.float32]


class SingleCycle(ABC):
    """`z ← M r`; `r` is scaled to norm 1 on the way, so that float32 holds it, and left as it is."""

    unit: float
    """What the cycle's operator is divided by."""
    info: dict[str, float]
    """Figures for people."""

    def twin(self) -> SingleCycle | None:
        """Return the same cycle with work space of its own; None where it cannot be had."""
        return None

    @abstractmethod
    def unscaled(self, r: Array, scale: float = 1.0) -> Single:
        """`unit · M (scale · r)`, `shape3` as `r`; overwritten by the next call."""

    def direction(self, r: Array) -> NDArray[Any]:
        """A multiple of `M r`, in float32 where that holds it; may be overwritten by the next call."""
        return self.unscaled(r)

    def __call__(self, r: Array, z: Array) -> None:
        """`r`, `z`: `shape3` float64."""
        from relaxon.solvers.grid.stencil_kernels import dot, scaled

        norm = math.sqrt(dot(r, r))
        if norm == 0.0 or not math.isfinite(norm):
            z[...] = r
            return
        scaled(self.unscaled(r, 1.0 / norm), norm / self.unit, z)
