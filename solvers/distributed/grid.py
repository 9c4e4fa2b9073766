"""A Poisson grid that is divided among many processes, and conjugate directions from the learned cycle on it."""

# Imported on first use, for its weight: `preconditioner`.

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import validation
from relaxon.core.cached import cached_property
from relaxon.core.masked import fill_unused, plain_array
from relaxon.core.solution import Callback, Solution
from relaxon.core.solve_options import Inconsistent, SolveOptions
from relaxon.solvers.dcdm.cycle import MAX_ITERATIONS, DeepConjugateDirectionCycle, constants_for
from relaxon.solvers.dcdm.fused import MAX_WINDOW, FusedDirections
from relaxon.solvers.distributed.communicator import Communicator, any_failure, as_communicator
from relaxon.solvers.distributed.cycle import DistributedCycle, Plan
from relaxon.solvers.distributed.decomposition import Decomposition
from relaxon.solvers.distributed.halo import Halo, HaloBox, Part
from relaxon.solvers.distributed.nullspace import null_space
from relaxon.solvers.distributed.piece import Given, piece_of, widths_of
from relaxon.solvers.distributed.prepared import PreparedDistributed, PreparedPiece
from relaxon.solvers.grid.arguments import SpacingLike, validate_cells, validate_widths
from relaxon.solvers.grid.nullspace import closes_faces
from relaxon.solvers.grid.operator import Planes, PoissonOperator
from relaxon.solvers.grid.poisson_grid import Boundary, BoundaryLike, CellType, CheckedGrid, validate_boundary
from relaxon.solvers.grid.sides import PLAIN_SIDES, check_films

if TYPE_CHECKING:
    from relaxon.solvers.distributed.preconditioner import DistributedPreconditioner


