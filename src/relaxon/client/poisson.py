"""Poisson systems on a server: grids that it keeps, and solves on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import grpc
from numpy.typing import ArrayLike

from relaxon.client import errors
from relaxon.client.attendance import Attendance
from relaxon.client.handover import Handover, offered
from relaxon.client.remote import RemoteSystem
from relaxon.client.solve_messages import Inconsistent, SolveTerms, side
from relaxon.client.step_messages import Change, Kappa, Step, StepMessages, Unchanged
from relaxon.client.steps_call import StepsCall
from relaxon.client.wire import Wire
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import poisson_pb2_grpc, tensor_pb2, tensors
from relaxon.proto.shared import SharedFile
from relaxon.solvers import validation
from relaxon.solvers.grid import Boundary, BoundaryLike, PoissonGrid
from relaxon.solvers.solution import Callback, Solution

_SIDES = {
    Boundary.NEUMANN: pb.BOUNDARY_NEUMANN,
    Boundary.DIRICHLET: pb.BOUNDARY_DIRICHLET,
    Boundary.PERIODIC: pb.BOUNDARY_PERIODIC,
}


@dataclass(frozen=True, slots=True)
class SolverInfo:
    """A solver that a server knows by name."""

    name: str
    summary: str
    missing: tuple[str, ...]
    """Python modules that it needs and the server lacks."""

    @property
    def available(self) -> bool:
        return not self.missing


class PoissonClient:
    """The Poisson calls of a `Client`."""

    def __init__(
        self, channel: grpc.Channel, attendance: Attendance, timeout: float, transfer_timeout: float, wire: Wire
    ) -> None:
        self._stub = poisson_pb2_grpc.PoissonServiceStub(channel)
        self._attendance = attendance
        self._timeout = timeout
        self._transfer_timeout = transfer_timeout
        self._wire = wire

    def grid(
        self,
        cells: ArrayLike,
        spacing: float | Sequence[float] = 1.0,
        boundary: BoundaryLike = Boundary.NEUMANN,
        coefficient: ArrayLike | Sequence[ArrayLike] | None = None,
        *,
        timeout: float | None = None,
    ) -> RemoteGrid:
        """Have the server keep a grid; the arguments are those of `relaxon.solvers.PoissonGrid`.

        `timeout` is in seconds, None for the client's. The result is best used in a `with` statement, which
        deletes it on the server at its end; a grid not used for a time (`expires`) is forgotten anyway, and so is one
        whose client has closed its connection or gone.

        Raises
        ------
        InvalidArgument : naming the argument, before anything is sent where it can be found here.
        ResourceExhausted : where the grid is larger than the server takes, or it keeps too many.
        """
        with errors.refusals():
            seconds = self._transfer_timeout if timeout is None else validation.positive_float("timeout", timeout)
            grid = PoissonGrid(cells, spacing, boundary, coefficient)
        attendance = self._attendance.name()
        with offered(grid.cells.size, self._wire.shared_memory) as (file, told):
            with errors.translated():
                reply = self._stub.CreateGrid(
                    grid_requests(grid, self._wire, told, attendance),
                    timeout=seconds,
                    compression=self._wire.outgoing,
                )
            handover = Handover(file if reply.shared else None)
        return RemoteGrid(self._stub, reply, grid.shape, self._timeout, self._transfer_timeout, handover, self._wire)

    def list_solvers(self) -> tuple[SolverInfo, ...]:
        """The solvers that the server knows by name, best first."""
        with errors.translated():
            reply = self._stub.ListSolvers(pb.ListSolversRequest(), timeout=self._timeout)
        return tuple(SolverInfo(one.name, one.summary, tuple(one.missing)) for one in reply.solvers)


class RemoteGrid(RemoteSystem):
    """A grid that a server keeps, from `client.poisson.grid`."""

    default_solver = "dcdm"

    def __init__(
        self,
        stub: poisson_pb2_grpc.PoissonServiceStub,
        kept: pb.Grid,
        shape: tuple[int, ...],
        timeout: float,
        transfer_timeout: float,
        handover: Handover,
        wire: Wire,
    ) -> None:
        super().__init__(stub.Solve, handover, timeout, transfer_timeout, wire)
        self._stub = stub
        self.id: str = kept.id
        self.shape = shape
        self.unknowns: int = kept.unknowns
        self.singular_components: int = kept.singular_components
        """Fluid components that neither air nor a Dirichlet side holds; `b` must sum to zero over each."""
        self.setup_seconds: float = kept.setup_seconds
        """What the server spent on checking the grid and finding its components."""
        self.expires: datetime = kept.expire_time.ToDatetime(UTC)
        """When the server would have forgotten the grid had it not been used since it was made."""

    def solve_steps(
        self,
        steps: Iterable[ArrayLike | Step],
        *,
        solver: str | None = None,
        rtol: float = 1e-6,
        atol: float = 0.0,
        max_iterations: int | None = None,
        x0: ArrayLike | None = None,
        warm_start: bool = True,
        read_ahead: bool = True,
        callback: Callback | None = None,
        inconsistent: Inconsistent = "error",
        timeout: float | None = None,
    ) -> Iterator[Solution]:
        """Solve for one right-hand side after the other, each from the solution of the one before it.

        Parameters
        ----------
        steps : right-hand sides, or a `Step` where cells or κ change as well. It is pulled from as solutions are taken,
            in the caller's own thread; its arrays are its own again when it is asked for the next.
        warm_start : start each step from the last solution; False for zero.
        read_ahead : take a step from `steps` before the solution of the one before it has been given out, so that its
            way to the server overlaps the solve. False where a step's right-hand side depends on the last solution.
        timeout : seconds in which each step has to be answered, None for the client's.

        Everything else is as in `solve`; `x0` is the first step's start. Leave the iteration and the call ends, with
        the step that is being solved. A callback that returns True stops its own step alone.

        Raises
        ------
        As `solve`, an argument's mistake at once and a step's when its turn has come; InvalidArgument names it `b[3]`.

        Examples
        --------
        >>> import numpy as np
        >>> import relaxon
        >>> from relaxon.server.app import EmbeddedServer
        >>> cells = np.zeros((32, 32), np.uint8)
        >>> b = np.outer(np.hanning(32), np.hanning(32))
        >>> with EmbeddedServer() as server, relaxon.connect(server.target) as client:
        ...     with client.poisson.grid(cells, boundary="dirichlet") as grid:
        ...         counts = [one.iterations for one in grid.solve_steps(b * (1 + 1e-3 * k) for k in range(3))]
        >>> counts[0] > counts[1] >= counts[2]
        True
        """
        with errors.refusals():
            seconds = self._seconds(timeout)
            terms = SolveTerms.checked(
                solver or self.default_solver, rtol, atol, max_iterations, inconsistent, callback is not None
            )
            start = None if x0 is None else side("x0", x0, self._shapes)
            if not isinstance(steps, Iterable):
                raise TypeError(f"steps must be an iterable of right-hand sides, got {type(steps).__name__}")
        call = StepsCall(self._stub, steps, callback, read_ahead, seconds, self._wire)

        def messages_for(shared: SharedFile | None) -> tuple[list[pb.StepsRequest], StepMessages]:
            messages = StepMessages(self.shape, self.unknowns, self._wire, shared, self._now_has)
            return messages.header(self.id, terms, start, warm_start), messages

        return call.solutions(self._handover, messages_for)

    def update(
        self,
        cells: ArrayLike | None = None,
        coefficient: Kappa | Unchanged = "unchanged",
        *,
        timeout: float | None = None,
    ) -> None:
        """Put other cells, another κ or both in the place of the grid's: obstacles that move. Shape, spacing and sides
        stay. What was set up for the grid is set up again when it is next used.

        Parameters
        ----------
        cells : as for `grid`; None where they stay.
        coefficient : as for `grid`, None for 1 everywhere.

        Raises
        ------
        As `grid`.
        """
        with errors.refusals():
            seconds = self._seconds(timeout)
            change = Change.of(cells, coefficient, self.shape)
        if change is None:
            return
        with errors.translated():
            reply = self._stub.UpdateGrid(
                change_requests(self.id, change, self._wire), timeout=seconds, compression=self._wire.outgoing
            )
        self._now_has(reply.unknowns)
        self.singular_components = reply.singular_components
        self.setup_seconds = reply.setup_seconds

    def delete(self) -> None:
        """Have the server forget the grid; NotFound where it already has."""
        with errors.translated():
            self._stub.DeleteGrid(pb.DeleteGridRequest(id=self.id), timeout=self._timeout)
        self._handover.close()

    def __repr__(self) -> str:
        return f"RemoteGrid({'×'.join(map(str, self.shape))}, {self.unknowns} unknowns)"

    @property
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        return self.shape, (self.unknowns,)

    def _now_has(self, unknowns: int) -> None:
        self.unknowns = unknowns


def grid_requests(
    grid: PoissonGrid, wire: Wire, shared: tensor_pb2.SharedFile | None, attendance: str
) -> Iterator[pb.CreateGridRequest]:
    """All that is sent to have a grid kept."""
    kappa = grid.coefficient
    arrays = () if kappa is None else kappa if isinstance(kappa, tuple) else (kappa,)
    yield pb.CreateGridRequest(
        header=pb.GridHeader(
            cells=tensors.header_of(grid.cells),
            spacing=grid.spacing,
            boundary=[pb.AxisBoundary(low=_SIDES[low], high=_SIDES[high]) for low, high in grid.boundary],
            coefficient=[tensors.header_of(array) for array in arrays],
            shared=shared,
            attendance=attendance,
        )
    )
    for part in tensors.parts_of(grid.cells, checksum=wire.checksums):
        yield pb.CreateGridRequest(cells=part)
    for array in arrays:
        for part in tensors.parts_of(array, checksum=wire.checksums):
            yield pb.CreateGridRequest(coefficient=part)


def change_requests(grid_id: str, change: Change, wire: Wire) -> Iterator[pb.UpdateGridRequest]:
    """All that is sent to have a grid changed."""
    yield pb.UpdateGridRequest(header=pb.UpdateGridHeader(id=grid_id, change=change.message()))
    yield from change.requests(pb.UpdateGridRequest, wire)
