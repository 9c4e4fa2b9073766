"""A grid that the server keeps, with the solvers set up for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.server.solving import footprint
from relaxon.server.solving.sessions import Session
from relaxon.solvers.driver.prepared import PreparedSolver
from relaxon.solvers.driver.solve import prepare
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.interface.front import Front
from relaxon.wire.shared_memory import SharedFile


class KeptGrid(Session):
    """A grid under an id."""

    kind = "relaxon.v1.Grid"
    argument = "grid_id"

    def __init__(
        self, grid: PoissonGrid, owner: str = "", shared: SharedFile | None = None, attendance: str = ""
    ) -> None:
        super().__init__(owner, bytes_of(grid), shared, attendance)
        self.grid = grid

    @property
    def cells(self) -> int:
        return int(self.grid.cells.size)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.grid.shape

    @property
    def unknowns(self) -> int:
        return self.grid.unknowns

    @property
    def content(self) -> PoissonGrid:
        return self.grid

    def array_bytes(self) -> int:
        """Bytes of its cells, of κ, σ and volumes; what the solvers have set up is not counted."""
        return int(self.grid.cells.nbytes) + sum(int(array.nbytes) for array in term_arrays(self.grid))

    def change(self, grid: PoissonGrid) -> None:
        """Put another grid of the same shape in the place of this one. In a worker thread, with `running` held."""
        self.grid = grid
        self.own_bytes = bytes_of(grid)
        for place in list(self.set_ups.values()):
            place.stale = True

    def footprint(self, solver: str) -> tuple[int, int]:
        return footprint.grid_setup(solver, self.grid)

    def _set_up(self, solver: Any, before: Front | None) -> Front:
        made: PreparedSolver = (
            before.update(self.grid) if isinstance(before, PreparedSolver) else prepare(self.grid, solver=solver)
        )
        return made


def bytes_of(grid: PoissonGrid) -> int:
    """What a grid is counted for."""
    return footprint.grid_bytes(int(grid.cells.size), sum(int(array.size) for array in term_arrays(grid)))


def term_arrays(grid: PoissonGrid) -> tuple[NDArray[np.float64], ...]:
    """The arrays of κ, σ and volumes that the grid has."""
    kappa = grid.coefficient
    faces = kappa if isinstance(kappa, tuple) else (kappa,)
    return tuple(one for one in (*faces, grid.reaction, grid.volume) if isinstance(one, np.ndarray))
