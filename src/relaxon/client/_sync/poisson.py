# Generated from relaxon/client/_async/poisson.py by tools/generate_client.py: edit that file and run the tool.
"""Poisson systems on a server: grids that it keeps, and solves on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from numpy.typing import ArrayLike

from relaxon.client._sync.remote import RemoteSystem, ServerLink
from relaxon.client.shared.blocking_runtime import open_now
from relaxon.core import errors
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import poisson_pb2_grpc
from relaxon.solvers.grid.arguments import SpacingLike
from relaxon.solvers.grid.poisson_grid import Boundary, BoundaryLike
from relaxon.wire.chunks import wrap_channel
from relaxon.wire.conversions.grid import (
    SolverInfo,
    build_grid,
    check_extended,
    grid_requests,
    needs_extended,
    read_solver_infos,
)
from relaxon.wire.conversions.grid_change import Kappa, Reaction, Unchanged, change_of, change_requests
from relaxon.wire.conversions.steps import Step
from relaxon.wire.conversions.system import GridHandle
from relaxon.wire.handover import Handover, offer_file
from relaxon.wire.ownership import NotPickled


class PoissonClient(NotPickled):
    """The Poisson calls of a `relaxon.client.Client`."""

    def __init__(self, link: ServerLink) -> None:
        channel = wrap_channel(link.channel)
        self._stub: poisson_pb2_grpc.PoissonServiceStub = poisson_pb2_grpc.PoissonServiceStub(channel)
        self._link = link
        self._caller = link.caller

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
    ) -> RemoteGrid:
        """Have the server keep a grid; the arguments are those of `relaxon.solvers.PoissonGrid`.

        Use the result in a `with` statement, which deletes the grid at its end. The server
        also deletes a grid that has not been used for some time (`expires`), or whose client has closed its connection
        or is gone. `timeout` is in seconds, None for the client's.

        Raises
        ------
        InvalidArgument : for a bad argument, which it names; before anything is sent where the client can tell.
        ResourceExhausted : the grid is larger than the server accepts, or the server keeps too many.
        FailedPrecondition : the server is too old for this kind of grid.
        """

        def open_grid() -> RemoteGrid:
            seconds = self._caller.transfer_seconds(timeout)
            grid = build_grid(cells, spacing, boundary, coefficient, reaction, volume)
            attendance = self._link.attendance.name()
            with offer_file(grid.cells.size, self._link.wire.shared_memory) as (file, offer):
                # A grid whose answer was lost stays until it expires, so making it twice does harm.
                kept = self._caller.make(
                    partial(self._stub.CreateGrid, compression=self._link.wire.outgoing),
                    partial(grid_requests, grid, self._link.wire, offer, attendance),
                    idempotent=False,
                    seconds=seconds,
                )
                if not kept.extended and needs_extended(grid):
                    self._caller.make(self._stub.DeleteGrid, pb.DeleteGridRequest(id=kept.id), idempotent=True)
                check_extended(kept.extended, needs_extended(grid))
                handover = Handover(file if kept.shared else None)
            return RemoteGrid(self._stub, kept, grid.shape, handover, self._link)

        return open_now(open_grid)

    def list_solvers(self) -> tuple[SolverInfo, ...]:
        """List the solvers that the server knows by name, the best first."""
        return read_solver_infos(self._caller.make(self._stub.ListSolvers, pb.ListSolversRequest(), idempotent=True))


class RemoteGrid(GridHandle, RemoteSystem[Step]):
    """A grid that a server keeps, from `client.poisson.grid` of a `relaxon.client.Client`."""

    def __init__(
        self,
        stub: poisson_pb2_grpc.PoissonServiceStub,
        kept: pb.Grid,
        shape: tuple[int, ...],
        handover: Handover,
        link: ServerLink,
    ) -> None:
        super().__init__(stub.Solve, stub.SolveSteps, handover, link)
        self._stub = stub
        self._note_kept(kept, shape)

    def update(
        self,
        cells: ArrayLike | None = None,
        coefficient: Kappa | Unchanged = "unchanged",
        reaction: Reaction | Unchanged = "unchanged",
        *,
        volume: ArrayLike | Unchanged | None = "unchanged",
        timeout: float | None = None,
    ) -> None:
        """Replace the grid's cells, κ, σ or volumes, as when obstacles move. Shape, spacing and sides stay.

        What was set up for the grid is set up again when the grid is next used.

        Parameters
        ----------
        cells : as for `grid`; None leaves them.
        coefficient : as for `grid`; None for 1 everywhere.
        reaction : as for `grid`; None for 0.
        volume : as for `grid`; None for whole cells.

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
            self._note_reply(self._caller.make(method, requests, idempotent=True, seconds=seconds))

    def _deletion_call(self) -> tuple[Callable[..., Any], Any]:
        return self._stub.DeleteGrid, pb.DeleteGridRequest(id=self.id)
