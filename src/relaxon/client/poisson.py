"""Poisson systems on a server: grids that it keeps, and solves on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

import grpc
from numpy.typing import ArrayLike, NDArray

from relaxon.client import errors
from relaxon.client.handover import Handover, offered
from relaxon.client.solve_call import SolveCall
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import poisson_pb2_grpc, tensor_pb2, tensors
from relaxon.solvers import validation
from relaxon.solvers.grid import Boundary, BoundaryLike, PoissonGrid
from relaxon.solvers.solution import Callback, Solution

PROGRESS_SECONDS = 0.05
"""How often a callback is called at most; a solve can make thousands of iterations a second."""
_SIDES = {
    Boundary.NEUMANN: pb.BOUNDARY_NEUMANN,
    Boundary.DIRICHLET: pb.BOUNDARY_DIRICHLET,
    Boundary.PERIODIC: pb.BOUNDARY_PERIODIC,
}
_INCONSISTENT = {
    "error": pb.INCONSISTENT_ERROR,
    "report": pb.INCONSISTENT_REPORT,
    "project": pb.INCONSISTENT_PROJECT,
}
Inconsistent = Literal["error", "report", "project"]


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

    def __init__(self, channel: grpc.Channel, timeout: float, transfer_timeout: float, shared_memory: bool) -> None:
        self._stub = poisson_pb2_grpc.PoissonServiceStub(channel)
        self._timeout = timeout
        self._transfer_timeout = transfer_timeout
        self._shared_memory = shared_memory

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
        deletes it on the server at its end; a grid not used for a time (`expires`) is forgotten anyway.

        Raises
        ------
        InvalidArgument : naming the argument, before anything is sent where it can be found here.
        ResourceExhausted : where the grid is larger than the server takes, or it keeps too many.
        """
        with errors.refusals():
            seconds = self._transfer_timeout if timeout is None else validation.positive_float("timeout", timeout)
            grid = PoissonGrid(cells, spacing, boundary, coefficient)
        with offered(grid.cells.size, self._shared_memory) as (file, told):
            with errors.translated():
                reply = self._stub.CreateGrid(_grid_requests(grid, told), timeout=seconds)
            handover = Handover(file if reply.shared else None)
        return RemoteGrid(self._stub, reply, grid.shape, self._timeout, self._transfer_timeout, handover)

    def list_solvers(self) -> tuple[SolverInfo, ...]:
        """The solvers that the server knows by name, best first."""
        with errors.translated():
            reply = self._stub.ListSolvers(pb.ListSolversRequest(), timeout=self._timeout)
        return tuple(SolverInfo(one.name, one.summary, tuple(one.missing)) for one in reply.solvers)


