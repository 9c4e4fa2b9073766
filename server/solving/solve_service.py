"""What the services that solve have in common: admission, a solve's way through a worker thread, its replies."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import grpc

from relaxon.core.compile_progress import CompileProgress
from relaxon.core.extras import find_extra, find_missing
from relaxon.core.solution import Solution
from relaxon.proto import poisson_pb2 as pb
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors
from relaxon.server.gate.announced import AnnouncedArray
from relaxon.server.gate.attendance import AttendanceList
from relaxon.server.gate.identity import caller_of
from relaxon.server.gate.places import Places
from relaxon.server.gate.uploads import Upload
from relaxon.server.solving import solve_messages
from relaxon.server.solving.background_compiler import BackgroundCompiler
from relaxon.server.solving.observations import Observations, SolveTrace
from relaxon.server.solving.sessions import Session, SessionStore, SetUp
from relaxon.server.solving.solve_job import Room, SolveArguments, SolveJob, solve_in
from relaxon.solvers.precompile.compiling import kind_of
from relaxon.wire.shared_memory import SharedFile

Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")
COMPLEX_PARTS_BYTES = 48
"""Of an entry: right-hand side, start and solution of the part that is not being solved, and the two joined."""
SHARED_ENTRY_BYTES = 64
"""Of a caller's shared memory for each cell or unknown: four arrays of complex128, for steps on their way and solutions
in the caller's hands."""


class SolveRuntime:
    """What the services that solve share: the sessions, the threads, the places.

    `engines` runs the solves; `checks` what takes more than a moment but must not wait for one, so that the event loop
    never computes.
    """

    def __init__(
        self,
        settings: ServerSettings,
        sessions: SessionStore,
        attendances: AttendanceList,
        engines: Executor,
        checks: Executor,
        compiler: BackgroundCompiler,
        observations: Observations | None = None,
    ) -> None:
        """`observations` is told of the solves."""
        self.settings = settings
        self.sessions = sessions
        self.attendances = attendances
        self.engines = engines
        self.checks = checks
        self.compiler = compiler
        self._observations = observations
        self.places = Places(settings.max_pending, "solves")

    def upload(self, context: Context, aside: Callable[[Any], bool] | None = None) -> Upload:
        """A call's request stream."""
        return Upload(context, self.settings.idle_seconds, aside)

    async def beside(self, work: Callable[[], Answer]) -> Answer:
        """Run `work` in a thread of `checks`."""
        return await asyncio.get_running_loop().run_in_executor(self.checks, work)

    def opened(self, header: Any, entries: int) -> SharedFile | None:
        """What a caller offers of its memory for arrays of so many entries, where this server takes that and finds it;
        no more than they can use."""
        if not self.shared_room(header, entries):
            return None
        return SharedFile.open(header.shared, SHARED_ENTRY_BYTES * entries)

    def shared_room(self, header: Any, entries: int) -> int:
        """Bytes that are counted for what a caller offers."""
        taken = self.settings.shared_memory and header.HasField("shared")
        return SHARED_ENTRY_BYTES * entries if taken else 0

    def trace(self, solver: str, session: Session) -> SolveTrace | None:
        """For a solve that is about to be submitted; None where nobody may watch."""
        if self._observations is None:
            return None
        return self._observations.solve(solver, session.shape, session.unknowns)

    async def until_compiled(self, context: Context, header: pb.SolveHeader | pb.StepsHeader, session: Session) -> None:
        """Wait until what the header's solver runs on a session is compiled; UNAVAILABLE where the call's deadline
        would pass before. The caller hears how far it is where it asked."""

        async def report(progress: CompileProgress) -> None:
            await context.write(solve_messages.compiling_reply(progress))

        end = math.inf
        if isinstance(header, pb.StepsHeader) and header.HasField("step_timeout"):
            end = time.monotonic() + header.step_timeout.ToMilliseconds() / 1000

        def left() -> float:
            remaining = context.time_remaining()
            return min(end - time.monotonic(), math.inf if remaining is None else remaining)

        kind = kind_of(header.solver, getattr(session, "grid", None))
        await self.compiler.ready(kind, left, report if header.compile_progress else None)

    async def in_turn(self, work: Callable[[], Answer], session: Session, owner: str, amount: int) -> Answer:
        """Run `work` on a session in a thread of `engines`, behind what waits there. Call it with a place and its
        memory taken; where the call ends before the work does, they stay so until that has ended."""
        future = self.engines.submit(work)
        try:
            return await asyncio.wrap_future(future)
        finally:
            future.cancel()
            self._count_on(future, session, None, owner, amount)

    @contextmanager
    def until_done(self, job: SolveJob, session: Session, place: SetUp, owner: str, amount: int) -> Iterator[None]:
        """For the block in which a job's call waits for it: at its end the job is told to stop at its next iteration,
        and what it has stays taken until it has stopped."""
        try:
            yield
        finally:
            job.abandon()
            self._count_on(job.future, session, place, owner, amount)

    def _count_on(self, future: Future[Any], session: Session, place: SetUp | None, owner: str, amount: int) -> None:
        if future.done():
            return
        loop = asyncio.get_running_loop()
        in_use = ExitStack()
        in_use.enter_context(self.sessions.using(session))
        self.places.keep()
        in_use.callback(self.places.release)
        self.sessions.keep(owner, amount)
        in_use.callback(self.sessions.give_back, owner, amount)
        if place is not None:
            in_use.enter_context(place.used())

        def ended(_: Future[Any]) -> None:
            # At a server's end its loop may be gone before its threads are: nothing is counted any more then.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(in_use.close)

        future.add_done_callback(ended)

    async def answer_solve(
        self,
        context: Context,
        kind: type[Session],
        shapes: Callable[[Any], solve_messages.Shapes],
        solver: Callable[[str], Any],
    ) -> None:
        """One `Solve` call: on a session of that kind, whose right-hand sides have one of `shapes`."""
        upload, caller = self.upload(context), caller_of(context)
        header: pb.SolveHeader = await upload.header()
        with self.sessions.use(header.grid_id, caller, kind) as session, self.places.taking():
            options = solve_messages.options(header)
            allowed = shapes(session)
            b = solve_messages.side("b", header.b, allowed)
            x0 = solve_messages.start(header, allowed)
            room = room_for_x(header, b, session.shared)
            chosen = await self.beside(partial(solver, options.solver))
            context.set_compression(options.compression)
            await self.until_compiled(context, header, session)
            amount = array_bytes(b, x0, session.complex_valued) + session.footprint(options.solver)[1]
            with self.sessions.hold(caller.name, amount), self.sessions.set_up(session, options.solver) as place:
                arguments = SolveArguments(
                    chosen,
                    options,
                    await upload.side(header, b, session.shared),
                    None if x0 is None else await upload.array("x0", x0, session.shared),
                    room,
                )
                job = SolveJob(
                    session,
                    partial(solve_in, session, arguments),
                    self.engines,
                    options.progress_seconds,
                    self.trace(options.solver, session),
                )
                with self.until_done(job, session, place, caller.name, amount):
                    solution = await self._watched(job, upload, context)
                    await write_solution(job, solution, context, options)

    async def _watched(self, job: SolveJob, upload: Upload, context: Context) -> Solution:
        """The job's solution; its progress is written, and the caller's `cancel` obeyed, until it is there."""
        solution: Solution = await watched(job, upload, partial(write_progress, job, context))
        return solution


