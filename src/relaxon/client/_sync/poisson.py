# Generated from relaxon/client/_async/poisson.py by tools/generate_client.py: edit that file and run the tool.
"""Poisson systems on a server: grids that it keeps, and solves on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from numpy.typing import ArrayLike

from relaxon.client._sync.remote import RemoteSystem, ServerLink
from relaxon.client._sync.steps_call import StepSequence
from relaxon.client.shared.blocking_runtime import open_now
from relaxon.core import errors
from relaxon.core.solution import Callback, Solution
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
from relaxon.wire.conversions.solve import Inconsistent
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


class RemoteGrid(GridHandle, RemoteSystem):
    """A grid that a server keeps, from `client.poisson.grid` of a `relaxon.client.Client`."""

    def __init__(
        self,
        stub: poisson_pb2_grpc.PoissonServiceStub,
        kept: pb.Grid,
        shape: tuple[int, ...],
        handover: Handover,
        link: ServerLink,
    ) -> None:
        super().__init__(stub.Solve, handover, link)
        self._stub = stub
        self._told(kept, shape)

    def solve_steps(
        self,
        steps: Iterable[ArrayLike | Step],
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
    ) -> Iterator[Solution]:
        """Solve for one right-hand side after another, each starting from the solution before it.

        Parameters
        ----------
        steps : right-hand sides, or a `Step` where cells, κ, σ or volumes change as well. They are read
            in the caller's own thread as solutions are taken.
            The arrays of a step may change once the next one is asked for.
        warm_start : start each step from the last solution; False starts from zero.
        read_ahead : take a step from `steps` before yielding the solution of the step before it, so that sending it
            overlaps with the solve. Use False where a right-hand side depends on the last solution.
        timeout : seconds for each step, None for the client's.

        The other arguments are those of `solve`; `x0` is the start of the first step. Leaving the iteration ends the
        call and the step that is being solved. A callback that returns True stops only its own step.

        Raises
        ------
        As `solve`: for an argument at once, and for a step when its turn has come. InvalidArgument then names `b[3]`,
        say.

        Examples
        --------
        >>> import numpy as np
        >>> import relaxon
        >>> from relaxon.server.app import EmbeddedServer
        >>> cells = np.zeros((32, 32), np.uint8)
        >>> b = np.outer(np.hanning(32), np.hanning(32))
        >>> def count_iterations(target):
        ...     with relaxon.connect(target) as client:
        ...         with client.poisson.grid(cells, boundary="dirichlet") as grid:
        ...             sides = (b * (1 + 1e-3 * k) for k in range(3))
        ...             return [solution.iterations for solution in grid.solve_steps(sides)]
        >>> with EmbeddedServer() as server:
        ...     counts = count_iterations(server.target)
        >>> counts[0] > counts[1] >= counts[2]
        True
        """
        seconds = self._caller.transfer_seconds(timeout)
        terms = self._terms(solver, device, rtol, atol, max_iterations, inconsistent, callback is not None)
        messages_for = self._step_messages(self._grid_step_messages, terms, x0, warm_start, seconds)
        with errors.refusals():
            if not isinstance(steps, Iterable):
                raise TypeError(f"steps must be an iterable of right-hand sides, got {type(steps).__name__}")
        method = partial(self._stub.SolveSteps, compression=self._wire.outgoing)
        call = StepSequence(self._caller, method, steps, callback, read_ahead, seconds)
        return self._yield_solutions(call.solutions(self._handover, messages_for))

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
            self._changed(self._caller.make(method, requests, idempotent=True, seconds=seconds))

    def _deletion_call(self) -> tuple[Callable[..., Any], Any]:
        return self._stub.DeleteGrid, pb.DeleteGridRequest(id=self.id)
