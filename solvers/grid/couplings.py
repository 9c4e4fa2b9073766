"""The entries of a grid's operator: couplings between cells and to what sides hold, and the diagonal, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.cell_types import CellType
from relaxon.solvers.grid import cell_metrics
from relaxon.solvers.grid.faces import films, slab
from relaxon.solvers.grid.sides import Boundary, Robin, Side, film_of

if TYPE_CHECKING:
    from relaxon.solvers.grid.poisson_grid import PoissonGrid

Array = NDArray[np.float64]


def couplings_and_diagonal(grid: PoissonGrid) -> tuple[list[Array], Array]:
    """Return the couplings of fluid cells to the neighbour below, per axis, and the diagonal, float64 on `shape3`."""
    fluid = grid.fluid.reshape(grid.shape3)
    couplings, sides = open_faces(grid), by_layer(side_couplings(grid))
    air = has_air(grid)
    diagonal = np.zeros(grid.shape3)
    for axis, face in enumerate(couplings):
        diagonal += face
        add_faces_above(diagonal, face, axis)
        for across, layer, values in sides:
            if across == axis:
                diagonal[layer] += values
        if air:
            face *= fluid & np.roll(fluid, 1, axis)
    term = reaction_term(grid)
    if term is not None:
        diagonal += term
    diagonal[~fluid] = 0
    return couplings, diagonal


def add_faces_above(total: Array, face: Array, axis: int) -> None:
    """Add to each cell of `total` its face towards the next cell along `axis`, in place; `face` holds those below.

    The face below the first cell is that around a periodic axis, or 0, and so the one above the last cell too.
    """
    n = face.shape[axis]
    total[slab(axis, 0, n - 1)] += face[slab(axis, 1, n)]
    total[slab(axis, n - 1, n)] += face[slab(axis, 0, 1)]


def has_air(grid: PoissonGrid) -> bool:
    """Return whether any cell is AIR. Where none is, `open_faces` are the operator's couplings."""
    return bool((grid.cells == CellType.AIR).any())


def open_faces(grid: PoissonGrid) -> list[Array]:
    """Return the couplings through the face below each cell, per axis, 0 beside a SOLID cell: new `shape3` float64.

    Unlike the operator's `couplings` they hold the faces beside AIR cells as well.
    """
    opened = grid.cells != CellType.SOLID
    faces = [np.zeros(grid.shape3) for _ in range(3 - grid.ndim)]
    inverse = 1.0 / grid.coefficient if isinstance(grid.coefficient, np.ndarray) else None
    for axis, (low, _) in enumerate(grid.boundary):
        n = grid.shape[axis]
        first, last = slab(axis, 0, 1), slab(axis, n - 1, n)
        below, above = slab(axis, 0, n - 1), slab(axis, 1, n)
        scale_low, scale_inside, _ = _face_scales(grid, axis)
        face = np.empty(grid.shape)
        face[first] = 0
        # In place: temporary arrays of this size are fresh memory, which takes longer than their arithmetic.
        inside = face[above]
        _fill_inner_coefficients(grid, axis, inverse, inside)
        inside *= scale_inside
        inside *= opened[below] & opened[above]
        # A cell that is its own neighbour around a periodic axis is not coupled.
        if low is Boundary.PERIODIC and n > 1:
            face[first] = scale_low * _around(grid, axis, inverse) * (opened[first] & opened[last])
        faces.append(face.reshape(grid.shape3))
    return faces


@dataclass(frozen=True, slots=True)
class SideCouplings:
    """Couplings of the layer of cells beside a side to what it holds."""

    axis: int
    layer: tuple[slice, ...]
    """Where the cells are in arrays of `shape3`."""
    values: Array
    by_film: bool
    """Whether through a Robin side's film alone."""


def side_couplings(grid: PoissonGrid) -> list[SideCouplings]:
    """Return the couplings to sides that hold a value; the two of an axis one cell long are of the same layer."""
    lead = 3 - grid.ndim
    found = []
    for axis, pair in enumerate(grid.boundary):
        n, (scale_low, _, scale_high) = grid.shape[axis], _face_scales(grid, axis)
        layers = [slab(axis, 0, 1), slab(axis, n - 1, n)]
        kappa_low, kappa_high = _side_coefficients(grid, axis)
        wholes = scale_low * kappa_low, scale_high * kappa_high
        for side, layer, whole in zip(pair, layers, wholes, strict=True):
            if side not in (Boundary.NEUMANN, Boundary.PERIODIC):
                values = side_conductance(grid, axis, side, whole) * (grid.cells[layer] != CellType.SOLID)
                place = (slice(None),) * lead + layer
                found.append(SideCouplings(lead + axis, place, values, isinstance(side, Robin)))
    return found


