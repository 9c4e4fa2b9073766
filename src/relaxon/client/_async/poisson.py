"""Poisson systems on a server for asyncio: grids that it keeps, and solves on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from typing import Any

import grpc.aio
from numpy.typing import ArrayLike

from relaxon.client._async.attendance import Attendance
from relaxon.client._async.caller import Caller
from relaxon.client._async.opening import Opening
from relaxon.client._async.remote import RemoteSystem
from relaxon.client._async.steps_call import solutions
from relaxon.core import errors
from relaxon.core.solution import Callback, Solution
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import poisson_pb2_grpc
from relaxon.solvers.grid.arguments import SpacingLike
from relaxon.solvers.grid.poisson_grid import Boundary, BoundaryLike
from relaxon.wire.arrays import Wire
from relaxon.wire.chunks import chunked
from relaxon.wire.conversions.grid import (
    SolverInfo,
    check_extended,
    checked_grid,
    grid_requests,
    needs_extended,
    solver_infos,
)
from relaxon.wire.conversions.grid_change import Kappa, Reaction, Unchanged, change_of, change_requests
from relaxon.wire.conversions.solve import Inconsistent
from relaxon.wire.conversions.steps import Step
from relaxon.wire.conversions.system import GridHandle
from relaxon.wire.handover import Handover, offered
from relaxon.wire.ownership import NotPickled


class PoissonClient(NotPickled):
    """The Poisson calls of a `relaxon.aio.Client`."""

    def __init__(
        self, channel: grpc.aio.Channel, attendance: Attendance, caller: Caller, target: str, wire: Wire
    ) -> None:
        self._stub: poisson_pb2_grpc.PoissonServiceAsyncStub = poisson_pb2_grpc.PoissonServiceStub(chunked(channel))
        self._attendance = attendance
        self._caller = caller
        self._target = target
        self._wire = wire

    def grid(
        self,
        cells: ArrayLike,
        spacing: SpacingLike = 1.0,
        boundary: BoundaryLike = Boundary.NEUMANN,
        coefficient: ArrayLike | Sequence[ArrayLike] | None = None,
        reaction: float | ArrayLike | None = None,
        *,
        volume: ArrayLike | None = None,
        timeout: float | None = None,
    ) -> Opening[RemoteGrid]:
        """Have the server keep a grid; the arguments are those of `relaxon.solvers.PoissonGrid`.

        `timeout` is in seconds, None for the client's. Await the result, or better use it in an `async with` statement,
        which deletes the grid on the server at its end; a grid not used for a time (`expires`) is forgotten
        anyway, and so is one whose client has closed its connection or gone.

        Raises
        ------
        InvalidArgument : naming the argument, before anything is sent where it can be found here.
        ResourceExhausted : where the grid is larger than the server takes, or it keeps too many.
        FailedPrecondition : where the server is too old for the kind of grid.
        """
        return Opening(partial(self._made, cells, spacing, boundary, coefficient, reaction, volume, timeout))

    async def list_solvers(self) -> tuple[SolverInfo, ...]:
        """The solvers that the server knows by name, best first."""
        return solver_infos(await self._caller.make(self._stub.ListSolvers, pb.ListSolversRequest(), idempotent=True))

    async def _made(
        self,
        cells: ArrayLike,
        spacing: SpacingLike,
        boundary: BoundaryLike,
        coefficient: ArrayLike | Sequence[ArrayLike] | None,
        reaction: float | ArrayLike | None,
        volume: ArrayLike | None,
        timeout: float | None,
    ) -> RemoteGrid:
        seconds = self._caller.transfer_seconds(timeout)
        grid = await asyncio.to_thread(checked_grid, cells, spacing, boundary, coefficient, reaction, volume)
        attendance = await self._attendance.name()
        with offered(grid.cells.size, self._wire.shared_memory) as (file, told):
            # A grid whose answer was lost would be kept until it expires: making it twice does harm.
            kept = await self._caller.make(
                partial(self._stub.CreateGrid, compression=self._wire.outgoing),
                partial(grid_requests, grid, self._wire, told, attendance),
                idempotent=False,
                seconds=seconds,
            )
            if not kept.extended and needs_extended(grid):
                await self._caller.make(self._stub.DeleteGrid, pb.DeleteGridRequest(id=kept.id), idempotent=True)
            check_extended(kept.extended, needs_extended(grid))
            handover = Handover(file if kept.shared else None)
        return RemoteGrid(self._stub, kept, grid.shape, self._caller, self._target, handover, self._wire)


class RemoteGrid(GridHandle, RemoteSystem):
    """A grid that a server keeps, from `client.poisson.grid` of a `relaxon.aio.Client`."""

    def __init__(
        self,
        stub: poisson_pb2_grpc.PoissonServiceAsyncStub,
        kept: pb.Grid,
        shape: tuple[int, ...],
        caller: Caller,
        target: str,
        handover: Handover,
        wire: Wire,
    ) -> None:
        super().__init__(stub.Solve, handover, caller, target, wire)
        self._stub = stub
        self._told(kept, shape)

    def solve_steps(
        self,
        steps: Iterable[ArrayLike | Step] | AsyncIterable[ArrayLike | Step],
        *,
        solver: str | None = None,
        device: str | None = None,
        rtol: float = 1e-6,
        atol: float = 0.0,
        max_iterations: int | None = None,
        x0: ArrayLike | None = None,
        warm_start: bool = True,
        read_ahead: bool = True,
        callback: Callback | None = None,
        inconsistent: Inconsistent = "error",
        timeout: float | None = None,
    ) -> AsyncIterator[Solution]:
        """Solve for one right-hand side after the other, each from the solution of the one before it.

        Parameters
        ----------
        steps : right-hand sides, or a `Step` where cells, κ, σ or volumes change as well. It is pulled from as
            solutions are taken, in the event loop's thread, and may be an async iterable; its arrays are its own again
            when it is asked for the next.
        warm_start : start each step from the last solution; False for zero.
        read_ahead : take a step from `steps` before the solution of the one before it has been given out, so that its
            way to the server overlaps the solve. False where a step's right-hand side depends on the last solution.
        timeout : seconds in which each step has to be answered, None for the client's.

        Everything else is as in `solve`; `x0` is the first step's start. Leave the iteration and the call ends, with
        the step that is being solved. A callback that returns True stops its own step alone.

        Raises
        ------
        As `solve`, an argument's mistake at once and a step's when its turn has come; InvalidArgument names it `b[3]`.
        """
        seconds = self._caller.transfer_seconds(timeout)
        terms = self._terms(solver, device, rtol, atol, max_iterations, inconsistent, callback is not None)
        messages_for = self._step_messages(self._grid_step_messages, terms, x0, warm_start, seconds)
        with errors.refusals():
            if not isinstance(steps, Iterable | AsyncIterable):
                raise TypeError(f"steps must be an iterable of right-hand sides, got {type(steps).__name__}")
        begin = partial(self._stub.SolveSteps, compression=self._wire.outgoing)
        return self._solutions(
            solutions(self._caller, begin, self._handover, messages_for, steps, callback, read_ahead, seconds)
        )

    async def update(
        self,
        cells: ArrayLike | None = None,
        coefficient: Kappa | Unchanged = "unchanged",
        reaction: Reaction | Unchanged = "unchanged",
        *,
        volume: ArrayLike | Unchanged | None = "unchanged",
        timeout: float | None = None,
    ) -> None:
        """Put other cells, another κ, σ or volumes in the place of the grid's: obstacles that move. Shape, spacing and
        sides stay. What was set up for the grid is set up again when it is next used.

        Parameters
        ----------
        cells : as for `grid`; None where they stay.
        coefficient : as for `grid`, None for 1 everywhere.
        reaction : as for `grid`, None for 0.
        volume : as for `grid`, None for whole cells.

        Raises
        ------
        As `grid`.
        """
        seconds = self._caller.transfer_seconds(timeout)
        with errors.refusals():
            change = change_of(cells, coefficient, self.shape, reaction, volume)
        if change is None:
            return
        check_extended(self.extended, change.needs_extended)
        method = partial(self._stub.UpdateGrid, compression=self._wire.outgoing)
        requests = partial(change_requests, self.id, change, self._wire)
        with self._in_use():
            self._changed(await self._caller.make(method, requests, idempotent=True, seconds=seconds))

    def _deletion(self) -> tuple[Callable[..., Any], Any]:
        return self._stub.DeleteGrid, pb.DeleteGridRequest(id=self.id)
