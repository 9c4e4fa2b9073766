"""The matrix of a grid put together face by face from an incidence matrix: an independent twin of the operator.

`A = Gᵀ W G` with a row of `G` for each open face, `+1` and `−1` at the fluid cells on its two sides, and `W` the faces'
conductances. It shares no code with `relaxon.solvers.operator` (which works on arrays of couplings).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.faces import conductances
from relaxon.solvers.grid import PoissonGrid


def assembled(grid: PoissonGrid) -> Any:
    """The CSR matrix on the unknowns in `pack` order, float64."""
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
    return (incidence.T @ diags_array(w) @ incidence).tocsr()


def _cells_beside(number: NDArray[np.int64], axis: int, periodic: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The unknowns below and above each face of an axis, −1 where there is none."""
    outside = np.full_like(number.take([0], axis), -1)
    first = number.take([-1], axis) if periodic else outside
    return np.concatenate([first, number], axis), np.concatenate([number, outside], axis)