class DistributedPoissonGrid:
    """A grid of which every process of a communicator holds its own part.

    Every process calls every method, with its own arrays and otherwise the same arguments. An error in one process is
    raised in all of them.

    Parameters
    ----------
    cells : this process's cells, `decomposition.owned(rank)` of the whole, uint8 as for `PoissonGrid`. A process may
        hold no FLUID cell; the whole grid must hold one.
    decomposition : which process owns which cells.
    comm : an mpi4py communicator with as many processes; None for one process alone.
    spacing, boundary : of the whole grid, as for `PoissonGrid`: widths are those of whole axes. The h of a `Robin` side
        that is an array has the shape of this process's part of the side: that of `cells` without the axis, also where
        the part does not reach it.
    coefficient, reaction, volume : of this process's part, as for `PoissonGrid`: κ of its cells, or on their
        faces, those between two processes from both; all processes give the same forms. With any of them, with widths,
        Robin or node sides, the V-cycle for any coefficients takes the place of the learned one.

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
        spacing: SpacingLike = 1.0,
        boundary: BoundaryLike = Boundary.NEUMANN,
        coefficient: ArrayLike | Sequence[ArrayLike] | None = None,
        reaction: float | ArrayLike | None = None,
        volume: ArrayLike | None = None,
    ) -> None:
        self.communicator: Communicator = as_communicator(comm)
        self.decomposition = decomposition
        if decomposition.processes != self.communicator.size:
            raise ValueError(
                f"decomposition must be for the communicator's {self.communicator.size} processes, "
                f"got one for {decomposition.processes}"
            )
        self.spacing = validate_widths(spacing, self.shape)
        self.boundary = validate_boundary(boundary, self.ndim)
        own, given, problem = np.zeros(0, np.uint8), Given(None, None, None), None
        try:
            own = self._validate_cells(cells)
            check_films(self.boundary, own.shape)
            given = Given.of(own.shape, coefficient, reaction, volume)
        except (TypeError, ValueError) as error:
            problem = error
        any_failure(self.communicator, problem)
        self.cells = own
        """This process's own, read-only; SOLID where coefficients of 0 close a cell and nothing else holds it."""
        self.constant = self._takes_the_learned_cycle(given)
        """Whether κ is 1 on equal cells, with nothing else: what is learned serves it."""
        self._piece: CheckedGrid | None = None
        if not self.constant:
            self._bring_together(given)
        self.unknowns = int(self.communicator.totals(np.array([float(np.count_nonzero(own == CellType.FLUID))]))[0])
        """Of the whole grid."""
        if self.unknowns == 0:
            raise ValueError("cells must hold at least one FLUID cell in some process, got none")

    def _takes_the_learned_cycle(self, given: Given) -> bool:
        """Return whether nothing is given in any process that changes the matrix of κ = 1 on equal cells."""
        forms = np.stack(self.communicator.gathered(np.array(given.kinds)))
        if (forms != forms[0]).any():
            raise ValueError("coefficient, reaction and volume must have the same form in all processes, got several")
        plain = all(side in PLAIN_SIDES for pair in self.boundary for side in pair)
        return bool(not forms.any() and plain and not any(np.ndim(widths) for widths in self.spacing))

    def _bring_together(self, given: Given) -> None:
        """Check what is given beside what the neighbours give, and keep the grid of this part."""
        self.part = self._part(1)
        widths = widths_of(self.part, self.spacing, self.shape)
        around, problem = piece_of(self.part, self.cells, given, widths, self.boundary), None
        try:
            self._piece = around.checked()
        except (TypeError, ValueError) as error:
            problem = error
        any_failure(self.communicator, problem)
        cells = np.ascontiguousarray(self.part.own(self.piece.cells.reshape(self.part.shape3)))
        self.cells = cells.reshape(self.cells.shape)
        self.cells.flags.writeable = False
        closes, reacts = closes_faces(self.piece), self.piece.reaction is not None
        self.closes, self.reacts = (bool(n) for n in self.communicator.totals(np.array([float(closes), float(reacts)])))

    @property
    def piece(self) -> CheckedGrid:
        """This process's part with a layer of its neighbours, where the grid is not `constant`."""
        assert self._piece is not None
        return self._piece

    def _part(self, width: int) -> Part:
        return Part(self.communicator, self.decomposition, self.periodic, width, (1, 1), self.shape[-1])

    def weighted(self, b: ArrayLike) -> NDArray[np.float64]:
        """Return `PoissonGrid.weighted` of this process's part of a density: float64, 0 outside the fluid."""
        given = np.asarray(fill_unused("b", b, lambda: self.cells == CellType.FLUID))
        if given.shape != self.cells.shape:
            raise ValueError(f"b must have the shape {self.cells.shape} of this process's part, got {given.shape}")
        weights = None if self.constant else self.piece.row_weights
        found = np.where(self.cells == CellType.FLUID, given, 0.0).astype(np.float64, copy=False)
        if weights is not None:
            found *= self.part.own(weights.reshape(self.part.shape3)).reshape(found.shape)
        return found

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

    @property
    def around(self) -> tuple[bool, ...]:
        """Whether each axis is periodic."""
        return tuple(low is Boundary.PERIODIC for low, _ in self.boundary)

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
        if not self.constant:
            return PreparedPiece.of(self, window, start)
        cycle, box, halo = self.cycle(), self.plan.box(self.communicator.rank, 0), self.plan.halo(self.communicator, 0)
        near = self._with_neighbours(box, halo)
        operator = PoissonOperator(self._box_grid(near, box))
        null = null_space(self.communicator, near, operator.planes, box, halo, math.prod(self.shape))
        engine = DistributedDirections(operator, cycle, window, self.communicator, box, halo)
        solver = DeepConjugateDirectionCycle(window=window, rescue=False)
        return PreparedDistributed(self, solver, engine, time.perf_counter() - start, box, halo, null)

    def cycle(self, *, learned: bool = True) -> DistributedCycle:
        """Return a V-cycle of this grid, set up anew, as `prepare` and `preconditioner` use it.

        `learned` takes the shipped constants, else Chebyshev's.
        """
        plan, rank = self.plan, self.communicator.rank
        wide = plan.box(rank, 0, wide=True)
        margin = self._with_neighbours(wide, plan.halo(self.communicator, 0, wide=True))
        planes = PoissonOperator(self._box_grid(margin, wide)).planes
        constants = constants_for(self.ndim) if learned else {}
        return DistributedCycle(self.communicator, plan, margin, planes, self._whole, self.unknowns, constants)

    def preconditioner(self, *, learned: bool = True) -> DistributedPreconditioner:
        """Return the V-cycle `M ≈ A⁻¹` for a Krylov method of yours, as `PoissonGrid.preconditioner`; set up once."""
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
        """Solve as `relaxon.solvers.solve`: `b`, `x0` and the solution's `x` are this process's part.

        `callback` is asked in process 0 only, and its answer holds for all.
        """
        return self.prepare().solve_with(SolveOptions(rtol, atol, max_iterations, inconsistent), b, x0, callback)

    def _validate_cells(self, cells: ArrayLike) -> NDArray[np.uint8]:
        array = plain_array("cells", cells)
        expected = tuple(part.stop - part.start for part in self.owned)
        if array.shape != expected:
            raise ValueError(f"cells must have the shape {expected} of this process's part, got {array.shape}")
        return validate_cells(array)

    @property
    def _shape3(self) -> tuple[int, int, int]:
        """In the order of planes."""
        return (self.shape[0], 1, self.shape[1]) if self.ndim == 2 else (self.shape[0], self.shape[1], self.shape[2])

    def _with_neighbours(self, box: HaloBox, halo: Halo) -> NDArray[np.uint8]:
        """Return the cell types of a box, in the order of planes."""
        found = np.full((*box.shape, self.shape[-1]), CellType.SOLID, np.uint8)
        place = found[box.own]
        place[...] = self.cells.reshape(place.shape)
        halo.exchange(found)
        return found

    def _box_grid(self, cells: NDArray[np.uint8], box: HaloBox) -> CheckedGrid:
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
        return CheckedGrid(cells.reshape(shape), self.spacing, tuple(sides))

    def _planes(self, cells: NDArray[np.uint8], boundary: Any) -> Planes:
        return PoissonOperator(CheckedGrid(cells, self.spacing, boundary)).planes

    def _whole(self, cells: NDArray[np.uint8]) -> Planes:
        """Return the whole grid's planes, given the cells of the level that is gathered."""
        if cells.shape == self._shape3:
            return self._planes(cells.reshape(self.shape), self.boundary)
        # Of a coarser level only the sides and the axes count, which are those of any grid longer than a cell.
        likeness = np.zeros(tuple(min(n, 2) for n in self.shape), np.uint8)
        return replace(self._planes(likeness, self.boundary), shape=self._shape3)

    def __repr__(self) -> str:
        parts = "×".join(map(str, self.decomposition.parts))
        return f"DistributedPoissonGrid({'×'.join(map(str, self.shape))}, {self.unknowns} unknowns, {parts} parts)"


class DistributedDirections(FusedDirections):
    """The outer iteration on one process's box: the same steps in all, as all sums are the whole grid's."""

    shared = True

    def __init__(
        self,
        operator: PoissonOperator,
        cycle: DistributedCycle,
        window: int,
        communicator: Communicator,
        box: HaloBox,
        halo: Halo,
    ) -> None:
        super().__init__(operator, cycle, window, MAX_ITERATIONS)
        self._communicator = communicator
        self._halo = halo
        (first, last), (low, high) = ((part.start, part.stop) for part in box.own)
        self.owned = (first, last, low * cycle.shape[2], high * cycle.shape[2])
        # Cells beside the owned ones are computed from others that are not: they must at least be finite.
        for array in (self._r, *self._directions, *self._images):
            array[...] = 0

    def _refresh(self, array: NDArray[Any]) -> None:
        self._halo.exchange(array)

    def _total(self, *sums: float) -> tuple[float, ...]:
        return tuple(self._communicator.totals(np.array(sums)).tolist())