def film_parts(grid: PoissonGrid) -> dict[tuple[int, int], tuple[Array, Array]]:
    """Return for each Robin side, by (axis, end), the conductances to what it holds, and the parts of their resistances
    that lie in the cells. Both arrays are of length 1 across the side."""
    sides = [side for side in side_couplings(grid) if side.by_film]
    found = {}
    for (place, film), side in zip(films(grid).items(), sides, strict=True):
        held = side.values * grid.fluid[side.layer[3 - grid.ndim :]]
        found[place] = held, 1.0 - np.divide(held, film, out=np.ones(held.shape), where=held > 0)
    return found


def by_layer(sides: list[SideCouplings]) -> list[tuple[int, tuple[slice, ...], Array]]:
    """Return axis, layer and couplings; both sides of an axis one cell long are of one layer, and are added up."""
    found: list[tuple[int, tuple[slice, ...], Array]] = []
    for side in sides:
        if found and found[-1][:2] == (side.axis, side.layer):
            found[-1] = (side.axis, side.layer, found[-1][2] + side.values)
        else:
            found.append((side.axis, side.layer, side.values))
    return found


def side_conductance(grid: PoissonGrid, axis: int, side: Side, whole: Any) -> Any:
    """Return the conductance from the cells at a side to what it holds; `whole` is κ over a cell's width, scaled.

    It is twice that to a Dirichlet side, whose value stands on the face, and once to a value on a node a cell away; at
    a Robin side the half cell and the film of conductance h are in series.
    """
    if isinstance(side, Robin):
        return cell_metrics.in_series(film_of(side, axis) * cell_metrics.film_scale(grid, axis), 2 * whole)
    return 2 * whole if side is Boundary.DIRICHLET else whole


def reaction_term(grid: PoissonGrid) -> Array | None:
    """Return what σ adds to the diagonal, `shape3` float64, 0 outside the fluid; None for σ = 0."""
    if grid.reaction is None:
        return None
    weights = grid.row_weights
    term = np.where(grid.fluid, grid.reaction if weights is None else grid.reaction * weights, 0.0)
    return term.reshape(grid.shape3)


def _face_scales(grid: PoissonGrid, axis: int) -> tuple[Any, Any, Any]:
    """Return what κ is multiplied by on the low side, the inner faces and the high side of an axis."""
    scale, n = cell_metrics.face_scale(grid, axis), grid.shape[axis]
    if isinstance(scale, float):
        return scale, scale, scale
    return scale[slab(axis, 0, 1)], scale[slab(axis, 1, n)], scale[slab(axis, n, n + 1)]


def _fill_inner_coefficients(grid: PoissonGrid, axis: int, inverse: Array | None, out: Array) -> None:
    """Put κ on the inner faces of an axis into `out`.

    `inverse` is 1/κ where κ is given in cells: an inner face has the harmonic mean of its two cells, `2 / (1/a + 1/b)`
    where these are of equal widths.
    """
    n, kappa = grid.shape[axis], grid.coefficient
    if inverse is None:
        out[...] = 1.0 if not isinstance(kappa, tuple) else kappa[axis][slab(axis, 1, n)]
        return
    one, other, shares = inverse[slab(axis, 0, n - 1)], inverse[slab(axis, 1, n)], _half_shares(grid, axis)
    if shares is None:
        np.add(one, other, out=out)
        np.divide(2.0, out, out=out)
        return
    np.multiply(one, shares[0][slab(axis, 1, n)], out=out)
    out += other * shares[1][slab(axis, 1, n)]
    np.divide(1.0, out, out=out)


def _around(grid: PoissonGrid, axis: int, inverse: Array | None) -> Any:
    """Return κ on the face between the two ends of a periodic axis (1 where it is constant)."""
    n = grid.shape[axis]
    if inverse is None:
        return _side_coefficients(grid, axis)[0]
    first, last, shares = inverse[slab(axis, 0, 1)], inverse[slab(axis, n - 1, n)], _half_shares(grid, axis)
    if shares is None:
        return 2.0 / (first + last)
    return 1.0 / (first * shares[1][slab(axis, 0, 1)] + last * shares[0][slab(axis, 0, 1)])


def _half_shares(grid: PoissonGrid, axis: int) -> tuple[Array, Array] | None:
    """Return the parts of the distance across each face that lie in the cells below and above; None where halves."""
    widths = grid.spacing[axis]
    if not isinstance(widths, np.ndarray):
        return None
    shape = [-1 if other == axis else 1 for other in range(grid.ndim)]
    below, above = cell_metrics.half_shares(widths, grid.shape[axis], grid.periodic[axis])
    return below.reshape(shape), above.reshape(shape)


def _side_coefficients(grid: PoissonGrid, axis: int) -> tuple[Any, Any]:
    """Return κ on the low and the high side of an axis (1 where it is constant)."""
    n, kappa = grid.shape[axis], grid.coefficient
    if kappa is None:
        return 1.0, 1.0
    if isinstance(kappa, tuple):
        return kappa[axis][slab(axis, 0, 1)], kappa[axis][slab(axis, n, n + 1)]
    return kappa[slab(axis, 0, 1)], kappa[slab(axis, n - 1, n)]
