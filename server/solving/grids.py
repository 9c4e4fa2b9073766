"""A grid that the server keeps, with the solvers set up for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.naming import DeviceUnavailableError
from relaxon.proto import poisson_pb2 as pb
from relaxon.server.gate import errors
from relaxon.server.solving import footprint
from relaxon.server.solving.session import Session
from relaxon.solvers.driver.prepared import PreparedSolver
from relaxon.solvers.driver.solve import prepare
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.interface import registry
from relaxon.solvers.interface.engine import Solver
from relaxon.solvers.interface.prepared_system import PreparedSystem
from relaxon.wire.conversions.grid import GridPlan, read_grid_header
from relaxon.wire.conversions.grid_change import GridChange, read_change
from relaxon.wire.conversions.solve import Shapes, read_side
from relaxon.wire.tensors import AnnouncedArray


def find_grid_solver(name: str) -> Solver:
    """Return the solver of a name; INVALID_ARGUMENT if it is unknown, FAILED_PRECONDITION if it lacks something."""
    try:
        return registry.find_solver(name)
    except ValueError as error:
        raise errors.build_refusal(error) from error
    except (ImportError, DeviceUnavailableError) as error:
        raise errors.unavailable_solver(name, error) from error


class KeptGrid(Session):
    """A grid under an id."""

    argument = "grid_id"
    message = pb.Grid
    read_header = staticmethod(read_grid_header)
    find_solver = staticmethod(find_grid_solver)

    @classmethod
    def measure(cls, plan: GridPlan) -> tuple[int, int]:
        entries = sum(array.size for _, array in plan.parts)
        return plan.cells.size, footprint.grid_bytes(plan.cells.size, entries - plan.cells.size)

    @classmethod
    def build(cls, plan: GridPlan, arrays: list[NDArray[Any]]) -> PoissonGrid:
        with errors.refusing():
            grid = plan.build(arrays)
        find_components(grid)
        return grid

    @property
    def grid(self) -> PoissonGrid:
        """The grid itself."""
        grid: PoissonGrid = self.content
        return grid

    def count_bytes(self) -> int:
        return footprint.grid_bytes(self.cells, sum(int(array.size) for array in term_arrays(self.grid)))

    def describe_content(self) -> dict[str, Any]:
        return {"singular_components": self.grid.nullspace.dimension, "extended": True}

    @property
    def cells(self) -> int:
        return int(self.grid.cells.size)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.grid.shape

    @property
    def side_shapes(self) -> Shapes:
        return self.grid.shape, (self.grid.unknowns,)

    def array_bytes(self) -> int:
        """Return the bytes of the cells, κ, σ and the volumes."""
        return int(self.grid.cells.nbytes) + sum(int(array.nbytes) for array in term_arrays(self.grid))

    def read_change(self, change: pb.GridChange) -> GridChange[AnnouncedArray]:
        return read_change(change, self.grid.shape)

    def measure_change(self, change: GridChange[AnnouncedArray]) -> int:
        uploaded = sum(array.nbytes for _, array in change.parts)
        cells = 0 if change.arrays.cells is None else change.arrays.cells.size
        return uploaded + footprint.grid_bytes(cells, sum(array.size for _, array in change.parts) - cells)

    def apply(self, change: GridChange[NDArray[Any]]) -> None:
        with errors.refusing():
            grid = change.apply(self.grid)
        find_components(grid)
        self.content = grid
        self.own_bytes = self.count_bytes()
        self.mark_stale()

    def read_step_side(self, header: pb.StepHeader, changed: bool) -> AnnouncedArray:
        length = header.b.shape[0] if len(header.b.shape) == 1 else 0
        if changed and 1 <= length <= self.grid.cells.size:
            # The number of unknowns is not known before the change is made.
            return read_side("b", header.b, ((length,),))
        return super().read_step_side(header, changed)

    def carry(self, start: NDArray[Any] | None, content: PoissonGrid) -> NDArray[Any] | None:
        """Return the guess in the grid's shape, which stays whatever the unknowns become."""
        if start is None or start.shape == content.shape:
            return start
        return np.asarray(content.unpack(start))

    def footprint(self, solver: str) -> tuple[int, int]:
        return footprint.grid_setup(solver, self.grid)

    def _set_up(self, solver: Any, before: PreparedSystem | None) -> PreparedSystem:
        prepared: PreparedSolver = (
            before.update(self.grid) if isinstance(before, PreparedSolver) else prepare(self.grid, solver=solver)
        )
        return prepared


def find_components(grid: PoissonGrid) -> None:
    """Find a grid's singular components now, off the event loop; the grid keeps them."""
    grid.nullspace  # noqa: B018


def term_arrays(grid: PoissonGrid) -> tuple[NDArray[np.float64], ...]:
    """Return those of κ, σ and the volumes that are arrays."""
    kappa = grid.coefficient
    faces = kappa if isinstance(kappa, tuple) else (kappa,)
    return tuple(term for term in (*faces, grid.reaction, grid.volume) if isinstance(term, np.ndarray))
