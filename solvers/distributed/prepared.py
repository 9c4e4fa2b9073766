"""Distributed grids with their set-up done: checks, null space and verdict of right-hand sides in many processes."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import validation
from relaxon.core.masked import fill_unused
from relaxon.core.solution import Callback, Progress, Solution
from relaxon.core.solve_options import SolveOptions
from relaxon.solvers.dcdm.cycle import MAX_ITERATIONS, DeepConjugateDirectionCycle
from relaxon.solvers.distributed.communicator import any_failure
from relaxon.solvers.distributed.halo import Halo, HaloBox
from relaxon.solvers.distributed.nullspace import DistributedNullSpace
from relaxon.solvers.distributed.system import PieceDirections, WorkingPiece, figures_of
from relaxon.solvers.distributed.variable import distributed_cycle
from relaxon.solvers.grid.poisson_grid import CellType
from relaxon.solvers.interface.complex_parts import ComplexRequest, is_complex, split
from relaxon.solvers.interface.elimination import GridElimination
from relaxon.solvers.interface.prepared_system import PreparedSystem
from relaxon.solvers.interface.request import Request
from relaxon.solvers.interface.verdict import Figures
from relaxon.solvers.interface.working_operator import constant_figures

if TYPE_CHECKING:
    from relaxon.solvers.distributed.grid import DistributedDirections, DistributedPoissonGrid


@dataclass(frozen=True, slots=True)
class PreparedDistributed(PreparedSystem):
    """The solver with its set-up done, from `DistributedPoissonGrid.prepare`; arrays are each process's part."""

    grid: DistributedPoissonGrid
    solver: DeepConjugateDirectionCycle
    engine: DistributedDirections | PieceDirections
    setup_seconds: float
    box: HaloBox
    halo: Halo
    nullspace: DistributedNullSpace

    def _find_used(self) -> NDArray[np.bool_]:
        fluid: NDArray[np.bool_] = self.grid.cells == CellType.FLUID
        return fluid

    def request(
        self, b: ArrayLike, options: SolveOptions, x0: ArrayLike | None = None, name: str = "b"
    ) -> Request | ComplexRequest:
        self._check_everywhere(name, b, x0)
        return PreparedSystem.request(self, b, options, x0, name)

    def _check_everywhere(self, name: str, b: ArrayLike, x0: ArrayLike | None) -> None:
        """Refuse in all processes what one of them was given wrongly."""
        problem: Exception | None = None
        try:
            b, x0 = fill_unused(name, b, self._find_used), fill_unused("x0", x0, self._find_used)
            self._check(name, b)
            if x0 is not None:
                self._check("x0", x0)
        except (TypeError, ValueError) as error:
            problem = error
        any_failure(self.grid.communicator, problem)

    def _check(self, name: str, value: ArrayLike) -> None:
        for part in (
            split(validation.real_or_complex_array(name, value, finite=False)) if is_complex(value) else (value,)
        ):
            self._vector(name, validation.real_array(name, part, finite=False))

    def answer(
        self, request: Request | ComplexRequest, callback: Callback | None = None, x0: ArrayLike | None = None
    ) -> Solution:
        communicator = self.grid.communicator

        def ask(progress: Progress) -> bool:
            says = communicator.rank == 0 and callback is not None and callback(progress) is True
            return bool(communicator.totals(np.array([float(says)]))[0])

        asks = communicator.totals(np.array([float(communicator.rank == 0 and callback is not None)]))[0]
        return PreparedSystem.answer(self, request, ask if asks else None, x0)

    def _vector(self, name: str, array: NDArray[Any], out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        own = self.grid.cells
        if array.shape != own.shape:
            raise ValueError(f"{name} must have the shape {own.shape} of this process's part, got {array.shape}")
        full = np.zeros(self._shape())
        place = full[self.box.own]
        fluid = (own == CellType.FLUID).reshape(place.shape)
        np.copyto(
            place, array.reshape(place.shape), where=fluid, casting="same_kind" if array.dtype.kind == "f" else "safe"
        )
        validation.finite_entries(name, place)
        return full

    def _shape(self) -> tuple[int, ...]:
        engine: Any = self.engine
        shape: tuple[int, ...] = engine.cycle.shape
        return shape

    def _is_packed(self, side: NDArray[Any]) -> bool:
        return False

    def _form_answer(self, x: NDArray[np.float64], packed: bool) -> NDArray[np.float64]:
        return np.ascontiguousarray(x[self.box.own]).reshape(self.grid.cells.shape)

    @property
    def _null(self) -> DistributedNullSpace:
        return self.nullspace

    def norm(self, v: NDArray[np.float64]) -> float:
        own = v[self.box.own]
        return math.sqrt(self.grid.communicator.totals(np.array([float(np.square(own).sum())]))[0])

    def _find_largest(self, v: NDArray[np.float64]) -> float:
        return self._reduce_largest(float(np.abs(v[self.box.own]).max()))

    def _reduce_largest(self, value: float) -> float:
        """Return the largest of what the processes give."""
        return float(np.concatenate(self.grid.communicator.gathered(np.array([value]))).max())

    def _figures(self, b: NDArray[np.float64], x: NDArray[np.float64]) -> Figures:
        engine: Any = self.engine
        self.halo.exchange(x)
        mine = constant_figures(engine.operator.planes, engine.owned, b, x)
        square = self.grid.communicator.totals(np.array([mine.residual**2]))[0]
        return Figures(math.sqrt(square), self._reduce_largest(mine.backward_error))


@dataclass(frozen=True, slots=True)
class PreparedPiece(PreparedDistributed):
    """As `PreparedDistributed`, of a grid of any kind; vectors are 0 beside the owned cells."""

    engine: PieceDirections
    working: WorkingPiece

    @classmethod
    def of(cls, grid: DistributedPoissonGrid, window: int, start: float) -> PreparedPiece:
        """Set the solver up; `start` is when that began."""
        working, part = WorkingPiece.of(grid), grid.part
        cycle = distributed_cycle(working.left, grid)
        engine = PieceDirections(working.left, cycle, window, MAX_ITERATIONS, grid.communicator)
        solver = DeepConjugateDirectionCycle(window=window, rescue=False)
        null = working.operator.grid.nullspace
        assert isinstance(null, DistributedNullSpace)
        return cls(grid, solver, engine, time.perf_counter() - start, part.box, part.halo, null, working)

    def _shape(self) -> tuple[int, ...]:
        return self.grid.part.planes

    def _vector(self, name: str, array: NDArray[Any], out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        return PreparedDistributed._vector(self, name, array, out).reshape(self.grid.part.shape3)

    def _side(self, name: str, array: NDArray[Any], out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        side, weights = self._vector(name, array, out), self.grid.piece.row_weights
        if weights is not None:
            side *= weights.reshape(side.shape)
        return side

    def _form_answer(self, x: NDArray[np.float64], packed: bool) -> NDArray[np.float64]:
        return np.ascontiguousarray(self.grid.part.own(x)).reshape(self.grid.cells.shape)

    def norm(self, v: NDArray[np.float64]) -> float:
        return math.sqrt(self.grid.communicator.totals(np.array([float(np.square(v).sum())]))[0])

    def _find_largest(self, v: NDArray[np.float64]) -> float:
        return self._reduce_largest(float(np.abs(v).max()))

    def _figures(self, b: NDArray[np.float64], x: NDArray[np.float64]) -> Figures:
        return figures_of(self.working, self.grid.communicator, b, x)

    @property
    def exponent(self) -> int:
        return self.working.exponent

    @property
    def elimination(self) -> GridElimination | None:
        return self.working.elimination

    @property
    def _more_info(self) -> dict[str, float]:
        if self.elimination is None:
            return {}
        count = float(np.count_nonzero(self.elimination.decided))
        return {"eliminated": float(self.grid.communicator.totals(np.array([count]))[0])}

    @property
    def reduced(self) -> PreparedSystem | None:
        if self.elimination is None:
            return None
        working = WorkingPiece(self.working.left, self.working.left, 0, None)
        null = working.operator.grid.nullspace
        assert isinstance(null, DistributedNullSpace)
        return ReducedPiece(self.grid, self.solver, self.engine, self.setup_seconds, self.box, self.halo, null, working)


@dataclass(frozen=True, slots=True)
class ReducedPiece(PreparedPiece):
    """What is left when cells are eliminated; its vectors are those of the whole part, weighted already."""

    def _check_everywhere(self, name: str, b: ArrayLike, x0: ArrayLike | None) -> None:
        """Check nothing: all processes have checked what this is made of."""

    def answer(
        self, request: Request | ComplexRequest, callback: Callback | None = None, x0: ArrayLike | None = None
    ) -> Solution:
        return PreparedSystem.answer(self, request, callback, x0)  # the callback asks all processes already

    def _find_used(self) -> NDArray[np.bool_]:
        return self.working.operator.grid.fluid

    def _vector(self, name: str, array: NDArray[Any], out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        return np.array(array, np.float64).reshape(self.grid.part.shape3)

    def _side(self, name: str, array: NDArray[Any], out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        return self._vector(name, array, out)

    def _form_answer(self, x: NDArray[np.float64], packed: bool) -> NDArray[np.float64]:
        return x.reshape(self.working.operator.grid.shape)
