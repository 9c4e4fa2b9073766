"""Recognition of a DMDA's matrix as the operator of a grid where κ varies or something holds cells: row by row.

Any symmetric matrix of five or seven points whose couplings have one sign, and whose rows do not sum to less than 0, is
that of a grid with a coefficient on each face and a reaction. What the rows beside a side hold beyond their couplings
counts as a Dirichlet side where it is as large as a coupling, as the multigrid then knows where the value is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.distributed.communicator import Communicator, any_failure, as_communicator
from relaxon.solvers.grid.poisson_grid import CellType, Sides, validate_boundary
from relaxon.solvers.petsc.layout import Layout
from relaxon.solvers.petsc.recognition import read_rows

Array = NDArray[np.float64]
ROUNDING = 1e-12
"""A row sum below this part of the diagonal entry counts as 0."""
SYMMETRIC = 1e-8
"""The two entries of a coupling may differ by this part, and a row sum may be below 0 by this part of its diagonal."""
SIDE = 0.5
"""A side is a Dirichlet side where its cells hold at least this part of their inward couplings beyond them."""


@dataclass(frozen=True, slots=True)
class AnyGrid:
    """A grid of spacing 1 of which a matrix is `scale` times the operator; arrays are of the DMDA's own cells."""

    cells: NDArray[np.uint8]
    faces: tuple[tuple[Array, Array], ...]
    """For each axis the coefficient on the faces below and above the cells."""
    reaction: Array
    boundary: Sides
    scale: float
    diagonal: Array
    """Of the matrix."""
    exact: bool = True

    @property
    def spacing(self) -> tuple[float, ...]:
        return (1.0,) * self.cells.ndim


def read_any_grid(matrix: Any, layout: Layout, comm: Any) -> AnyGrid:
    """Read the grid off a matrix whose entries are finite and couple neighbours alone; every process calls it.

    Raises
    ------
    ValueError, in every process : where couplings have the diagonal's sign or are not those of the neighbour's row,
        or a row sums to less than 0.
    """
    communicator = as_communicator(comm)
    rows = read_rows(matrix, layout, couplings=True)
    low, diagonal = rows.couplings, rows.diagonal
    scale = 1.0 if communicator.totals(np.array([diagonal.sum()]))[0] >= 0 else -1.0
    values, held = -scale * low, scale * diagonal
    problem: ValueError | None = None
    if values.min(initial=0.0) < 0:
        wrong = -scale * values.min()
        problem = ValueError(
            f"the matrix must couple neighbours with the sign opposite to its diagonal's, got {wrong:.6g}"
        )
    any_failure(communicator, problem)
    fluid: NDArray[np.bool_] = np.asarray((values > 0).any(axis=0))
    near = layout.around(np.asarray(fluid, np.uint8), 0)
    for face in range(6):
        values[face] *= _beside(near, face).reshape(-1)  # what a cell outside the fluid holds is known
    any_failure(communicator, _asymmetry(values, layout))
    excess = np.where(fluid, held - values.sum(axis=0), 0.0)
    least = float((excess + SYMMETRIC * np.abs(held)).min(initial=0.0))
    if least < 0:
        problem = ValueError(f"the diagonal must be no less than its couplings' sum, got {-excess.min():.6g} less")
    any_failure(communicator, problem)
    excess[excess <= ROUNDING * held] = 0.0
    sides = _take_sides(values, excess, fluid, layout, communicator)
    ndim, sizes = len(layout.shape), layout.sizes3
    shaped = [value.reshape(sizes[-ndim:]) for value in values]
    return AnyGrid(
        np.where(fluid, CellType.FLUID, CellType.SOLID).astype(np.uint8).reshape(sizes[-ndim:]),
        tuple((shaped[2 * axis], shaped[2 * axis + 1]) for axis in range(3 - ndim, 3)),
        excess.reshape(sizes[-ndim:]),
        validate_boundary(sides[-ndim:], ndim),
        scale,
        diagonal.reshape(sizes[-ndim:]),
    )


def _beside(wide: NDArray[Any], face: int) -> NDArray[Any]:
    """Return what an array that is wider by a cell on each side holds beyond a face of each own cell."""
    place = [slice(1, -1)] * 3
    place[face // 2] = slice(2, None) if face % 2 else slice(0, -2)
    found: NDArray[Any] = wide[tuple(place)]
    return found


def _asymmetry(values: Array, layout: Layout) -> ValueError | None:
    """Compare each coupling with that of the neighbour's row; every process calls it."""
    for axis in range(3):
        if layout.shape3[axis] == 0:
            continue
        other = _beside(layout.around(values[2 * axis], 0.0), 2 * axis + 1).reshape(-1)
        mine = values[2 * axis + 1]
        wrong = np.abs(mine - other) > SYMMETRIC * np.maximum(mine, other)
        if wrong.any():
            pair = f"{mine[wrong][0]:.9g} and {other[wrong][0]:.9g}"
            return ValueError(f"the matrix must be symmetric, got couplings {pair} of two neighbours")
    return None


def _take_sides(
    values: Array, excess: Array, fluid: NDArray[np.bool_], layout: Layout, communicator: Communicator
) -> list[Any]:
    """Return the sides; what the cells at a Dirichlet side hold becomes a coefficient on their faces, in place."""
    sizes, own = layout.sizes3, layout.own3
    sides: list[Any] = []
    shaped, cells = excess.reshape(sizes), fluid.reshape(sizes)
    for axis in range(3):
        if layout.shape3[axis] == 0 or layout.periodic3[axis]:
            sides.append("periodic" if layout.shape3[axis] else "neumann")
            continue
        pair = []
        for side in range(2):
            at_side = own[axis, side] == (0, layout.shape3[axis])[side]
            place = (slice(None),) * axis + ((slice(0, 1), slice(-1, None))[side],)
            inward = values[2 * axis + 1 - side].reshape(sizes)[place]
            layer, here = shaped[place], cells[place] & (inward > 0)
            mine = [float(layer[here].sum()), float(inward[here].sum())] if at_side else [0.0, 0.0]
            held, inner = communicator.totals(np.array(mine))
            pair.append("dirichlet" if held > SIDE * inner > 0 else "neumann")
            if pair[-1] == "dirichlet" and at_side:
                taken = np.where(here, np.minimum(layer, 2 * inward), 0.0)
                values[2 * axis + side].reshape(sizes)[place] = taken / 2
                layer -= taken
        sides.append(tuple(pair))
    return sides