class RemoteGrid:
    """A grid that a server keeps, from `client.poisson.grid`."""

    def __init__(
        self,
        stub: poisson_pb2_grpc.PoissonServiceStub,
        kept: pb.Grid,
        shape: tuple[int, ...],
        timeout: float,
        transfer_timeout: float,
        handover: Handover,
    ) -> None:
        self._stub = stub
        self._handover = handover
        self._timeout = timeout
        self._transfer_timeout = transfer_timeout
        self.id: str = kept.id
        self.shape = shape
        self.unknowns: int = kept.unknowns
        self.singular_components: int = kept.singular_components
        """Fluid components that neither air nor a Dirichlet side holds; `b` must sum to zero over each."""
        self.setup_seconds: float = kept.setup_seconds
        """What the server spent on checking the grid and finding its components."""
        self.expires: datetime = kept.expire_time.ToDatetime(UTC)
        """When the server would have forgotten the grid had it not been used since it was made."""

    def solve(
        self,
        b: ArrayLike,
        *,
        solver: str = "dcdm",
        rtol: float = 1e-6,
        atol: float = 0.0,
        max_iterations: int | None = None,
        x0: ArrayLike | None = None,
        callback: Callback | None = None,
        inconsistent: Inconsistent = "error",
        timeout: float | None = None,
    ) -> Solution:
        """Solve `A x = b` on the server; the arguments and the result are those of `relaxon.solvers.solve`.

        Differences: `solver` is a name. `setup_seconds` is what the set-up took in this call: 0 where an earlier
        solve on this grid has done it. `callback` sees the newest iteration about every 50 ms rather than each one
        (`residuals` has them all); where it returns True the solve stops at its next iteration, and what it has by
        then comes back with `Result.CANCELLED`. `timeout` is in seconds, None for the client's; a solve that takes
        longer is stopped.

        Raises
        ------
        InvalidArgument : naming the argument. NotFound : the grid was deleted or has expired. FailedPrecondition :
        the server lacks the solver's packages. ResourceExhausted : too many solves are waiting. DeadlineExceeded,
        Unavailable, InternalError.
        """
        seconds = self._seconds(timeout)
        request = self._request("b", b, solver, rtol, atol, max_iterations, x0, inconsistent, callback is not None)
        return self._call(request, callback, seconds)

    def solve_many(
        self,
        b: ArrayLike | Sequence[ArrayLike],
        *,
        solver: str = "dcdm",
        rtol: float = 1e-6,
        atol: float = 0.0,
        max_iterations: int | None = None,
        x0: ArrayLike | Sequence[ArrayLike] | None = None,
        callback: Callback | None = None,
        inconsistent: Inconsistent = "error",
        timeout: float | None = None,
    ) -> tuple[Solution, ...]:
        """Solve for several right-hand sides, one after the other, with one set-up.

        `b` is `(k, *grid.shape)`, `(k, unknowns)` or a sequence of right-hand sides; `x0` likewise. All are
        checked here before the first is sent. As in process, every solution has the `setup_seconds` of the shared
        set-up.
        `timeout` is for each; otherwise as `solve`.
        """
        with errors.refusals():
            sides: list[Any] = list(b)  # type: ignore[arg-type]
            if not sides:
                raise ValueError("b must hold at least one right-hand side, got none")
            starts: list[Any] = [None] * len(sides) if x0 is None else list(x0)  # type: ignore[arg-type]
            if len(starts) != len(sides):
                raise ValueError(
                    f"x0 must hold one start for each of the {len(sides)} right-hand sides, got {len(starts)}"
                )
        seconds = self._seconds(timeout)
        progress = callback is not None
        requests = [
            self._request(f"b[{i}]", side, solver, rtol, atol, max_iterations, start, inconsistent, progress)
            for i, (side, start) in enumerate(zip(sides, starts, strict=True))
        ]
        solutions = []
        for i, request in enumerate(requests):
            try:
                solutions.append(self._call(request, callback, seconds))
            except errors.InvalidArgument as error:
                if error.field != "b":
                    raise
                # The server has one right-hand side a call and cannot know which of ours it was.
                raise errors.InvalidArgument(f"b[{i}]{str(error).removeprefix('b')}", f"b[{i}]") from error
        return tuple(replace(one, setup_seconds=solutions[0].setup_seconds) for one in solutions)

    def delete(self) -> None:
        """Have the server forget the grid; NotFound where it already has."""
        with errors.translated():
            self._stub.DeleteGrid(pb.DeleteGridRequest(id=self.id), timeout=self._timeout)
        self._handover.close()

    def __enter__(self) -> RemoteGrid:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A grid that is gone is what is wanted; and where the block failed, its error matters more than this one.
        with suppress(errors.NotFound if error is None else errors.RelaxonError):
            self.delete()

    def __repr__(self) -> str:
        return f"RemoteGrid({'×'.join(map(str, self.shape))}, {self.unknowns} unknowns)"

    def _call(
        self,
        request: tuple[pb.SolveHeader, NDArray[Any], NDArray[Any] | None],
        callback: Callback | None,
        seconds: float,
    ) -> Solution:
        with self._handover.lent() as shared:
            return SolveCall(*request, callback, shared).run(self._stub, seconds)

    def _seconds(self, timeout: float | None) -> float:
        with errors.refusals():
            return self._transfer_timeout if timeout is None else validation.positive_float("timeout", timeout)

    def _request(
        self,
        name: str,
        b: ArrayLike,
        solver: str,
        rtol: float,
        atol: float,
        max_iterations: int | None,
        x0: ArrayLike | None,
        inconsistent: str,
        progress: bool,
    ) -> tuple[pb.SolveHeader, NDArray[Any], NDArray[Any] | None]:
        """A solve's header and arrays, refused here where they can be, in the words of the engines."""
        with errors.refusals():
            if not isinstance(solver, str):
                raise TypeError(f"solver must be a name here, got {type(solver).__name__}")
            header = pb.SolveHeader(
                grid_id=self.id,
                solver=solver,
                rtol=validation.positive_float("rtol", rtol),
                atol=validation.non_negative_float("atol", atol),
            )
            if max_iterations is not None:
                # The wire has 63 bits for what nobody can count to.
                header.max_iterations = min(validation.positive_int("max_iterations", max_iterations), 2**63 - 1)
            if inconsistent not in _INCONSISTENT:
                raise ValueError(f"inconsistent must be 'error', 'report' or 'project', got {inconsistent!r}")
            header.inconsistent = _INCONSISTENT[inconsistent]
            side = self._side(name, b)
            start = None if x0 is None else self._side("x0", x0)
        header.b.CopyFrom(tensors.header_of(side))
        if start is not None:
            header.x0.CopyFrom(tensors.header_of(start))
        if progress:
            header.progress_interval.FromMilliseconds(round(1000 * PROGRESS_SECONDS))
        return header, side, start

    def _side(self, name: str, value: ArrayLike) -> NDArray[Any]:
        array = validation.real_array(name, value)
        if array.shape not in (self.shape, (self.unknowns,)):
            raise ValueError(
                f"{name} must have the grid's shape {self.shape} or be packed with shape ({self.unknowns},), "
                f"got {array.shape}"
            )
        return array


def _grid_requests(grid: PoissonGrid, shared: tensor_pb2.SharedFile | None) -> Iterator[pb.CreateGridRequest]:
    kappa = grid.coefficient
    arrays = () if kappa is None else kappa if isinstance(kappa, tuple) else (kappa,)
    yield pb.CreateGridRequest(
        header=pb.GridHeader(
            cells=tensors.header_of(grid.cells),
            spacing=grid.spacing,
            boundary=[pb.AxisBoundary(low=_SIDES[low], high=_SIDES[high]) for low, high in grid.boundary],
            coefficient=[tensors.header_of(array) for array in arrays],
            shared=shared,
        )
    )
    for part in tensors.parts_of(grid.cells):
        yield pb.CreateGridRequest(cells=part)
    for array in arrays:
        for part in tensors.parts_of(array):
            yield pb.CreateGridRequest(coefficient=part)
