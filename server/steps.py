"""One `SolveSteps` call: a pipeline that reads one step ahead of the one that it solves, and writes behind it.

Three tasks: one reads, one has the steps solved in their order, one writes the answers. At most two right-hand sides
and two solutions are held: no arrays are read while two steps are read and not solved, and no step is solved while two
solutions are not written.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from relaxon.proto import poisson_pb2 as pb
from relaxon.server import errors, grid_changes, solve_messages
from relaxon.server.announced import AnnouncedArray
from relaxon.server.grid_changes import GridChange
from relaxon.server.grids import KeptGrid
from relaxon.server.identity import caller_of
from relaxon.server.solve_job import SolveArguments, SolveJob, answered, prepared
from relaxon.server.solve_service import SolveRuntime, array_bytes, write_progress
from relaxon.solvers.grid import PoissonGrid
from relaxon.solvers.solution import Solution

AHEAD = 2
"""Steps that are read and not yet solved: the one that is being solved, and the next."""
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(slots=True)
class Step:
    """A step as it was read."""

    b: NDArray[Any] | None
    """Taken by who solves it."""
    change: GridChange | None
    shared_x: int | None


class StepsCall:
    """One call, used once."""

    def __init__(self, runtime: SolveRuntime, context: Context, solver: Callable[[str], Any]) -> None:
        self._runtime = runtime
        self._context = context
        self._solver = solver
        self._caller = caller_of(context)
        self._upload = runtime.upload(context, self._aside)
        self._ahead = asyncio.Semaphore(AHEAD)
        self._behind = asyncio.Semaphore(AHEAD)
        self._read_steps: asyncio.Queue[Step | None] = asyncio.Queue()
        self._jobs: asyncio.Queue[tuple[SolveJob, int | None] | None] = asyncio.Queue()
        self._held = self._base = 0
        """Bytes that are taken for the call, and those of them that are the start's."""
        self._changed = False
        """Whether a step has announced other cells: how many unknowns there are then is not known to the reader."""
        self._number = -1
        """Of the step that is being solved."""
        self._job: SolveJob | None = None

    async def run(self) -> None:
        """Read, solve and write until the caller's side has ended and every step is answered."""
        header: pb.StepsHeader = await self._upload.header()
        sessions = self._runtime.sessions
        with sessions.use(header.grid_id, self._caller, KeptGrid) as kept:
            options = solve_messages.options(header)
            x0 = solve_messages.start(header, (kept.grid.shape, (kept.grid.unknowns,)))
            solver = await self._runtime.beside(lambda: self._solver(options.solver))
            if x0 is not None:
                self._base = 2 * math.prod(x0.shape) * x0.dtype.itemsize  # as it comes, and a copy of what is shared
                self._hold(0)
            start = None if x0 is None else (await self._upload.array("x0", x0, kept.shared)).copy()
            self._context.set_compression(options.compression)
            sequence = Sequence(kept, solver, options, start, warm=not header.cold)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._read(kept))
                    tasks.create_task(self._solve(kept, sequence))
                    tasks.create_task(self._write(kept, options.checksums))
            except BaseExceptionGroup as group:
                raise _first(group) from None
            except asyncio.CancelledError as error:
                errors.let_go(error)  # which the task group's own frame holds
                raise
            finally:
                self._upload.close()
                self._job = None
                sessions.give_back(self._caller.name, self._held)

    def _aside(self, message: Any) -> bool:
        """Deals with a `cancel`, which may come between any two messages."""
        if message.WhichOneof("message") != "cancel":
            return False
        if self._job is not None and message.cancel.step == self._number:
            self._job.cancel()
        return True

    async def _read(self, kept: KeptGrid) -> None:
        while True:
            # A `cancel` for a step under way is seen here, where a caller with two steps on their way has come to.
            header: pb.StepHeader | None = await self._upload.next("step")
            if header is None:
                await self._read_steps.put(None)
                return
            await self._ahead.acquire()
            planned = grid_changes.plan(header.change, kept.grid.shape) if header.HasField("change") else None
            self._changed = self._changed or planned is not None
            b = self._side(header, kept.grid)
            shared_x = solve_messages.shared_x(header, b, kept.shared)
            # For as many steps as are under way at a time, until the call ends.
            self._hold(AHEAD * (array_bytes(b) + (0 if planned is None else planned.bytes)))
            change = None if planned is None else await planned.read(self._upload)
            await self._read_steps.put(Step(await self._upload.array("b", b, kept.shared), change, shared_x))

    def _side(self, header: pb.StepHeader, grid: PoissonGrid) -> AnnouncedArray:
        """`b` as announced."""
        length = header.b.shape[0] if len(header.b.shape) == 1 else 0
        if self._changed and 1 <= length <= grid.cells.size:
            return solve_messages.side("b", header.b, ((length,),))
        return solve_messages.side("b", header.b, (grid.shape, (grid.unknowns,)))

    def _hold(self, amount: int) -> None:
        more = amount + self._base - self._held
        if more > 0:
            self._runtime.sessions.take(self._caller.name, more)
            self._held += more

    async def _solve(self, kept: KeptGrid, sequence: Sequence) -> None:
        runtime, options = self._runtime, sequence.options
        while (step := await self._read_steps.get()) is not None:
            await self._behind.acquire()
            async with runtime.places.waiting():
                amount = kept.footprint(options.solver)[1]
                owner = self._caller.name
                with runtime.sessions.hold(owner, amount), runtime.sessions.set_up(kept, options.solver) as place:
                    trace = runtime.trace(options.solver, kept)
                    job = SolveJob(
                        kept, partial(sequence.solve, step), runtime.engines, options.progress_seconds, trace
                    )
                    self._job, self._number = job, self._number + 1
                    with runtime.until_done(job, kept, place, owner, amount):
                        await self._jobs.put((job, step.shared_x))
                        await job.result()
            self._ahead.release()
        await self._jobs.put(None)

    async def _write(self, kept: KeptGrid, checksums: bool) -> None:
        while (entry := await self._jobs.get()) is not None:
            job, shared_x = entry
            await write_progress(job, self._context)
            await self._runtime.reply(self._context, await job.result(), kept.shared, shared_x, checksums)
            del job, entry
            self._behind.release()


