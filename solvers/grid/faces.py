"""The faces of a grid: which are open, the coefficient on each, and what known values beyond them add to `b`.

Along axis `a` a grid of `n` cells has `n + 1` faces; face `f` lies between cells `f − 1` and `f`. The two ends of a
periodic axis are one face, which counts at index 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import validation
from relaxon.core.cell_types import CellType
from relaxon.core.masked import fill_unused
from relaxon.solvers.grid import cell_metrics
from relaxon.solvers.grid.sides import Boundary, Robin, film_of

if TYPE_CHECKING:
    from relaxon.solvers.grid.poisson_grid import PoissonGrid

Array = NDArray[np.float64]
HALF_CELL = 2.0
"""A Dirichlet side's value stands on the face, half a cell from the centre, so that its conductance is twice κ/h²."""

SideValues = Sequence[tuple[ArrayLike | None, ArrayLike | None]]
"""For each axis the values on the (low, high) side: a number, an array of the side's shape, or None for 0."""


def openness(grid: PoissonGrid) -> tuple[Array, ...]:
    """Return what κ/h² is multiplied by at each face, one array an axis (`n + 1` long along it).

    0 where nothing flows (walls, Neumann sides, faces without a fluid cell), 2 from a cell to the face of a Dirichlet
    or a Robin side, else 1.
    """
    fluid, open_cell = grid.fluid, grid.cells != CellType.SOLID
    factors = []
    for axis, (low, high) in enumerate(grid.boundary):
        n = grid.shape[axis]
        factor = np.zeros(_longer(grid.shape, axis))
        below, above, first, last = (slab(axis, *span) for span in ((0, n - 1), (1, n), (0, 1), (n - 1, n)))
        factor[above] = open_cell[below] & open_cell[above] & (fluid[below] | fluid[above])
        if low is Boundary.PERIODIC:
            factor[first] = open_cell[last] & open_cell[first] & (fluid[last] | fluid[first])
        for side, face, cells in ((low, first, first), (high, slab(axis, n, n + 1), last)):
            if side not in (Boundary.NEUMANN, Boundary.PERIODIC):
                factor[face] = (1.0 if side is Boundary.DIRICHLET_NODE else HALF_CELL) * fluid[cells]
        factors.append(factor)
    return tuple(factors)


def face_coefficients(grid: PoissonGrid) -> tuple[Array, ...]:
    """Return κ on every face, one array an axis: 1, the grid's own face values, or the harmonic mean of cells' κ."""
    kappa = grid.coefficient
    if isinstance(kappa, tuple):
        return kappa
    if kappa is None:
        return tuple(np.ones(_longer(grid.shape, axis)) for axis in range(grid.ndim))
    return tuple(
        _harmonic_means(kappa, axis, periodic, widths)
        for axis, (periodic, widths) in enumerate(zip(grid.periodic, grid.spacing, strict=True))
    )


def face_scales(grid: PoissonGrid) -> tuple[Array, ...]:
    """Return a face's conductance over its κ, one array an axis; to the face itself at a Robin side, 0 where closed."""
    return tuple(factor * cell_metrics.face_scale(grid, axis) for axis, factor in enumerate(openness(grid)))


def films(grid: PoissonGrid) -> dict[tuple[int, int], Array]:
    """Return the conductances of Robin sides themselves, by (axis, side): arrays of length 1 across the side."""
    found = {}
    for axis, pair in enumerate(grid.boundary):
        for end, side in enumerate(pair):
            if isinstance(side, Robin):
                shape = tuple(1 if other == axis else n for other, n in enumerate(grid.shape))
                film = film_of(side, axis) * cell_metrics.film_scale(grid, axis)
                found[axis, end] = np.broadcast_to(film, shape)
    return found


def conductances(grid: PoissonGrid) -> tuple[Array, ...]:
    """`w` on every face, `openness · κ/h²` where widths are equal and no side is Robin's, so that
    `xᵀAx = Σ_f w_f (x_below − x_above)² + Σ_i s_i x_i²`, `x = 0` where known, with `s` the term of σ.
    """
    found = tuple(
        factor * kappa * cell_metrics.face_scale(grid, axis)
        for axis, (factor, kappa) in enumerate(zip(openness(grid), face_coefficients(grid), strict=True))
    )
    for (axis, end), film in films(grid).items():
        face = slab(axis, 0, 1) if end == 0 else slab(axis, grid.shape[axis], grid.shape[axis] + 1)
        found[axis][face] = cell_metrics.in_series(film, found[axis][face])
    return found


def boundary_source(
    grid: PoissonGrid, air_values: ArrayLike | None = None, side_values: SideValues | None = None
) -> Array:
    """Return what values other than 0 in AIR cells and on sides add to the right-hand side.

    The solvers hold these values at 0; `solve(grid, b + boundary_source(grid, ...))` is the solution for others.

    Parameters
    ----------
    air_values : `grid.shape` (read in AIR cells alone, where it must be finite) or one number for all of AIR.
    side_values : for each axis a (low, high) pair: None for 0, a number, or an array of the side's shape (the grid's
        without that axis). The value itself on Dirichlet sides; on a Robin side `g` of `κ ∂x/∂n + h x = g`, which is
        `h` times the value of the surroundings, or with h = 0 what flows in. Not on Neumann and periodic sides.

    Returns
    -------
    `grid.shape float64`, a density as `b` is, zero outside the fluid. Second order accurate, as the operator is.

    Examples
    --------
    >>> import numpy as np
    >>> from relaxon.solvers import PoissonGrid, boundary_source, solve
    >>> grid = PoissonGrid(np.zeros((4, 1), np.uint8), 1 / 4, ["dirichlet", "neumann"])
    >>> b = boundary_source(grid, side_values=[(0.0, 1.0), (None, None)])     # x = 0 on the left, 1 on the right
    >>> solve(grid, b, solver="cg", rtol=1e-12).x[:, 0].round(6).tolist()
    [0.125, 0.375, 0.625, 0.875]
    """
    known = validate_air_values(grid, air_values)
    sides = validate_side_values(grid, side_values)
    total = np.zeros(grid.shape)
    for axis, weight in enumerate(_weigh_known_values(grid)):
        n = grid.shape[axis]
        low, high = (np.expand_dims(side, axis) for side in sides[axis])
        around = known[slab(axis, n - 1, n)] if grid.periodic[axis] else low
        below = np.concatenate([around, known], axis)
        above = np.concatenate([known, high], axis)
        upper, lower = slab(axis, 0, n), slab(axis, 1, n + 1)
        total += weight[upper] * below[upper] + weight[lower] * above[lower]
        if grid.periodic[axis]:
            total[slab(axis, n - 1, n)] += weight[slab(axis, 0, 1)] * known[slab(axis, 0, 1)]
    if grid.row_weights is not None:
        total /= grid.row_weights
    total[~grid.fluid] = 0
    return total


