"""A Poisson grid of which many processes hold a part each, and conjugate directions from the learned cycle on it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.solvers import validation
from relaxon.solvers.cached import cached_property
from relaxon.solvers.complex_parts import ComplexRequest, is_complex, split
from relaxon.solvers.dcdm.cycle import MAX_ITERATIONS, DeepConjugateDirectionCycle, constants_for
from relaxon.solvers.dcdm.fused import MAX_WINDOW, FusedDirections
from relaxon.solvers.distributed.communicator import Communicator, any_failure, as_communicator
from relaxon.solvers.distributed.cycle import DistributedCycle, Plan
from relaxon.solvers.distributed.decomposition import Decomposition
from relaxon.solvers.distributed.halo import Box, Halo
from relaxon.solvers.distributed.kinds import refuse_kinds
from relaxon.solvers.distributed.nullspace import DistributedNullSpace, null_space
from relaxon.solvers.front import Front, Inconsistent
from relaxon.solvers.grid import Boundary, BoundaryLike, CellType, PoissonGrid, checked_boundary, checked_spacing
from relaxon.solvers.masked import fill_unused, plain_array
from relaxon.solvers.operator import Planes, PoissonOperator
from relaxon.solvers.request import Request
from relaxon.solvers.solution import Callback, Progress, Solution
from relaxon.solvers.verdict import Figures
from relaxon.solvers.working import constant_figures

if TYPE_CHECKING:
    from relaxon.solvers.distributed.preconditioner import DistributedPreconditioner


class DistributedPoissonGrid:
    """A grid with κ = 1, of which every process of a communicator holds its own part.

    Every method is called by every process, with its own arrays and else the same arguments. What is wrong in one
    process is raised in all of them.

    Parameters
    ----------
    cells : this process's cells, `decomposition.owned(rank)` of the whole, uint8 as for `PoissonGrid`. A process may
        hold no FLUID cell; the whole grid must hold one.
    decomposition : who owns what.
    comm : an mpi4py communicator with as many processes; None for one process alone.
    spacing, boundary : of the whole grid, as for `PoissonGrid`, but for widths of single cells and for Robin and node
        sides.
    coefficient, reaction, volume : None. Several processes run the learned cycle alone, which is that of κ = 1 on equal
        cells; anything else is refused.

    Examples
    --------
    >>> import numpy as np
    >>> from relaxon.solvers.distributed import Decomposition, DistributedPoissonGrid
    >>> split = Decomposition.of((32, 32, 32), 1)       # with MPI: so many as the communicator has processes
    >>> mine = split.owned(0)                           # with MPI: of this process's rank
    >>> cells, b = np.zeros((32, 32, 32), np.uint8)[mine], np.ones((32, 32, 32))[mine]
    >>> grid = DistributedPoissonGrid(cells, split, spacing=1 / 32, boundary="dirichlet")
    >>> solution = grid.solve(b)
    >>> solution.result.name, solution.x.shape
    ('CONVERGED', (32, 32, 32))
    """

    def __init__(
        self,
        cells: ArrayLike,
        decomposition: Decomposition,
        comm: Any = None,
        *,
        spacing: float | Sequence[float] = 1.0,
        boundary: BoundaryLike = Boundary.NEUMANN,
        coefficient: None = None,
        reaction: None = None,
        volume: None = None,
    ) -> None:
        refuse_kinds(spacing, boundary, coefficient, reaction, volume)
        self.communicator: Communicator = as_communicator(comm)
        self.decomposition = decomposition
        if decomposition.processes != self.communicator.size:
            raise ValueError(
                f"decomposition must be for the communicator's {self.communicator.size} processes, "
                f"got one for {decomposition.processes}"
            )
        self.spacing = checked_spacing(spacing, self.ndim)
        self.boundary = checked_boundary(boundary, self.ndim)
        own, problem = np.zeros(0, np.uint8), None
        try:
            own = self._checked_cells(cells)
        except (TypeError, ValueError) as error:
            problem = error
        any_failure(self.communicator, problem)
        self.cells = own
        """This process's own, read-only."""
        self.unknowns = int(self.communicator.totals(np.array([float(np.count_nonzero(own == CellType.FLUID))]))[0])
        """Of the whole grid."""
        if self.unknowns == 0:
            raise ValueError("cells must hold at least one FLUID cell in some process, got none")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole grid."""
        return self.decomposition.shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def owned(self) -> tuple[slice, ...]:
        """This process's cells, as an index into an array of `shape`."""
        return self.decomposition.owned(self.communicator.rank)

    @property
    def periodic(self) -> tuple[bool, bool]:
        """Whether the two axes that may be cut are periodic, in the order of planes."""
        around = [low is Boundary.PERIODIC and n > 1 for (low, _), n in zip(self.boundary, self.shape, strict=True)]
        return around[0], around[1] and self.ndim == 3

    @cached_property
    def plan(self) -> Plan:
        """Which levels the processes share."""
        nowhere = np.zeros((1,) * self.ndim, np.uint8)
        return Plan(self.decomposition, self._planes(nowhere, self.boundary), self._shape3, self.periodic)

    def prepare(self, *, window: int = 1) -> PreparedDistributed:
        """Set the solver up once for many right-hand sides. `window`: 1 or 2 directions to orthogonalise against."""
        window = validation.positive_int("window", window)
        if window > MAX_WINDOW:
            raise ValueError(f"window must be at most {MAX_WINDOW}, got {window}")
        start = time.perf_counter()
        cycle, box, halo = self.cycle(), self.plan.box(self.communicator.rank, 0), self.plan.halo(self.communicator, 0)
        near = self._with_neighbours(box, halo)
        operator = PoissonOperator(self._box_grid(near, box))
        null = null_space(self.communicator, near, operator.planes, box, halo, math.prod(self.shape))
        engine = DistributedDirections(operator, cycle, window, self.communicator, box, halo)
        solver = DeepConjugateDirectionCycle(window=window, rescue=False)
        return PreparedDistributed(self, solver, engine, time.perf_counter() - start, box, halo, null)

    def cycle(self, *, learned: bool = True) -> DistributedCycle:
        """A V-cycle of this grid, set up anew: what `prepare` and `preconditioner` go through. `learned` takes the
        shipped constants, else Chebyshev's.
        """
        plan, rank = self.plan, self.communicator.rank
        wide = plan.box(rank, 0, wide=True)
        margin = self._with_neighbours(wide, plan.halo(self.communicator, 0, wide=True))
        planes = self._box_planes(margin, wide)
        constants = constants_for(self.ndim) if learned else {}
        return DistributedCycle(self.communicator, plan, margin, planes, self._whole, self.unknowns, constants)

    def preconditioner(self, *, learned: bool = True) -> DistributedPreconditioner:
        """The V-cycle `M ≈ A⁻¹` for a Krylov method of your own, as `PoissonGrid.preconditioner`. Set up here, once."""
        from relaxon.solvers.distributed.preconditioner import DistributedPreconditioner

        return DistributedPreconditioner(self, learned=learned)

    def solve(
        self,
        b: ArrayLike,
        *,
        rtol: float = 1e-6,
        atol: float = 0.0,
        max_iterations: int | None = None,
        x0: ArrayLike | None = None,
        callback: Callback | None = None,
        inconsistent: Inconsistent = "error",
    ) -> Solution:
        """As `relaxon.solvers.solve`: `b`, `x0` and the solution's `x` are this process's part, all else the whole's.

        `callback` is asked in process 0 only, and its answer holds for all.
        """
        return self.prepare().solve(
            b,
            rtol=rtol,
            atol=atol,
            max_iterations=max_iterations,
            x0=x0,
            callback=callback,
            inconsistent=inconsistent,
        )

    def _checked_cells(self, cells: ArrayLike) -> NDArray[np.uint8]:
        array = plain_array("cells", cells)
        expected = tuple(part.stop - part.start for part in self.owned)
        if array.shape != expected:
            raise ValueError(f"cells must have the shape {expected} of this process's part, got {array.shape}")
        if array.dtype.kind not in "iu":
            raise TypeError(f"cells must be integers (CellType values), got dtype {array.dtype}")
        low, high = int(array.min()), int(array.max())
        if low < CellType.FLUID or high > CellType.AIR:
            unknown = low if low < CellType.FLUID else high
            raise ValueError(f"cells must be FLUID (0), SOLID (1) or AIR (2), got the value {unknown}")
        own = np.array(array, np.uint8, order="C")
        own.flags.writeable = False
        return own

    @property
    def _shape3(self) -> tuple[int, int, int]:
        """In the order of planes."""
        return (self.shape[0], 1, self.shape[1]) if self.ndim == 2 else (self.shape[0], self.shape[1], self.shape[2])

    def _with_neighbours(self, box: Box, halo: Halo) -> NDArray[np.uint8]:
        """The cell types of a box, in the order of planes."""
        found = np.full((*box.shape, self.shape[-1]), CellType.SOLID, np.uint8)
        place = found[box.own]
        place[...] = self.cells.reshape(place.shape)
        halo.exchange(found)
        return found

    def _box_grid(self, cells: NDArray[np.uint8], box: Box) -> BoxGrid:
        sides = []
        for axis, pair in enumerate(self.boundary):
            cut = axis < self.ndim - 1 and self.decomposition.parts[axis] > 1
            low, high = pair
            if cut and box.kept[axis][0] != 0:
                low = Boundary.NEUMANN
            if cut and box.kept[axis][1] != self.shape[axis]:
                high = Boundary.NEUMANN
            sides.append((low, high))
        shape = cells.shape if self.ndim == 3 else (cells.shape[0], cells.shape[2])
        return BoxGrid(cells.reshape(shape), self.spacing, tuple(sides))

    def _box_planes(self, cells: NDArray[np.uint8], box: Box) -> Planes:
        return PoissonOperator(self._box_grid(cells, box)).planes

    def _planes(self, cells: NDArray[np.uint8], boundary: Any) -> Planes:
        return PoissonOperator(BoxGrid(cells, self.spacing, boundary)).planes

    def _whole(self, cells: NDArray[np.uint8]) -> Planes:
        """The whole grid's planes, given the cells of the level that is gathered."""
        if cells.shape == self._shape3:
            return self._planes(cells.reshape(self.shape), self.boundary)
        # Of a coarser level only the sides and the axes count, which are those of any grid longer than a cell.
        likeness = np.zeros(tuple(min(n, 2) for n in self.shape), np.uint8)
        return replace(self._planes(likeness, self.boundary), shape=self._shape3)

    def __repr__(self) -> str:
        parts = "×".join(map(str, self.decomposition.parts))
        return f"DistributedPoissonGrid({'×'.join(map(str, self.shape))}, {self.unknowns} unknowns, {parts} parts)"


