"""`PoissonService`: grids that are kept, and solves on them. Messages and admission only; no numerics."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

import grpc

from relaxon.core.naming import DeviceUnavailableError
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import poisson_pb2_grpc
from relaxon.server.gate import errors
from relaxon.server.gate.identity import caller_of
from relaxon.server.solving import footprint, grid_changes, grid_messages
from relaxon.server.solving.grid_changes import GridChange, GridStepping
from relaxon.server.solving.grids import KeptGrid
from relaxon.server.solving.solve_messages import Shapes
from relaxon.server.solving.solve_service import SolveRuntime, solver_list
from relaxon.server.solving.steps import StepsCall
from relaxon.solvers.driver import registry
from relaxon.solvers.interface.engine import Solver

Context = grpc.aio.ServicerContext[Any, Any]


class PoissonServicer(poisson_pb2_grpc.PoissonServiceServicer):
    """The Poisson calls."""

    def __init__(self, runtime: SolveRuntime) -> None:
        self._runtime = runtime

    async def CreateGrid(self, request_iterator: object, context: Context) -> pb.Grid:
        return await errors.reported(context, self._create_grid(context))

    async def UpdateGrid(self, request_iterator: object, context: Context) -> pb.Grid:
        return await errors.reported(context, self._update_grid(context))

    # Read and written through the context: the replies depend on requests that may come at any time.
    async def Solve(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._runtime.answer_solve(context, KeptGrid, side_shapes, solver_named))

    async def SolveSteps(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, StepsCall(self._runtime, context, solver_named, GridStepping()).run())

    async def DeleteGrid(self, request: pb.DeleteGridRequest, context: Context) -> pb.DeleteGridReply:
        return await errors.reported(context, self._delete_grid(request, context))

    async def ListSolvers(self, request: pb.ListSolversRequest, context: Context) -> pb.ListSolversReply:
        return await errors.reported(context, self._runtime.beside(_solvers))

    async def _create_grid(self, context: Context) -> pb.Grid:
        runtime = self._runtime
        upload, owner = runtime.upload(context), caller_of(context).name
        header: pb.GridHeader = await upload.header()
        runtime.attendances.check(header.attendance)
        planned = grid_messages.plan(header)
        cells, arrays = math.prod(planned.cells.shape), planned.arrays
        entries = sum(math.prod(one.shape) for _, one in arrays[1:])
        passing = sum(math.prod(one.shape) * one.dtype.itemsize for _, one in arrays)
        kept_bytes = footprint.grid_bytes(cells, entries) + runtime.shared_room(header, cells)
        with runtime.sessions.reserve(owner, cells, kept_bytes, passing):
            uploaded = [await upload.array(kind, one) for kind, one in arrays]
            await upload.end()
            start = time.perf_counter()
            grid = await runtime.beside(partial(planned.build, uploaded))
            seconds = time.perf_counter() - start
        kept = KeptGrid(grid, owner, runtime.opened(header, cells), header.attendance)
        runtime.sessions.add(kept)
        return _described(kept, seconds)

    async def _update_grid(self, context: Context) -> pb.Grid:
        runtime = self._runtime
        upload, caller = runtime.upload(context), caller_of(context)
        header: pb.UpdateGridHeader = await upload.header()
        with runtime.sessions.use(header.id, caller, KeptGrid) as kept:
            planned = grid_changes.plan(header.change, kept.grid.shape)
            with runtime.places.taking(), runtime.sessions.hold(caller.name, planned.bytes):
                change = await planned.read(upload)
                await upload.end()

                # In turn with the solves: one that was asked for before has the grid as it was.
                work = partial(_changed, kept, change)
                seconds = await runtime.in_turn(work, kept, caller.name, planned.bytes)
                return _described(kept, seconds)

    async def _delete_grid(self, request: pb.DeleteGridRequest, context: Context) -> pb.DeleteGridReply:
        self._runtime.sessions.remove(request.id, caller_of(context), KeptGrid)
        return pb.DeleteGridReply()


def _changed(kept: KeptGrid, change: GridChange) -> float:
    """Change a grid, in a worker thread; the seconds that took."""
    with kept.running:
        start = time.perf_counter()
        kept.change(change.made(kept.grid))
        return time.perf_counter() - start


def side_shapes(kept: KeptGrid) -> Shapes:
    """The shapes that right-hand sides on a grid may have."""
    return kept.grid.shape, (kept.grid.unknowns,)


def solver_named(name: str) -> Solver:
    """The solver of that name; INVALID_ARGUMENT for an unknown one, FAILED_PRECONDITION where it lacks something."""
    try:
        return registry.get(name)
    except ValueError as error:
        raise errors.refused(error) from error
    except (ImportError, DeviceUnavailableError) as error:
        raise errors.unavailable_solver(name, error) from error


def _described(kept: KeptGrid, seconds: float) -> pb.Grid:
    reply = pb.Grid(
        id=kept.id,
        unknowns=kept.grid.unknowns,
        singular_components=kept.grid.nullspace.dimension,
        setup_seconds=seconds,
        shared=kept.shared is not None,
        extended=True,
    )
    reply.expire_time.FromMilliseconds(int(1000 * kept.expires))
    return reply


def _solvers() -> pb.ListSolversReply:
    return solver_list((entry.name, entry.summary, entry.needs) for entry in registry.list_solvers())
