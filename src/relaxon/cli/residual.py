"""The true residual of a Poisson system, computed by an operator that shares no code with the solvers.

The solvers apply `A` as a stencil with a diagonal. Here `A x` is computed from the finite volumes themselves: the flux
`κ_f (x_i − x_j)/h_a` through every face is summed over the faces of each cell. NumPy only, float64 throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.scaling import exponent_of, is_safe
from relaxon.solvers.grid.poisson_grid import Boundary, CellType, PoissonGrid, Robin
from relaxon.solvers.grid.scaled import scale_grid

ROUNDINGS_A_ROW = 8
"""Roundings in a row, which adds up to six differences and the right-hand side, each rounded by half an ulp at most."""
DECIDED = 1e4
"""A cell whose total conductance is this many times its conductance to fluid cells is decided by its own row."""


@dataclass(frozen=True, slots=True)
class TrueResidual:
    """The recomputed residuals of a solution.

    `relative` is ‖b − A x‖₂ / ‖b‖₂ over the fluid cells (0 where both are 0), and `rounding` bounds its error. `scaled`
    is ‖D^−½ r‖ / ‖D^−½ b‖ over the cells that are left when decided cells are eliminated (0 where κ is 1), and
    `scaled_rounding` bounds its error. `backward_error` is max |r| / (|A||x| + |b|) over the cells.
    """

    relative: float
    rounding: float
    scaled: float
    scaled_rounding: float
    backward_error: float

    def meets(self, rtol: float) -> bool:
        """Return whether both residuals are below `rtol`, up to the rounding of their computation."""
        return self.relative <= rtol + self.rounding and self.scaled <= rtol + self.scaled_rounding


@dataclass(slots=True)
class _Flows:
    """Sums over the faces of each cell: outflow, its magnitude, conductance in total and to fluid cells."""

    outflow: NDArray[np.float64]
    size: NDArray[np.float64]
    total: NDArray[np.float64]
    inner: NDArray[np.float64]


def true_residual(grid: PoissonGrid, b: NDArray[Any], x: NDArray[Any]) -> TrueResidual:
    """Return the residuals of full arrays `b` and `x` (`grid.shape`; values outside the fluid are ignored)."""
    fluid = grid.cells == CellType.FLUID
    grid, exponent = scale_grid(grid)
    right = np.where(fluid, b, 0.0).astype(np.float64, copy=False)
    shares = _volume_shares(grid)
    if shares is not None:
        right = right * shares
    # Scaled by a power of two, so that squares of very small and very large numbers stay in range.
    largest = float(np.abs(right).max())
    own = 0 if largest == 0 or is_safe(largest) else exponent_of(largest)
    right = np.ldexp(right, -own)
    solution = np.ldexp(np.where(fluid, x, 0.0).astype(np.float64, copy=False), exponent - own)
    flows = _sum_flows(grid, solution)
    remaining = np.where(fluid, right - flows.outflow, 0.0)
    magnitude = np.where(fluid, flows.size + np.abs(right), 0.0)
    unit = ROUNDINGS_A_ROW * float(np.finfo(np.float64).eps)
    backward = float(np.divide(np.abs(remaining), magnitude, out=np.zeros(grid.shape), where=magnitude > 0).max())
    relative, rounding = _relate_norms(right, remaining, unit * magnitude)
    if grid.constant:
        return TrueResidual(relative, rounding, 0.0, 0.0, backward)
    decided = fluid & (flows.total > 0) & (flows.total >= DECIDED * flows.inner)
    known = _sum_flows(grid, np.where(decided, solution, 0.0)).outflow if decided.any() else 0.0
    left = fluid & ~decided & (flows.total > 0)
    root = np.sqrt(np.divide(flows.total.max(), flows.total, out=np.zeros(grid.shape), where=left))
    scaled = _relate_norms(root * (right - known), root * remaining, unit * root * magnitude)
    return TrueResidual(relative, rounding, *scaled, backward)


def _relate_norms(right: Any, remaining: Any, rounded: Any) -> tuple[float, float]:
    """Return `‖remaining‖/‖right‖` and `‖rounded‖/‖right‖`; infinity and 0 where the right-hand side is 0."""
    norm, size = float(np.linalg.norm(right)), float(np.linalg.norm(remaining))
    if norm == 0.0:
        return (0.0 if size <= float(np.linalg.norm(rounded)) else float("inf")), 0.0
    return size / norm, float(np.linalg.norm(rounded)) / norm


def _sum_flows(grid: PoissonGrid, x: NDArray[np.float64]) -> _Flows:
    flows = _Flows(*(np.zeros(grid.shape) for _ in range(4)))
    for axis in range(grid.ndim):
        _add_fluxes(grid, x, axis, flows)
    if grid.reaction is not None:
        shares = _volume_shares(grid)
        term = np.where(grid.cells == CellType.FLUID, grid.reaction * (1.0 if shares is None else shares), 0.0)
        flows.outflow[...] += term * x
        flows.size[...] += np.abs(term * x)
        flows.total[...] += term
    return flows


def _volume_shares(grid: PoissonGrid) -> NDArray[np.float64] | None:
    """Return the volume of each cell in mean cells; None for 1 everywhere."""
    found: Any = None if grid.volume is None else grid.volume
    for axis, widths in enumerate(grid.spacing):
        if isinstance(widths, np.ndarray):
            found = (1.0 if found is None else found) * _broadcast_along(widths, axis, grid.ndim) / widths.mean()
    return None if found is None else np.broadcast_to(found, grid.shape)


def _broadcast_along(values: Any, axis: int, ndim: int) -> Any:
    return np.reshape(values, [-1 if other == axis else 1 for other in range(ndim)])


def _add_fluxes(grid: PoissonGrid, x: NDArray[np.float64], axis: int, flows: _Flows) -> None:
    """Add the net outflow of each cell along an axis, per unit of volume, and the other sums of `_Flows`."""
    low, high = grid.boundary[axis]
    n = grid.shape[axis]
    below, above = _slice_along(axis, 0, n - 1), _slice_along(axis, 1, n)
    first, last = _slice_along(axis, 0, 1), _slice_along(axis, n - 1, n)
    kappa_low, kappa_inner, kappa_high = _face_kappa(grid, axis)
    area = np.ones((1,) * grid.ndim) / grid.mean_spacing[axis]
    for other, widths in enumerate(grid.spacing):
        if other != axis and isinstance(widths, np.ndarray):
            area = area * _broadcast_along(widths, other, grid.ndim) / widths.mean()
    width = _broadcast_along(np.broadcast_to(grid.spacing[axis], n), axis, grid.ndim)
    open_cell, fluid = grid.cells != CellType.SOLID, grid.cells == CellType.FLUID

    def exchange(one: Any, other: Any, kappa: Any) -> None:
        passes = (open_cell[one] & open_cell[other]) * (kappa * area / (0.5 * (width[one] + width[other])))
        flux = passes * (x[one] - x[other])
        flows.outflow[one] += flux
        flows.outflow[other] -= flux
        scale = passes * (np.abs(x[one]) + np.abs(x[other]))
        for side, beside in ((one, other), (other, one)):
            flows.size[side] += scale
            flows.total[side] += passes
            flows.inner[side] += passes * fluid[beside]

    exchange(below, above, kappa_inner)
    if low is Boundary.PERIODIC and n > 1:
        exchange(last, first, kappa_low)
    for side, cells, kappa in ((low, first, kappa_low), (high, last, kappa_high)):
        conductance: Any = 0.0
        if side is Boundary.DIRICHLET:
            conductance = 2.0 * kappa * area / width[cells]  # the known value 0 lies half a cell away
        elif side is Boundary.DIRICHLET_NODE:
            conductance = kappa * area / width[cells]
        elif isinstance(side, Robin):
            film = np.expand_dims(side.h, axis) if np.ndim(side.h) else np.asarray(side.h)
            inside = 2.0 * kappa / width[cells] + 0.0 * film
            conductance = area * np.divide(film * inside, film + inside, out=0.0 * inside, where=film + inside > 0)
        flux = conductance * x[cells]
        flows.outflow[cells] += flux
        flows.size[cells] += np.abs(flux)
        flows.total[cells] += conductance * np.ones_like(flux)


def _face_kappa(grid: PoissonGrid, axis: int) -> tuple[Any, Any, Any]:
    """Return κ on the low side, between cells, and on the high side of an axis."""
    kappa, n = grid.coefficient, grid.shape[axis]
    if kappa is None:
        return 1.0, 1.0, 1.0
    if isinstance(kappa, tuple):
        return tuple(kappa[axis][_slice_along(axis, *span)] for span in ((0, 1), (1, n), (n, n + 1)))  # type: ignore[return-value]
    width = _broadcast_along(np.broadcast_to(grid.spacing[axis], n), axis, grid.ndim)

    def mean(one: Any, other: Any) -> Any:
        return (width[one] + width[other]) / (width[one] / kappa[one] + width[other] / kappa[other])

    first, last = _slice_along(axis, 0, 1), _slice_along(axis, n - 1, n)
    inner = mean(_slice_along(axis, 0, n - 1), _slice_along(axis, 1, n))
    if grid.boundary[axis][0] is Boundary.PERIODIC:
        around = mean(first, last)
        return around, inner, around
    return kappa[first], inner, kappa[last]


def _slice_along(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(start, stop),)