class BoxGrid(PoissonGrid):
    """A part of a grid, already checked; unlike a `PoissonGrid` it may hold no fluid."""

    def __init__(self, cells: NDArray[np.uint8], spacing: tuple[float, ...], boundary: Any) -> None:
        self.cells = self.given_cells = np.ascontiguousarray(cells)
        self.spacing = spacing
        self.boundary = boundary
        self.coefficient = None
        self.reaction = self.given_reaction = None
        self.volume = self.given_volume = None
        self.unknowns = int(np.count_nonzero(self.cells == CellType.FLUID))


class DistributedDirections(FusedDirections):
    """The outer iteration on one process's box: the same steps in all, as all sums are the whole grid's."""

    def __init__(
        self,
        operator: PoissonOperator,
        cycle: DistributedCycle,
        window: int,
        communicator: Communicator,
        box: Box,
        halo: Halo,
    ) -> None:
        super().__init__(operator, cycle, window, MAX_ITERATIONS)
        self._communicator = communicator
        self._halo = halo
        (first, last), (low, high) = ((part.start, part.stop) for part in box.own)
        self.owned = (first, last, low * cycle.shape[2], high * cycle.shape[2])
        # Cells beside the owned ones are computed from others that are not: they must at least be finite.
        for array in (self._r, self._z, *self._directions, *self._images):
            array[...] = 0

    def twin(self) -> None:
        return None  # the processes' exchanges must come in one order

    def _refresh(self, array: NDArray[Any]) -> None:
        self._halo.exchange(array)

    def _total(self, *sums: float) -> tuple[float, ...]:
        return tuple(self._communicator.totals(np.array(sums)).tolist())