class Sequence:
    """The steps' course in the worker thread: each changes the grid where it says so, and starts from the last one."""

    def __init__(
        self,
        kept: KeptGrid,
        solver: Any,
        options: solve_messages.SolveOptions,
        start: NDArray[Any] | None,
        warm: bool,
    ) -> None:
        self.options = options
        self._kept = kept
        self._solver = solver
        self._start = start
        self._grid = kept.grid
        self._warm = warm

    def solve(self, step: Step, job: SolveJob) -> Solution:
        """A job's work."""
        kept = self._kept
        if step.change is not None:
            kept.change(step.change.made(kept.grid))
            job.check()
        if kept.grid is not self._grid:
            self._start, self._grid = _whole(self._start, self._grid), kept.grid
        front, setup_seconds = prepared(kept, self._solver, self.options.solver)
        job.check()
        b, step.b = step.b, None
        start, self._start = self._start, None
        if start is not None and b is not None and start.dtype.kind == "c" and b.dtype.kind != "c":
            start = start.real
        solution = answered(front, SolveArguments(self._solver, self.options, b, start), job)
        if self._warm and math.isfinite(solution.true_residual):
            self._start = solution.x
        return replace(solution, setup_seconds=setup_seconds)


def _whole(start: NDArray[Any] | None, grid: PoissonGrid) -> NDArray[Any] | None:
    """A start in a form that outlives the grid's unknowns: of the grid's shape."""
    if start is None or start.shape == grid.shape:
        return start
    return np.asarray(grid.unpack(start))


def _first(group: BaseException) -> BaseException:
    """One of the tasks' errors: that of the first task to fail, as the others are cut off then."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
