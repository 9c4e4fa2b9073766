"""The deep conjugate direction method with the fused cycle: float32 wherever that does not cost the answer.

`x` and all sums are float64. Directions `p`, their images `q = A p` and the residual are kept in float32: `x` moves by
a multiple of a float32 vector exactly, and the images are computed from it in float64 and rounded once, so that the
residual's recurrence loses no more than rounding of `r` itself. From time to time it is replaced by the true residual.
"""

# Imported on first use, for their weight: `fused_kernels`, `solvers.grid.plane_kernels`,
# `solvers.grid.stencil_kernels`.

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.solution import Result
from relaxon.solvers.dcdm.outer import NEGLIGIBLE, SAFEGUARD_STEPS, STAGNATION_STEPS
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.interface.engine import Monitor, Prepared
from relaxon.solvers.interface.verdict import subtract
from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.krylov.iteration import Steps, end_of, iterate
from relaxon.solvers.multigrid.fused import LevelCycle

Array = NDArray[np.float64]
Single = NDArray[np.float32]
REPLACED_AFTER = 1e-4
"""The residual's recurrence is replaced by the true residual when it has fallen by this factor: float32 then still
holds three digits of it."""
FAR = 1e10
"""Where the first residual is larger or smaller than `‖b‖` by this factor, residuals are scaled by it instead of `‖b‖`,
to stay within float32's range."""
MAX_WINDOW = 2