@dataclass(frozen=True, slots=True)
class PreparedDistributed(Front):
    """The solver with its set-up done, from `DistributedPoissonGrid.prepare`; arrays are each process's part."""

    grid: DistributedPoissonGrid
    solver: DeepConjugateDirectionCycle
    engine: DistributedDirections
    setup_seconds: float
    box: Box
    halo: Halo
    nullspace: DistributedNullSpace

    def _used(self) -> NDArray[np.bool_]:
        fluid: NDArray[np.bool_] = self.grid.cells == CellType.FLUID
        return fluid

    def request(
        self,
        b: ArrayLike,
        rtol: float,
        atol: float,
        max_iterations: int | None,
        x0: ArrayLike | None,
        inconsistent: str,
        name: str = "b",
    ) -> Request | ComplexRequest:
        problem: Exception | None = None
        try:
            b, x0 = fill_unused(name, b, self._used), fill_unused("x0", x0, self._used)
            self._check(name, b)
            if x0 is not None:
                self._check("x0", x0)
        except (TypeError, ValueError) as error:
            problem = error
        any_failure(self.grid.communicator, problem)
        return Front.request(self, b, rtol, atol, max_iterations, x0, inconsistent, name)

    def _check(self, name: str, value: ArrayLike) -> None:
        for part in (
            split(validation.real_or_complex_array(name, value, finite=False)) if is_complex(value) else (value,)
        ):
            self._vector(name, validation.real_array(name, part, finite=False))

    def answer(
        self, request: Request | ComplexRequest, callback: Callback | None = None, x0: ArrayLike | None = None
    ) -> Solution:
        communicator = self.grid.communicator

        def asked(progress: Progress) -> bool:
            says = communicator.rank == 0 and callback is not None and callback(progress) is True
            return bool(communicator.totals(np.array([float(says)]))[0])

        asks = communicator.totals(np.array([float(communicator.rank == 0 and callback is not None)]))[0]
        return Front.answer(self, request, asked if asks else None, x0)

    def _vector(self, name: str, array: NDArray[Any], out: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        own = self.grid.cells
        if array.shape != own.shape:
            raise ValueError(f"{name} must have the shape {own.shape} of this process's part, got {array.shape}")
        full = np.zeros(self.engine.cycle.shape)
        place = full[self.box.own]
        fluid = (own == CellType.FLUID).reshape(place.shape)
        np.copyto(
            place, array.reshape(place.shape), where=fluid, casting="same_kind" if array.dtype.kind == "f" else "safe"
        )
        validation.finite_entries(name, place)
        return full

    def _packed(self, side: NDArray[Any]) -> bool:
        return False

    def _answered(self, x: NDArray[np.float64], packed: bool) -> NDArray[np.float64]:
        return np.ascontiguousarray(x[self.box.own]).reshape(self.grid.cells.shape)

    def _defect(self, b: NDArray[np.float64]) -> tuple[float, int]:
        return self.nullspace.defect(b)

    def _component(self, number: int) -> str:
        return f"fluid component {number} ({self.nullspace.sizes[number]} cells, no Dirichlet face)"

    def _project(self, v: NDArray[np.float64]) -> None:
        self.nullspace.project(v)

    def _norm(self, v: NDArray[np.float64]) -> float:
        own = v[self.box.own]
        return math.sqrt(self.grid.communicator.totals(np.array([float(np.vdot(own, own))]))[0])

    def _largest(self, v: NDArray[np.float64]) -> float:
        return self._largest_of_all(float(np.abs(v[self.box.own]).max()))

    def _largest_of_all(self, value: float) -> float:
        """Of what each process gives."""
        return float(np.concatenate(self.grid.communicator.gathered(np.array([value]))).max())

    def _figures(self, b: NDArray[np.float64], x: NDArray[np.float64]) -> Figures:
        self.halo.exchange(x)
        mine = constant_figures(self.engine.operator.planes, self.engine.owned, b, x)
        square = self.grid.communicator.totals(np.array([mine.residual**2]))[0]
        return Figures(math.sqrt(square), self._largest_of_all(mine.backward_error))
