"""A direct solver for boxes whose operator is a sum of products along the axes, refined to the tolerance."""

# Imported on first use, for its weight: `solvers.grid.stencil_kernels`.

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.core.solution import Result
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.interface.engine import Monitor, Prepared, Solver
from relaxon.solvers.separable.axes import NotSeparableError, axes_of
from relaxon.solvers.separable.system import SeparableSystem

Array = NDArray[np.float64]
MAX_ITERATIONS = 20
PROGRESS = 0.5
"""A refinement that leaves more than this part of the residual has reached float64's rounding."""
MOST_WITHOUT_PROGRESS = 2


@dataclass(frozen=True, slots=True)
class FastDiagonalisation(Solver):
    """Solve on a box in the eigenvectors of its axes: exact to rounding, without learning or iteration.

    For grids without SOLID and AIR cells whose coefficients are products of functions of one axis each (κ = 1
    included). Fast transforms serve axes whose widths and coefficients are equal, products with matrices the others.
    One application takes the residual down to some 1e-12 of `b`; another one refines it where that is not enough.
    """

    name: ClassVar[str] = "fast-diagonalisation"
    summary: ClassVar[str] = "direct, for boxes: transforms along two axes, tridiagonal systems along the third"

    def prepare(self, operator: PoissonOperator) -> Prepared:
        try:
            axes = axes_of(operator)
        except NotSeparableError as error:
            raise ValueError(
                f"solver {self.name!r} is for boxes whose coefficients are products along the axes: {error}"
            ) from error
        return self.engine(operator, SeparableSystem(axes, operator.grid.nullspace.dimension > 0))

    def engine(self, operator: PoissonOperator, system: SeparableSystem) -> Prepared:
        """Return what solves with a system that has been set up for the operator."""
        return _FastDiagonalisation(operator, system)


class _FastDiagonalisation(Prepared):
    default_max_iterations = MAX_ITERATIONS

    def __init__(self, operator: PoissonOperator, system: SeparableSystem) -> None:
        self.operator = operator
        self.system = system
        self.info = {"products": float(system.products)}

    def twin(self) -> Prepared:
        return self  # it holds nothing of a right-hand side

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        from relaxon.solvers.grid.stencil_kernels import dot

        at_zero = not x.any()
        norm = math.sqrt(dot(b, b)) if at_zero else self.operator.residual_norm(b, x)
        reason = monitor.record(norm)
        slow = 0
        for step in range(max_iterations):
            if reason is not None:
                return reason
            if step == 0 and at_zero:
                self.system.solve(b, x)
            else:
                self._refine(b, x)
            before, norm = norm, self.operator.residual_norm(b, x)
            reason = monitor.record(norm)
            slow = slow + 1 if norm > PROGRESS * before else 0
            if reason is None and slow == MOST_WITHOUT_PROGRESS:
                return Result.STAGNATED
        return reason or Result.MAX_ITERATIONS

    def _refine(self, b: Array, x: Array) -> None:
        """`x ← x + A⁻¹ (b − A x)`."""
        from relaxon.solvers.grid.stencil_kernels import residual_norm

        r = self.operator.apply(x, np.empty_like(x))
        residual_norm(b, r, r)
        self.system.solve(r, r)
        x += r
