"""The true residual of a Poisson system, by an operator that shares no code with the solvers.

The solvers apply `A` as a stencil with a diagonal. Here `A x` is what the finite volumes mean: the flux
`κ_f (x_i − x_j)/h_a` through every face, summed over each cell's faces. NumPy only, float64 throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid import Boundary, CellType, PoissonGrid

ROUNDINGS_A_ROW = 8
"""A row adds up to six differences and the right-hand side: each rounds by at most half an ulp of its size."""


@dataclass(frozen=True, slots=True)
class TrueResidual:
    """`relative` is ‖b − A x‖₂ / ‖b‖₂ over the fluid cells (0 where both are 0); `rounding` bounds its own error."""

    relative: float
    rounding: float

    def meets(self, rtol: float) -> bool:
        """Whether the residual is below `rtol`, to the rounding of this very computation."""
        return self.relative <= rtol + self.rounding


def true_residual(grid: PoissonGrid, b: NDArray[Any], x: NDArray[Any]) -> TrueResidual:
    """The relative residual of full arrays `b` and `x` (`grid.shape`; values outside the fluid are ignored)."""
    fluid = grid.cells == CellType.FLUID
    solution = np.where(fluid, x, 0.0).astype(np.float64, copy=False)
    right = np.where(fluid, b, 0.0).astype(np.float64, copy=False)
    outflow, magnitude = np.zeros(grid.shape), np.zeros(grid.shape)
    for axis in range(grid.ndim):
        _add_fluxes(grid, solution, axis, outflow, magnitude)
    remaining = np.where(fluid, right - outflow, 0.0)
    norm, size = float(np.linalg.norm(right)), float(np.linalg.norm(remaining))
    if norm == 0.0:
        return TrueResidual(0.0 if size == 0.0 else float("inf"), 0.0)
    rounded = np.where(fluid, magnitude + np.abs(right), 0.0)
    unit = ROUNDINGS_A_ROW * float(np.finfo(np.float64).eps)
    return TrueResidual(size / norm, unit * float(np.linalg.norm(rounded)) / norm)


def _add_fluxes(
    grid: PoissonGrid, x: NDArray[np.float64], axis: int, outflow: NDArray[np.float64], size: NDArray[np.float64]
) -> None:
    """Add each cell's net outflow along an axis, per unit of volume, and the magnitudes it is made of."""
    low, high = grid.boundary[axis]
    n = grid.shape[axis]
    below, above = _cut(axis, 0, n - 1), _cut(axis, 1, n)
    first, last = _cut(axis, 0, 1), _cut(axis, n - 1, n)
    kappa_low, kappa_inner, kappa_high = _face_kappa(grid, axis)
    per_volume = grid.spacing[axis] ** -2
    open_cell = grid.cells != CellType.SOLID

    def exchange(one: Any, other: Any, kappa: Any) -> None:
        passes = (open_cell[one] & open_cell[other]) * (kappa * per_volume)
        flux = passes * (x[one] - x[other])
        outflow[one] += flux
        outflow[other] -= flux
        scale = passes * (np.abs(x[one]) + np.abs(x[other]))
        size[one] += scale
        size[other] += scale

    exchange(below, above, kappa_inner)
    if low is Boundary.PERIODIC:
        exchange(last, first, kappa_low)
    for side, cells, kappa in ((low, first, kappa_low), (high, last, kappa_high)):
        if side is Boundary.DIRICHLET:
            # The known value 0 lies half a cell away.
            flux = 2.0 * kappa * per_volume * x[cells]
            outflow[cells] += flux
            size[cells] += np.abs(flux)


def _face_kappa(grid: PoissonGrid, axis: int) -> tuple[Any, Any, Any]:
    """κ on the low side, between cells, and on the high side of an axis."""
    kappa, n = grid.coefficient, grid.shape[axis]
    if kappa is None:
        return 1.0, 1.0, 1.0
    if isinstance(kappa, tuple):
        return tuple(kappa[axis][_cut(axis, *span)] for span in ((0, 1), (1, n), (n, n + 1)))  # type: ignore[return-value]
    one, other = kappa[_cut(axis, 0, n - 1)], kappa[_cut(axis, 1, n)]
    first, last = kappa[_cut(axis, 0, 1)], kappa[_cut(axis, n - 1, n)]
    if grid.boundary[axis][0] is Boundary.PERIODIC:
        around = 2.0 * first * last / (first + last)
        return around, 2.0 * one * other / (one + other), around
    return first, 2.0 * one * other / (one + other), last


def _cut(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(start, stop),)