def _weigh_known_values(grid: PoissonGrid) -> tuple[Array, ...]:
    """Return what each face adds to its cell's row for a known value of 1 beyond it: `conductances`, except Robin."""
    films_of, scales = films(grid), face_scales(grid) if films(grid) else ()
    found = conductances(grid)
    for (axis, end), film in films_of.items():
        face = slab(axis, 0, 1) if end == 0 else slab(axis, grid.shape[axis], grid.shape[axis] + 1)
        inside = scales[axis][face] * face_coefficients(grid)[axis][face]
        found[axis][face] = cell_metrics.film_scale(grid, axis) * cell_metrics.share_of(inside, film)
    return found


def validate_air_values(grid: PoissonGrid, values: ArrayLike | None) -> Array:
    """Return the known values on `grid.shape` float64, 0 outside AIR; ValueError for a wrong shape or NaN in AIR."""
    known = np.zeros(grid.shape)
    if values is None:
        return known
    array = np.asarray(fill_unused("air_values", values, lambda: grid.cells == CellType.AIR))
    if array.dtype.kind not in "fiu":
        raise TypeError(f"air_values must be real numbers, got dtype {array.dtype}")
    if array.shape not in ((), grid.shape):
        raise ValueError(f"air_values must be one number or have the grid's shape {grid.shape}, got {array.shape}")
    np.copyto(known, array, where=grid.cells == CellType.AIR)
    if not np.isfinite(known).all():
        raise ValueError("air_values must be finite in the AIR cells, got NaN or infinity there")
    return known


def validate_side_values(grid: PoissonGrid, values: SideValues | None) -> tuple[tuple[Array, Array], ...]:
    """Return for each axis the values on both sides, each of the side's shape float64; 0 where nothing is given."""
    if values is None:
        values = [(None, None)] * grid.ndim
    check_side_pairs(grid, values)
    checked = []
    for axis, pair in enumerate(values):
        shape = side_shape(grid, axis)
        sides = []
        for side, value in enumerate(pair):
            if value is None:
                sides.append(np.zeros(shape))
                continue
            name = f"side_values[{axis}][{side}]"
            array = validation.real_array(name, np.atleast_1d(value))
            if np.ndim(value) and array.shape != shape:
                raise ValueError(f"{name} must be one number or have the side's shape {shape}, got {array.shape}")
            sides.append(np.broadcast_to(array, shape).astype(np.float64))
        checked.append((sides[0], sides[1]))
    return tuple(checked)


def check_side_pairs(grid: PoissonGrid, values: Sequence[Any]) -> None:
    """Raise ValueError unless there is a pair for each axis, with values only on sides that hold one."""
    if isinstance(values, str | bytes) or not isinstance(values, Sequence) or len(values) != grid.ndim:
        raise ValueError(f"side_values must hold {grid.ndim} (low, high) pairs, one an axis, got {values!r}")
    for axis, pair in enumerate(values):
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise ValueError(f"side_values[{axis}] must be a (low, high) pair, got {pair!r}")
        for side, value in enumerate(pair):
            kind = grid.boundary[axis][side]
            if value is not None and kind in (Boundary.NEUMANN, Boundary.PERIODIC):
                raise ValueError(f"side_values[{axis}][{side}] must be None on a {kind} side, got {value!r}")


def side_shape(grid: PoissonGrid, axis: int) -> tuple[int, ...]:
    """Return the shape of a side across `axis`."""
    return tuple(n for other, n in enumerate(grid.shape) if other != axis)


def slab(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    """Return the index of layers `start … stop` along an axis."""
    return (slice(None),) * axis + (slice(start, stop),)


def _harmonic_means(kappa: Array, axis: int, periodic: bool, widths: float | Array) -> Array:
    n = kappa.shape[axis]
    first, last = kappa[slab(axis, 0, 1)], kappa[slab(axis, n - 1, n)]
    below, above = np.concatenate([last, kappa], axis), np.concatenate([kappa, first], axis)
    if isinstance(widths, np.ndarray):
        part, rest = (
            share.reshape([-1 if other == axis else 1 for other in range(kappa.ndim)])
            for share in cell_metrics.half_shares(widths, n, periodic)
        )
        mean: Array = 1.0 / (part / below + rest / above)
    else:
        mean = 2.0 / (1.0 / below + 1.0 / above)
    if not periodic:
        mean[slab(axis, 0, 1)], mean[slab(axis, n, n + 1)] = first, last
    return mean


def _longer(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return tuple(n + (other == axis) for other, n in enumerate(shape))
