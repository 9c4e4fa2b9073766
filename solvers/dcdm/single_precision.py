"""The outer iteration of the deep conjugate direction method in float32, with a residual that is replaced at times."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.solution import Result
from relaxon.solvers.dcdm.outer import SAFEGUARD_STEPS, STAGNATION_STEPS
from relaxon.solvers.interface.engine import Monitor, Prepared
from relaxon.solvers.interface.verdict import subtract
from relaxon.solvers.krylov.iteration import Steps, end_of, iterate

Array = NDArray[np.float64]
Single = NDArray[np.float32]
Past = list[tuple[int, float]]
"""The slots of former directions and their curvatures `pᵀAp`, the newest first."""
REPLACED_AFTER = 1e-4
"""The residual's recurrence is replaced by the true residual when it has fallen by this factor: float32 then still
holds three digits of it."""
FAR = 1e10
"""Where the first residual is larger or smaller than `‖b‖` by this factor, residuals are scaled by it instead of `‖b‖`,
to stay within float32's range."""


class SinglePrecisionDirections(Prepared):
    """The iteration around what a subclass does in one step; `x` and all sums are float64.

    The residual is kept in float32, times `scale`, so that its norm begins at 1.
    """

    _window: int
    _directions: list[Single] | NDArray[np.float32]
    """Those of the window and the new one."""

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        return iterate(self._take_steps(*self._begin(b, x), monitor), monitor, max_iterations, STAGNATION_STEPS)

    def _take_steps(self, b: Array, x: Array, monitor: Monitor) -> Steps:
        past: Past = []
        scale = 1.0 / math.sqrt(self._square(b))
        norm = exact = self._first_residual(b, x, scale)
        since = yield norm
        if not 1 / FAR < norm * scale < FAR:
            scale = 1.0 / norm
            self._true_residual(b, x, scale)
        for step in itertools.count():
            slot = step % (self._window + 1)
            monitor.stepped(None)  # the slot may hold the last step's direction
            plain = since >= SAFEGUARD_STEPS
            curvature, square, factor = self._advance(slot, past, norm * scale, scale, x, monitor, plain)
            if not curvature > 0:
                break
            monitor.stepped(partial(subtract, x, factor, self._directions[slot]))
            norm = math.sqrt(square) / scale
            past = [(slot, curvature), *past][: self._window]
            if norm <= REPLACED_AFTER * exact and norm > monitor.tolerance:
                scale = 1.0 / norm
                norm = exact = self._true_residual(b, x, scale)
            since = yield norm
        return end_of(curvature)

    def _begin(self, b: Array, x: Array) -> tuple[Array, Array]:
        """Return `b` and `x` as the other methods take them."""
        return b, x

    def _square(self, b: Array) -> float:
        """Return `‖b‖²`."""
        from relaxon.solvers.grid.stencil_kernels import dot

        return float(dot(b, b))

    def _first_residual(self, b: Array, x: Array, scale: float) -> float:
        """Do the same as `_true_residual`, for a start that may be 0 and `scale` `1 / ‖b‖`."""
        return self._true_residual(b, x, scale)

    @abstractmethod
    def _true_residual(self, b: Array, x: Array, scale: float) -> float:
        """Replace the residual by `scale · (b − A x)`; return `‖b − A x‖`."""

    @abstractmethod
    def _advance(
        self, slot: int, past: Past, norm: float, scale: float, x: Any, monitor: Monitor, plain: bool
    ) -> tuple[float, float, float]:
        """Put the next direction `d` and its image into `slot` and step along it, for the kept `‖r‖ = norm`.

        Returns its curvature `dᵀAd`, the new `‖r‖²`, and the factor of `d` in `x`; without a positive curvature there
        was no step. With `plain` the direction is `D⁻¹ r` instead of a cycle's result.
        """
