"""The V-cycle for any coefficients: transfers that follow the couplings, damped Jacobi or red-black sweeps, float32."""

# Imported on first use, for their weight: the compiled kernels (numba).
from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.couplings import by_layer, film_parts, has_air, open_faces, reaction_term, side_couplings
from relaxon.solvers.grid.nullspace import closes_faces
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.grid.poisson_grid import Boundary, PoissonGrid, Robin
from relaxon.solvers.multigrid.cycle import Single
from relaxon.solvers.multigrid.swept import SweptCycle
from relaxon.solvers.multigrid.variable_levels import Smoother, VariableLevelBuilder, VariableStage


class VariableCycle(SweptCycle):
    """The preconditioner `z ← M r`: linear, symmetric and positive definite on the operator's range, to rounding.

    Parameters
    ----------
    smoother : "jacobi", with Chebyshev's dampings, or "red-black" (Gauss–Seidel in two colours; its adjoint order
        after the coarse correction).
    sweeps : before and after the coarse correction.
    """

    def __init__(self, operator: PoissonOperator, smoother: Smoother = "jacobi", sweeps: int = 2) -> None:
        grid = operator.grid
        robin = any(isinstance(side, Robin) for pair in grid.boundary for side in pair)
        every = not (robin or closes_faces(grid))
        parted = closes_faces(grid) or grid.reaction is not None
        builder = VariableLevelBuilder(np.asarray(operator.wrap), grid.ndim, every, parted, smoother, sweeps)
        faces, self.unit = scaled_faces(operator)
        cells = grid.cells.reshape(grid.shape3).copy()  # the grid's are read-only: another type to kernels
        self.levels = builder.build(VariableStage(cells, faces, inside_parts(grid)))
        self.info = {
            "levels": float(len(self.levels)),
            "grid_complexity": sum(level.diagonal.size for level in self.levels) / self.levels[0].diagonal.size,
            "sweeps": float(sweeps),
        }


def scaled_faces(operator: PoissonOperator) -> tuple[list[Single], float]:
    """Return the open faces of each axis, all couplings to sides `(3, …)`, and the reaction's term where there is one.

    All are divided by the strongest of them, which comes second: so float32 can hold them in any physical unit.
    """
    grid = operator.grid
    shared = operator.dtype == np.float64 and not has_air(grid)
    faces, sides = operator.couplings if shared else open_faces(grid), by_layer(side_couplings(grid))
    term = reaction_term(grid)
    known = np.zeros((3, *grid.shape3), np.float32)
    largest = [float(f.max()) for f in faces] + [float(values.max()) for _, _, values in sides]
    unit = max(largest if term is None else [*largest, float(term.max())]) or 1.0
    # Rounded as they are divided: float64 quotients in between would be as much new memory as all faces.
    single = [np.divide(f, unit, out=np.empty(f.shape, np.float32), casting="same_kind") for f in faces]
    for axis, layer, values in sides:
        known[axis][layer] = values / unit
    single.append(known)
    if term is not None:
        single.append(np.divide(term, unit, out=np.empty(term.shape, np.float32), casting="same_kind"))
    return single, unit


def inside_parts(grid: PoissonGrid) -> NDArray[np.float64]:
    """Return the part of the way from a cell's centre to the value that a side holds that lies in the cell, `(3, 2)`.

    It is all of the way to the face of a Dirichlet side, half of that to a node a cell away, and at a Robin side what
    the film's conductance leaves, the mean of its cells; 0 where nothing is held.
    """
    found = np.zeros((3, 2))
    for axis, pair in enumerate(grid.boundary):
        for end, side in enumerate(pair):
            if side in (Boundary.DIRICHLET, Boundary.DIRICHLET_NODE):
                found[3 - grid.ndim + axis, end] = 1.0 if side is Boundary.DIRICHLET else 0.5
    for (axis, end), (held, part) in film_parts(grid).items():
        found[3 - grid.ndim + axis, end] = float((held * part).sum() / held.sum()) if held.any() else 0.0
    return found