async def watched(job: SolveJob, upload: Upload, tell: Callable[[], Awaitable[None]]) -> Any:
    """Return the job's result; `tell` tells of its progress, and the caller's `cancel` is obeyed, until it is there."""
    watch = asyncio.create_task(_watch(upload, job))
    try:
        await tell()
        if watch.done():
            watch.result()
        return await job.result()
    finally:
        watch.cancel()


async def write_progress(job: SolveJob, context: Context) -> None:
    """Write a job's progress until it has ended."""
    while (progress := await job.next_progress()) is not None:
        await context.write(solve_messages.progress_reply(progress))


async def write_solution(
    job: SolveJob, solution: Solution, context: Context, options: solve_messages.SolveOptions
) -> None:
    """Write a job's solution, or where in the caller's memory it is."""
    for message in solve_messages.solution_replies(
        solution, job.place, checksums=options.checksums, header_alone=options.header_alone
    ):
        await context.write(message)


def room_for_x(header: pb.SolveHeader | pb.StepHeader, b: AnnouncedArray, shared: SharedFile | None) -> Room | None:
    """Where `x` is to be put, if anywhere; INVALID_ARGUMENT for what is not within the file."""
    offset = solve_messages.shared_x(header, b, shared)
    if shared is None or offset is None:
        return None
    return Room(shared, offset, math.prod(b.shape) * solve_messages.x_itemsize(b))


def array_bytes(b: AnnouncedArray, x0: AnnouncedArray | None = None, complex_valued: bool = False) -> int:
    """What a solve's arrays take: as they come, and `x` as it goes; `complex_valued` is whether the operator is."""
    arrays = [b] if x0 is None else [b, x0]
    came = sum(math.prod(one.shape) * one.dtype.itemsize for one in arrays)
    # Of a complex system both parts are there at a time, beside what a real one takes.
    parts = COMPLEX_PARTS_BYTES if b.dtype.kind == "c" else 0
    itemsize = max(solve_messages.x_itemsize(b), 16 if complex_valued else 0)
    return came + math.prod(b.shape) * (itemsize + max(parts, COMPLEX_PARTS_BYTES if complex_valued else 0))


def solver_list(entries: Iterable[tuple[str, str, tuple[str, ...]]]) -> pb.ListSolversReply:
    """Return names, summaries, and of the modules that each needs those that are missing here, with their extra."""
    reply = pb.ListSolversReply()
    for name, summary, needs in entries:
        missing = find_missing(needs)
        reply.solvers.add(name=name, summary=summary, missing=missing, extra=find_extra(missing))
    return reply


async def _watch(upload: Upload, job: SolveJob) -> None:
    """Wait for the caller's `cancel`; a stream that ends here says nothing. Anything else ends the solve."""
    try:
        if await upload.cancelled():
            job.cancel()
    except errors.ServiceError:
        job.abandon()
        raise
