"""Poisson systems on a server: grids that it keeps, and solves on them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import TracebackType

import grpc
from numpy.typing import ArrayLike

from relaxon.client import errors
from relaxon.client.caller import Caller
from relaxon.client.handover import Handover, offered
from relaxon.client.poisson_messages import (
    GridHandle,
    Inconsistent,
    SolverInfo,
    checked_grid,
    grid_requests,
    numbered,
    solver_infos,
)
from relaxon.client.solve_call import SolveCall
from relaxon.client.solve_request import SolveRequest
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import poisson_pb2_grpc
from relaxon.solvers.grid import Boundary, BoundaryLike
from relaxon.solvers.solution import Callback, Solution


class PoissonClient:
    """The Poisson calls of a `Client`."""

    def __init__(self, channel: grpc.Channel, caller: Caller, target: str, shared_memory: bool) -> None:
        self._stub = poisson_pb2_grpc.PoissonServiceStub(channel)
        self._caller = caller
        self._target = target
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
        seconds = self._caller.transfer_seconds(timeout)
        grid = checked_grid(cells, spacing, boundary, coefficient)
        with offered(grid.cells.size, self._shared_memory) as (file, told):
            # A grid whose answer was lost would be kept until it expires: making it twice does harm.
            kept = self._caller.make(
                self._stub.CreateGrid, partial(grid_requests, grid, told), idempotent=False, seconds=seconds
            )
            handover = Handover(file if kept.shared else None)
        return RemoteGrid(self._stub, kept, grid.shape, self._caller, self._target, handover)

    def list_solvers(self) -> tuple[SolverInfo, ...]:
        """The solvers that the server knows by name, best first."""
        return solver_infos(self._caller.make(self._stub.ListSolvers, pb.ListSolversRequest(), idempotent=True))


class RemoteGrid(GridHandle):
    """A grid that a server keeps, from `client.poisson.grid`."""

    def __init__(
        self,
        stub: poisson_pb2_grpc.PoissonServiceStub,
        kept: pb.Grid,
        shape: tuple[int, ...],
        caller: Caller,
        target: str,
        handover: Handover,
    ) -> None:
        super().__init__(kept, shape, target)
        self._stub = stub
        self._caller = caller
        self._handover = handover

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
        longer is stopped. A solve that is made again (`Retries`) begins anew, for the callback too.

        Raises
        ------
        InvalidArgument : naming the argument. NotFound : the grid was deleted. GridLost : the server was restarted
        or has forgotten it. FailedPrecondition : the server lacks the solver's packages. ResourceExhausted : too
        many solves are waiting. DeadlineExceeded, Unavailable, InternalError.
        """
        seconds = self._caller.transfer_seconds(timeout)
        request = self._solve_request(
            "b", b, solver, rtol, atol, max_iterations, x0, inconsistent, callback is not None
        )
        return self._solved(request, callback, seconds)

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
        seconds = self._caller.transfer_seconds(timeout)
        requests = self._solve_requests(b, solver, rtol, atol, max_iterations, x0, inconsistent, callback is not None)
        solutions: list[Solution] = []
        for number, request in enumerate(requests):
            with numbered(number):
                solutions.append(self._solved(request, callback, seconds))
        return tuple(replace(one, setup_seconds=solutions[0].setup_seconds) for one in solutions)

    def delete(self) -> None:
        """Have the server forget the grid; NotFound where it already has."""
        self._delete(repeated=True)

    def __enter__(self) -> RemoteGrid:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A grid that is gone is what is wanted; and where the block failed, its error matters more than this one.
        with suppress(errors.NotFound if error is None else errors.RelaxonError):
            self._delete(repeated=error is None)

    def _delete(self, repeated: bool) -> None:
        self._caller.delete(self._stub.DeleteGrid, pb.DeleteGridRequest(id=self.id), repeated=repeated)
        self._deleted = True
        self._handover.close()

    def _solved(self, request: SolveRequest, callback: Callback | None, seconds: float) -> Solution:
        attempts = self._caller.attempts(seconds)
        while True:
            try:
                # The file is borrowed for each attempt: a server that went away may still be writing to it.
                with self._in_use(), self._handover.lent() as shared:
                    return SolveCall(request, callback, shared).run(self._stub, attempts.left())
            except errors.RelaxonError as error:
                wait = attempts.wait_after(error, idempotent=True)
                if wait is None:
                    raise
            time.sleep(wait)
