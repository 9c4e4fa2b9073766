"""The deep conjugate direction method where couplings vary, in float32 wherever that does not cost the answer.

As in `relaxon.solvers.dcdm.fused`, `x` and all sums are float64, directions, images and the residual float32. Images
are computed in float64 from the float64 couplings and rounded once, and the residual's recurrence is replaced by the
true residual from time to time.
"""

# Imported on first use, for their weight: `coupled_kernels`, `solvers.grid.stencil_kernels`.
from __future__ import annotations

import math
from typing import Any

import numpy as np

from relaxon.solvers.dcdm.outer import NEGLIGIBLE
from relaxon.solvers.dcdm.single_precision import Past, SinglePrecisionDirections
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.interface.engine import Monitor, Prepared
from relaxon.solvers.multigrid.cycle import Array, Single, run_cycle
from relaxon.solvers.multigrid.swept import SweptCycle


class CoupledDirections(SinglePrecisionDirections):
    """The outer iteration on the operator of a grid without periodic axes, with a window of one direction.

    The residual is the right-hand side of the cycle's finest level. Beside it, `x` and `b` there are, per cell, two
    directions and two images in float32, and what the cycle's levels hold.
    """

    by_planes = False
    _window = 1

    def __init__(self, operator: PoissonOperator, cycle: SweptCycle, max_iterations: int) -> None:
        self.operator = operator
        self.cycle = cycle
        self.default_max_iterations = max_iterations
        self.info = {"window": 1.0} | cycle.info
        shape = operator.grid.shape3
        self._fluid = operator.grid.fluid.reshape(-1)
        self._matrix = [array.reshape(-1) for array in (operator.diagonal, *operator.couplings)]
        self._directions, self._images = (np.zeros((2, *shape), np.float32) for _ in range(2))

    def twin(self) -> Prepared | None:
        return CoupledDirections(self.operator, self.cycle.twin(), self.default_max_iterations)

    @property
    def _r(self) -> Single:
        return self.cycle.levels[0].r

    def _advance(
        self, slot: int, past: Past, norm: float, scale: float, x: Array, monitor: Monitor, plain: bool
    ) -> tuple[float, float, float]:
        from relaxon.solvers.dcdm.coupled_kernels import advance

        curvature, projection = self._search(slot, past[0][1] if past else None, norm, monitor, plain)
        if not curvature > 0:
            return curvature, 0.0, 0.0
        alpha = projection / curvature
        factor = alpha / (scale * self.cycle.unit)
        flat = [array.reshape(len(x), -1) for array in (x, self._directions[slot], self._r, self._images[slot])]
        square = advance(flat[0], factor, flat[1], flat[2], np.float32(alpha), flat[3])
        return curvature, square, factor

    def _true_residual(self, b: Array, x: Array, scale: float) -> float:
        from relaxon.solvers.grid.stencil_kernels import residual_norm, scaled

        r = self.operator.apply(x, np.empty_like(x))
        square = residual_norm(b, r, r)
        scaled(r, scale, self._r)
        return math.sqrt(square)

    def _search(self, slot: int, past: float | None, norm: float, monitor: Monitor, plain: bool) -> tuple[float, float]:
        """Put the next direction and its image into `slot`; its curvature `dᵀAd` and projection `dᵀr`."""
        finest = self.cycle.levels[0]
        if not plain:
            run_cycle(self.cycle.levels)
            curvature, projection = self._make_conjugate(slot, past, finest.x)
            if curvature > 0 and abs(projection) > NEGLIGIBLE * norm * math.sqrt(curvature):
                return curvature, projection
        monitor.fallbacks += 1
        diagonal = self.operator.diagonal
        descent = np.divide(finest.r, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
        z = (self.cycle.unit * descent).astype(np.float32)
        curvature, projection = self._make_conjugate(slot, past, z)
        # D⁻¹r may lie in the span of the window, to rounding: without it the step is plain descent.
        return (curvature, projection) if curvature > 0 else self._make_conjugate(slot, None, z)

    def _make_conjugate(self, slot: int, past: float | None, z: Single) -> tuple[float, float]:
        from relaxon.solvers.dcdm import coupled_kernels

        factor, shape = 0.0, z.shape
        if past is not None:
            flat = [array.reshape(len(z), -1) for array in (z, self._images[1 - slot])]
            factor = coupled_kernels.multiply(*flat) / past
        d = self._directions[slot].reshape(-1)
        # Without a past the factor is 0 and stands beside the direction `z` itself, which is finite or is found out.
        before: Any = z if past is None else self._directions[1 - slot]
        coupled_kernels.conjugate(z.reshape(-1), self._fluid, np.float32(factor), before.reshape(-1), d)
        arrays = (d, self._r.reshape(-1), self._images[slot].reshape(-1))
        lengths = (shape[2], shape[1] * shape[2])
        curvature, projection = coupled_kernels.image(*lengths, *self._matrix, 1 / self.cycle.unit, *arrays)
        return curvature, projection
