"""The deep conjugate direction method with the fused cycle: float32 wherever that does not cost the answer.

`x` and all sums are float64. Directions `p`, their images `q = A p` and the residual are kept in float32: `x` moves by
a multiple of a float32 vector exactly, and the images are computed from it in float64 and rounded once, so that the
residual's recurrence loses no more than rounding of `r` itself. From time to time it is replaced by the true residual.
"""

# Imported on first use, for their weight: `fused_kernels`, `solvers.grid.plane_kernels`,
# `solvers.grid.stencil_kernels`, `solvers.kernels.team_kernels`.

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.dcdm.outer import NEGLIGIBLE
from relaxon.solvers.dcdm.single_precision import Array, Past, Single, SinglePrecisionDirections
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.interface.engine import Monitor, Prepared
from relaxon.solvers.kernels.memory import allocate
from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.multigrid.fused import LevelCycle

if TYPE_CHECKING:
    from relaxon.solvers.multigrid.passes import StepTable

MAX_WINDOW = 2


class FusedDirections(SinglePrecisionDirections):
    """The outer iteration on the operator of a grid with κ = 1, with a window of at most two directions.

    Beside `x` and `b` it holds, per cell, a float32 number and two more for each direction of the window and the new
    one, and what the cycle's levels hold. A team of threads takes all steps of an iteration in one call, unless the
    cycle or sums are shared among processes.
    """

    shared: ClassVar[bool] = False
    """Whether several processes share the grid."""

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
        count = 1 + 2 * (window + 1)
        if before is not None and before._shape == cycle.shape and len(before._work) == count:
            self._work: list[Single] = before._work
        else:
            self._work = [allocate(cycle.shape, np.float32) for _ in range(count)]
        self._r = self._work[0]
        self._directions, self._images = self._work[1 : 2 + window], self._work[2 + window :]
        self._flat = [planes_of(array) for array in self._work]
        """`_work` as the compiled passes take arrays."""
        self._matrix = operator.planes.matrix
        self._flat_matrix = (planes_of(self._matrix[0]), *self._matrix[1:])
        self.owned = operator.planes.cells
        """The cells that sums are over, as `plane_kernels` take them."""
        self._numbers, self._parts = np.zeros(9), np.zeros((self._shape[0], 2))  # see `fused_kernels`

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

    def _begin(self, b: Array, x: Array) -> tuple[Array, Array]:
        b, x = b.reshape(self._shape), x.reshape(self._shape)
        self._refresh(x)
        return b, x

    def _square(self, b: Array) -> float:
        return self._total(super()._square(b))[0]

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

    def _advance(
        self, slot: int, past: Past, norm: float, scale: float, x: Array, monitor: Monitor, plain: bool
    ) -> tuple[float, float, float]:
        from relaxon.solvers.dcdm.fused_kernels import ALPHA, SCALE
        from relaxon.solvers.grid.plane_kernels import planes_of

        self._numbers[SCALE] = scale * self._unit
        curvature, square = self._find_step(slot, past, norm, planes_of(x), monitor, plain)
        return curvature, square, float(self._numbers[ALPHA]) / (scale * self._unit)

    def _find_step(
        self, slot: int, past: Past, norm: float, x: Array, monitor: Monitor, plain: bool
    ) -> tuple[float, float]:
        """Return the curvature and the new `‖r‖²` of `_advance`."""
        from relaxon.solvers.dcdm.fused_kernels import ACCEPTED, PLAIN

        if not plain:
            # The image's place is free until the direction is made: the cycle works in it.
            arrays = self._r, self._images[slot], self._directions[slot]
            program = self.cycle.program(*arrays)
            if program is None:
                self.cycle.apply(*arrays)
            found = self._step_along(slot, past, NEGLIGIBLE * norm, x, program, [])
            if self._numbers[ACCEPTED]:
                return found
        monitor.fallbacks += 1
        found = self._step_along(slot, past, -1.0, x, None, [PLAIN])
        # D⁻¹r may lie in the span of the window, to rounding: without it the step is plain descent.
        return found if found[0] > 0 else self._step_along(slot, [], -1.0, x, None, [PLAIN])

    def _step_along(
        self, slot: int, past: Past, least: float, x: Array, program: Any, before: list[int]
    ) -> tuple[float, float]:
        """Take the steps of a cycle or those `before`, make what they leave in `slot` conjugate, and step along it.

        Returns the curvature and, where the gain is above `least`, the new `‖r‖²`.
        """
        from relaxon.solvers.dcdm.fused_kernels import ADVANCE, CURVATURE, LEAST, MEASURE, PAST, SEARCH, SUMS, iterate
        from relaxon.solvers.kernels.team_kernels import run_team

        numbers, workspace = self._numbers, program or self._make_workspace()
        numbers[:PAST] = 0.0
        numbers[PAST:LEAST] = [c for _, c in past] + [math.inf] * (MAX_WINDOW - len(past))
        numbers[LEAST] = least
        # Without a past the factors are 0 and stand beside the direction itself, which is finite or is found out.
        slots = [s for s, _ in past] + [past[0][0] if past else slot] * (MAX_WINDOW - len(past))
        kept = tuple(array for s in slots for array in (self._direction(s), self._image(s)))
        now = (self._flat[0], self._direction(slot), self._image(slot))

        def take(steps: list[tuple[int, int]]) -> None:
            run_team(
                iterate, np.array(steps), *workspace.arguments, self._flat_matrix, self._shape[2], self.owned, x, *now,
                kept, numbers, self._parts, members=workspace.members,
            )  # fmt: skip

        steps = [(kind, 0) for kind in ([MEASURE] if past else []) + [SEARCH, ADVANCE]]
        started = (program.steps.tolist() if program else []) + [(kind, 0) for kind in before]
        if not self.shared:
            take(started + steps)
        else:
            if started:
                take(started)
            self._refresh(self._directions[slot])
            for step in steps:
                take([step])
                numbers[:PAST] = self._total(*numbers[:PAST].tolist())
        return float(numbers[CURVATURE]), float(numbers[SUMS])

    def _make_workspace(self) -> StepTable:
        from relaxon.solvers.kernels.compiled import threads_for
        from relaxon.solvers.multigrid.passes import StepTable

        return StepTable([], min(threads_for(math.prod(self._shape)), self._shape[0]), self._shape)

    def _direction(self, slot: int) -> Single:
        """Return direction `slot` as the compiled passes take it."""
        return self._flat[1 + slot]

    def _image(self, slot: int) -> Single:
        return self._flat[2 + self._window + slot]
