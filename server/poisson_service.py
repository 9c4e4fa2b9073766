"""`PoissonService`: grids that are kept, and solves on them. Messages and admission only; no numerics."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, TypeVar

import grpc

from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import poisson_pb2_grpc
from relaxon.proto.shared import SharedFile
from relaxon.server import errors, grid_messages, solve_messages
from relaxon.server.grids import GridStore, KeptGrid
from relaxon.server.observations import Observations
from relaxon.server.settings import ServerSettings
from relaxon.server.solve_job import SolveArguments, SolveJob
from relaxon.server.uploads import Upload
from relaxon.solvers import registry
from relaxon.solvers.engine import Solver
from relaxon.solvers.solution import Solution

Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")
QUEUE_RETRY_SECONDS = 1.0


class PoissonServicer(poisson_pb2_grpc.PoissonServiceServicer):
    """The service's calls.

    `engines` runs the solves; `checks` runs what takes more than a moment beside them (checking a grid, importing
    a solver's module), so that the event loop never computes. `observations` is told of the solves.
    """

    def __init__(
        self,
        settings: ServerSettings,
        grids: GridStore,
        engines: Executor,
        checks: Executor,
        observations: Observations | None = None,
    ) -> None:
        self._settings = settings
        self._grids = grids
        self._engines = engines
        self._checks = checks
        self._observations = observations
        self._pending = 0

    @property
    def pending(self) -> int:
        """Solves that wait, run or send their answer."""
        return self._pending

    async def CreateGrid(self, request_iterator: object, context: Context) -> pb.Grid:
        return await errors.reported(context, self._create_grid(self._upload(context)))

    # Read and written through the context: the replies depend on requests that may come at any time.
    async def Solve(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        await errors.reported(context, self._answer_solve(self._upload(context), context))

    async def DeleteGrid(self, request: pb.DeleteGridRequest, context: Context) -> pb.DeleteGridReply:
        return await errors.reported(context, self._delete_grid(request))

    async def ListSolvers(self, request: pb.ListSolversRequest, context: Context) -> pb.ListSolversReply:
        return await errors.reported(context, self._beside(_solver_list))

    def _upload(self, context: Context) -> Upload:
        return Upload(context, self._settings.idle_seconds)

    async def _create_grid(self, upload: Upload) -> pb.Grid:
        header: pb.GridHeader = await upload.header()
        planned = grid_messages.plan(header)
        with self._grids.reserve(math.prod(planned.cells.shape)):
            cells = await upload.array("cells", planned.cells)
            coefficient = [await upload.array("coefficient", one) for one in planned.coefficient]
            await upload.end()
            start = time.perf_counter()
            grid = await self._beside(lambda: planned.build(cells, coefficient))
            seconds = time.perf_counter() - start
        kept = self._grids.add(grid, SharedFile.open(header.shared) if self._settings.shared_memory else None)
        reply = pb.Grid(
            id=kept.id,
            unknowns=grid.unknowns,
            singular_components=grid.nullspace.dimension,
            setup_seconds=seconds,
            shared=kept.shared is not None,
        )
        reply.expire_time.FromMilliseconds(int(1000 * kept.expires))
        return reply

    async def _delete_grid(self, request: pb.DeleteGridRequest) -> pb.DeleteGridReply:
        self._grids.remove(request.id)
        return pb.DeleteGridReply()

    async def _answer_solve(self, upload: Upload, context: Context) -> None:
        header: pb.SolveHeader = await upload.header()
        with self._grids.use(header.grid_id) as kept, self._admitted():
            solution = await self._solve(header, kept, upload, context)
            offset = None
            if header.HasField("shared_x") and kept.shared is not None:
                offset = await asyncio.to_thread(solve_messages.share_x, solution, kept.shared, header.shared_x)
            for reply in solve_messages.solution_replies(solution, offset):
                await context.write(reply)

    async def _solve(self, header: pb.SolveHeader, kept: KeptGrid, upload: Upload, context: Context) -> Solution:
        planned = solve_messages.plan(header, kept.grid, kept.shared)
        arguments = SolveArguments(
            await self._beside(lambda: _solver(planned.solver)),
            planned.solver,
            planned.rtol,
            planned.atol,
            planned.max_iterations,
            planned.inconsistent,
            await upload.array("b", planned.b, kept.shared),
            None if planned.x0 is None else await upload.array("x0", planned.x0, kept.shared),
        )
        trace = None
        if self._observations is not None:
            trace = self._observations.solve(planned.solver, kept.grid.shape, kept.grid.unknowns)
        job = SolveJob(kept, arguments, self._engines, planned.progress_seconds, trace)
        watch = asyncio.create_task(_watch(upload, job))
        try:
            while (progress := await job.next_progress()) is not None:
                await context.write(solve_messages.progress_reply(progress))
            if watch.done():
                watch.result()
            return await job.result()
        finally:
            # Where the caller has gone or its deadline has passed, this stops the solve at its next iteration.
            job.abandon()
            self._count_until_done(job)
            watch.cancel()

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """A place among the pending solves, each of which holds its arrays; RESOURCE_EXHAUSTED if none is free."""
        if self._pending >= self._settings.max_pending:
            raise errors.exhausted(
                "solves",
                f"solves: {self._pending} are pending, which is this server's limit",
                QUEUE_RETRY_SECONDS,
            )
        self._pending += 1
        try:
            yield
        finally:
            self._pending -= 1

    def _count_until_done(self, job: SolveJob) -> None:
        """Keep a place taken for a solve that goes on for a moment after its call has ended."""
        if job.future.done():
            return
        loop = asyncio.get_running_loop()
        self._pending += 1

        def release() -> None:
            self._pending -= 1

        job.future.add_done_callback(lambda _: loop.call_soon_threadsafe(release))

    async def _beside(self, work: Callable[[], Answer]) -> Answer:
        """Run `work` in a thread of `checks`."""
        return await asyncio.get_running_loop().run_in_executor(self._checks, work)


async def _watch(upload: Upload, job: SolveJob) -> None:
    """Wait for the caller's `cancel`; a stream that ends here says nothing. Anything else ends the solve."""
    try:
        if await upload.cancelled():
            job.cancel()
    except errors.ServiceError:
        job.abandon()
        raise


def _solver(name: str) -> Solver:
    try:
        return registry.get(name)
    except ValueError as error:
        raise errors.refused(error) from error
    except ImportError as error:
        raise errors.unavailable_solver(name, error) from error


def _solver_list() -> pb.ListSolversReply:
    solvers = [
        pb.SolverInfo(
            name=entry.name,
            summary=entry.summary,
            missing=[module for module in entry.needs if find_spec(module) is None],
        )
        for entry in registry.list_solvers()
    ]
    return pb.ListSolversReply(solvers=solvers)
