"""The matrix of a grid, assembled face by face from an incidence matrix: an independent twin of the operator.

`A = Gᵀ W G + S`, where `G` has a row for each open face with `+1` and `−1` at the fluid cells on its two sides, `W` are
the conductances of faces and `S` is the reaction. It shares no code with `relaxon.solvers.grid.operator`, which works
on couplings.
"""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.faces import conductances
from relaxon.solvers.grid.poisson_grid import PoissonGrid


def assembled(grid: PoissonGrid) -> Any:
    """Return the CSR matrix on the unknowns in `pack` order, float64."""
    from scipy.sparse import coo_array, diags_array

    number = np.full(grid.shape, -1, np.int64)
    number[grid.fluid] = np.arange(grid.unknowns)
    ends, weights = [], []
    for axis, weight in enumerate(conductances(grid)):
        below, above = _cells_beside(number, axis, grid.periodic[axis])
        open_face = (weight > 0) & ((below >= 0) | (above >= 0)) & (below != above)
        ends.append(np.stack([below[open_face], above[open_face]]))
        weights.append(weight[open_face])
    sides, w = np.concatenate(ends, axis=1), np.concatenate(weights)
    faces = np.arange(sides.shape[1])
    entries = [(1.0, 0), (-1.0, 1)]
    rows = np.concatenate([faces[sides[side] >= 0] for _, side in entries])
    columns = np.concatenate([sides[side][sides[side] >= 0] for _, side in entries])
    values = np.concatenate([np.full(int((sides[side] >= 0).sum()), sign) for sign, side in entries])
    incidence = coo_array((values, (rows, columns)), shape=(len(faces), grid.unknowns)).tocsr()
    matrix = (incidence.T @ diags_array(w) @ incidence).tocsr()
    return matrix if grid.reaction is None else (matrix + diags_array(_reaction(grid))).tocsr()


def _reaction(grid: PoissonGrid) -> NDArray[np.float64]:
    """Return σ times each unknown's volume that is not cut away, over that of the mean cell, `(unknowns,)`."""
    reaction = np.broadcast_to(np.asarray(grid.reaction, np.float64), grid.shape)
    return weigh_by_volume(grid, reaction)[grid.fluid]


def weigh_by_volume(grid: PoissonGrid, density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a density of cells times each cell's volume that is not cut away, over that of the mean cell."""
    found = density.copy()
    if grid.volume is not None:
        found *= grid.volume
    for axis, widths in enumerate(grid.spacing):
        along = np.broadcast_to(widths, grid.shape[axis])
        found *= (along / along.mean()).reshape([-1 if other == axis else 1 for other in range(grid.ndim)])
    return found


def _cells_beside(number: NDArray[np.int64], axis: int, periodic: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the unknowns below and above each face of an axis, −1 where there is none."""
    outside = np.full_like(number.take([0], axis), -1)
    first = number.take([-1], axis) if periodic else outside
    return np.concatenate([first, number], axis), np.concatenate([number, outside], axis)