class FusedDirections(Prepared):
    """The outer iteration on the operator of a grid with κ = 1, with a window of at most two directions.

    Beside `x` and `b` it holds, per cell, two float32 numbers and two more for each direction of the window and the
    new one, and what the cycle's levels hold.
    """

    def __init__(
        self,
        operator: PoissonOperator,
        cycle: LevelCycle,
        window: int,
        max_iterations: int,
        before: FusedDirections | None = None,
    ) -> None:
        """`before`, for a grid of the same shape, is not used any more: its arrays are taken over."""
        from relaxon.solvers.grid.plane_kernels import planes_of

        self.operator = operator
        self.cycle = cycle
        self.default_max_iterations = max_iterations
        self.info = {"window": float(window)} | cycle.info
        self._window = window
        self._shape = cycle.shape
        self._unit = cycle.unit
        count = 2 + 2 * (window + 1)
        if before is not None and before._shape == cycle.shape and len(before._work) == count:
            self._work: list[Single] = before._work
        else:
            self._work = [np.empty(cycle.shape, np.float32) for _ in range(count)]
        self._r, self._z = self._work[:2]
        self._directions, self._images = self._work[2 : 3 + window], self._work[3 + window :]
        self._flat = [planes_of(array) for array in self._work]
        """`_work` as the compiled passes take arrays."""
        self._matrix = operator.planes.matrix
        self._flat_matrix = (planes_of(self._matrix[0]), *self._matrix[1:])
        self.owned = operator.planes.cells
        """The cells that sums are over, as `plane_kernels` take them."""

    def twin(self) -> Prepared | None:
        cycle = self.cycle.twin()
        if cycle is None:
            return None
        return FusedDirections(self.operator, cycle, self._window, self.default_max_iterations)

    def _refresh(self, array: NDArray[Any]) -> None:
        """Have others' cells of an array, where there are any, take their values."""

    def _total(self, *sums: float) -> tuple[float, ...]:
        """Sums over the owned cells become those over the whole grid's."""
        return sums

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        return iterate(self._take_steps(b, x, monitor), monitor, max_iterations, STAGNATION_STEPS)

    def _take_steps(self, b: Array, x: Array, monitor: Monitor) -> Steps:
        from relaxon.solvers.dcdm import fused_kernels as kernels
        from relaxon.solvers.grid.plane_kernels import planes_of
        from relaxon.solvers.grid.stencil_kernels import dot

        b, x = b.reshape(self._shape), x.reshape(self._shape)
        x_flat = planes_of(x)
        self._refresh(x)
        past: list[tuple[int, float]] = []  # slot and curvature pᵀAp, the newest first
        scale = 1.0 / math.sqrt(self._total(dot(b, b))[0])
        norm = exact = self._first_residual(b, x, scale)
        since = yield norm
        if not 1 / FAR < norm * scale < FAR:
            scale = 1.0 / norm
            self._true_residual(b, x, scale)
        for step in itertools.count():
            slot = step % (self._window + 1)
            monitor.stepped(None)  # the slot may hold the last step's direction
            found = self._search(slot, past, norm * scale, monitor, plain=since >= SAFEGUARD_STEPS)
            curvature, projection = found
            if not curvature > 0:
                break
            alpha = projection / curvature
            factor = alpha / (scale * self._unit)
            step_r = np.float32(alpha)
            square = kernels.advance(
                x_flat, factor, self._direction(slot), self._flat[0], step_r, self._image(slot), self.owned
            )
            monitor.stepped(partial(subtract, x, factor, self._directions[slot]))
            norm = math.sqrt(self._total(square)[0]) / scale
            past = [(slot, curvature), *past][: self._window]
            if norm <= REPLACED_AFTER * exact and norm > monitor.tolerance:
                scale = 1.0 / norm
                norm = exact = self._true_residual(b, x, scale)
            since = yield norm
        return end_of(curvature)

    def _first_residual(self, b: Array, x: Array, scale: float) -> float:
        """Return `_true_residual`, without `A x` where `x` is 0; `scale` is `1 / ‖b‖`."""
        from relaxon.solvers.kernels.compiled import threads_for

        # One plane first: a start that is not 0 mostly shows there.
        zero = not x[len(x) // 2].any() and float(x.max()) == 0 == float(x.min())
        if self._total(float(not zero))[0]:
            return self._true_residual(b, x, scale)

        def scale_planes(start: int, stop: int) -> None:
            np.multiply(b[start:stop], scale, out=self._r[start:stop], casting="same_kind")

        divide(scale_planes, len(b), chunks=threads_for(b.size))
        return 1.0 / scale

    def _true_residual(self, b: Array, x: Array, scale: float) -> float:
        from relaxon.solvers.grid.plane_kernels import true_residual

        square = true_residual(b, x, self._unit, scale, self._matrix, self._r, self.owned)
        return math.sqrt(self._total(square)[0])

    def _search(
        self, slot: int, past: list[tuple[int, float]], norm: float, monitor: Monitor, plain: bool
    ) -> tuple[float, float]:
        """Put the next direction and its image into `slot`; its curvature `dᵀAd` and projection `dᵀr`."""
        from relaxon.solvers.dcdm.fused_kernels import scaled_by_diagonal

        if not plain:
            # The image's place is free until the direction is made: the cycle works in it.
            self.cycle.apply(self._r, self._images[slot], self._z)
            self._refresh(self._z)
            curvature, projection = self._make_conjugate(slot, past)
            if curvature > 0 and abs(projection) > NEGLIGIBLE * norm * math.sqrt(curvature):
                return curvature, projection
        monitor.fallbacks += 1
        scaled_by_diagonal(self._flat[0], self._flat_matrix[0], self._flat_matrix[1], self._flat[1])
        self._refresh(self._z)
        curvature, projection = self._make_conjugate(slot, past)
        # D⁻¹r may lie in the span of the window, to rounding: without it the step is plain descent.
        return (curvature, projection) if curvature > 0 else self._make_conjugate(slot, [])

    def _make_conjugate(self, slot: int, past: list[tuple[int, float]]) -> tuple[float, float]:
        from relaxon.solvers.dcdm.fused_kernels import search, two_dots

        z = self._flat[1]
        slots = [s for s, _ in past] + [past[0][0] if past else slot] * (MAX_WINDOW - len(past))
        factors = [0.0, 0.0]
        if past:
            products = self._total(*two_dots(z, self._image(slots[0]), self._image(slots[1]), self.owned))
            factors = [product / c for product, (_, c) in zip(products, past, strict=False)]
            factors += [0.0] * (MAX_WINDOW - len(factors))
        # Without a past the factors are 0 and stand beside the direction `z` itself, which is finite or is found out.
        first, second = (self._direction(s) if past else z for s in slots)
        found = search(
            z,
            self._shape[2],
            factors[0],
            first,
            factors[1],
            second,
            self._flat[0],
            *self._flat_matrix,
            self._direction(slot),
            self._image(slot),
            self.owned,
        )
        curvature, projection = self._total(*found)
        return curvature, projection

    def _direction(self, slot: int) -> Single:
        """Return direction `slot` as the compiled passes take it."""
        return self._flat[2 + slot]

    def _image(self, slot: int) -> Single:
        return self._flat[3 + self._window + slot]
