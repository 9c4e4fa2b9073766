"""What the services that solve share: sessions, threads and admission, and the calls that both of them offer."""

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
from relaxon.server.gate import errors, identity
from relaxon.server.gate.admission import AdmissionLimit
from relaxon.server.gate.attendance import AttendanceList
from relaxon.server.gate.uploads import Upload
from relaxon.server.solving.background_compiler import BackgroundCompiler
from relaxon.server.solving.observations import Observations, SolveTrace
from relaxon.server.solving.session import Session, SetUp
from relaxon.server.solving.sessions import SessionStore
from relaxon.server.solving.solve_job import Room, SolveArguments, SolveJob, solve_in
from relaxon.solvers.precompile.compiling import kind_of
from relaxon.wire import tensors
from relaxon.wire.arrays import COMPRESSIONS
from relaxon.wire.conversions.grid import SolverInfo, write_solver_infos
from relaxon.wire.conversions.solution import compiling_reply, progress_reply, solution_replies
from relaxon.wire.conversions.solve import SolveTerms, read_side, read_start
from relaxon.wire.shared_memory import SharedFile
from relaxon.wire.tensors import AnnouncedArray

Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")
COMPLEX_PARTS_BYTES = 48
"""Bytes per entry of a complex solve: right-hand side, guess and solution of the part that is not being solved, and the
two parts joined."""
SHARED_ENTRY_BYTES = 64
"""Bytes of a caller's shared memory per cell or unknown: four arrays of complex128, for steps on their way and for
solutions that the caller holds."""


class SolveRuntime:
    """The sessions, the threads and the admission limit of the services that solve, and their calls.

    `engines` runs the solves; `checks` runs what takes more than a moment but must not wait for a solve. The event loop
    itself never computes.
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
        """`observations` receives a trace of each solve."""
        self.settings = settings
        self.sessions = sessions
        self.attendances = attendances
        self.engines = engines
        self.checks = checks
        self.compiler = compiler
        self._observations = observations
        self.admission = AdmissionLimit(settings.max_pending, "solves")

    def upload(self, context: Context, aside: Callable[[Any], bool] | None = None) -> Upload:
        """Return a call's request stream."""
        return Upload(context, self.settings.idle_seconds, aside)

    async def beside(self, work: Callable[[], Answer]) -> Answer:
        """Run `work` in a thread of `checks`."""
        return await asyncio.get_running_loop().run_in_executor(self.checks, work)

    def open_shared(self, header: Any, entries: int) -> SharedFile | None:
        """Open the memory that a caller shares for arrays of so many entries, no more than they can use.

        None if the caller shares none, or the server does not use or find it.
        """
        if not self.count_shared(header, entries):
            return None
        return SharedFile.open(header.shared, SHARED_ENTRY_BYTES * entries)

    def count_shared(self, header: Any, entries: int) -> int:
        """Return the bytes that are counted for the memory that a caller shares."""
        taken = self.settings.shared_memory and header.HasField("shared")
        return SHARED_ENTRY_BYTES * entries if taken else 0

    def trace(self, solver: str, session: Session) -> SolveTrace | None:
        """Return a trace for a solve that is about to be submitted; None if nobody can watch."""
        if self._observations is None:
            return None
        return self._observations.solve(solver, session.shape, session.unknowns)

    async def until_compiled(
        self, context: Context, header: pb.SolveHeader | pb.StepsHeader, terms: SolveTerms, session: Session
    ) -> None:
        """Wait until the kernels of a call's solver are compiled, and report progress if the caller asked for it.

        UNAVAILABLE if the call's deadline would pass before.
        """

        async def report(progress: CompileProgress) -> None:
            await context.write(compiling_reply(progress))

        end = math.inf
        if isinstance(header, pb.StepsHeader) and header.HasField("step_timeout"):
            end = time.monotonic() + header.step_timeout.ToMilliseconds() / 1000

        def seconds_left() -> float:
            remaining = context.time_remaining()
            return min(end - time.monotonic(), math.inf if remaining is None else remaining)

        kind = kind_of(terms.solver, getattr(session, "grid", None))
        await self.compiler.ready(kind, seconds_left, report if terms.compile_progress else None)

    async def in_turn(self, work: Callable[[], Answer], session: Session, owner: str, amount: int) -> Answer:
        """Run `work` on a session in a thread of `engines`, behind what waits there.

        The call must have been admitted and its memory taken. If the call ends before the work does, both stay taken
        until the work has ended.
        """
        future = self.engines.submit(work)
        try:
            return await asyncio.wrap_future(future)
        finally:
            future.cancel()
            self._count_on(future, session, None, owner, amount)

    @contextmanager
    def until_done(self, job: SolveJob, session: Session, place: SetUp, owner: str, amount: int) -> Iterator[None]:
        """Guard the block in which a call waits for its job.

        At the end of the block a job that still runs is told to stop at its next iteration, and what was taken for it
        stays taken until it has stopped.
        """
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
        self.admission.keep()
        in_use.callback(self.admission.release)
        self.sessions.keep(owner, amount)
        in_use.callback(self.sessions.give_back, owner, amount)
        if place is not None:
            in_use.enter_context(place.used())

        def ended(_: Future[Any]) -> None:
            # When a server ends, its loop may be gone before its threads are: nothing is counted any more then.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(in_use.close)

        future.add_done_callback(ended)

    async def answer_create(self, context: Context, kind: type[Session]) -> Any:
        """Answer a call that has the server keep a grid or a matrix."""
        upload, owner = self.upload(context), identity.current().name
        header = await upload.header()
        self.attendances.check(header.attendance)
        with errors.refusing():
            plan = kind.read_header(header)
        entries, own_bytes = kind.measure(plan)
        passing_bytes = sum(array.nbytes for _, array in plan.parts)
        with self.sessions.reserve(owner, entries, own_bytes + self.count_shared(header, entries), passing_bytes):
            arrays = await upload.arrays(plan.parts)
            await upload.end()
            start = time.perf_counter()
            built = await self.beside(partial(kind.build, plan, arrays))
            seconds = time.perf_counter() - start
        session = kind(built, owner, self.open_shared(header, entries), header.attendance)
        self.sessions.add(session)
        return session.describe(seconds)

    async def answer_update(self, context: Context, kind: type[Session]) -> Any:
        """Answer a call that changes a kept grid or matrix."""
        upload, caller = self.upload(context), identity.current()
        header = await upload.header()
        with self.sessions.use(header.id, caller, kind) as session:
            with errors.refusing():
                change = session.read_change(header.change)
            amount = session.measure_change(change)
            with self.admission.taking(), self.sessions.hold(caller.name, amount):
                filled = change.fill(await upload.arrays(change.parts))
                await upload.end()

                # Queued behind the solves: those that were asked for before still see the session as it was.
                seconds = await self.in_turn(partial(_apply, session, filled), session, caller.name, amount)
                return session.describe(seconds)

    async def answer_solve(self, context: Context, kind: type[Session]) -> None:
        """Answer a call that solves on a kept grid or matrix."""
        upload, caller = self.upload(context), identity.current()
        header: pb.SolveHeader = await upload.header()
        with self.sessions.use(header.grid_id, caller, kind) as session, self.admission.taking():
            with errors.refusing():
                terms = SolveTerms.read(header)
                b = read_side("b", header.b, session.side_shapes)
                x0 = read_start(header, session.side_shapes)
                room = find_room(header, b, session.shared)
            solver = await self.beside(partial(kind.find_solver, terms.solver))
            context.set_compression(COMPRESSIONS[terms.compression][0])
            await self.until_compiled(context, header, terms, session)
            amount = array_bytes(b, x0, session.complex_valued) + session.footprint(terms.solver)[1]
            with self.sessions.hold(caller.name, amount), self.sessions.set_up(session, terms.solver) as place:
                arguments = SolveArguments(
                    solver,
                    terms,
                    await upload.side(header, b, session.shared),
                    None if x0 is None else await upload.array("x0", x0, session.shared),
                    room,
                )
                job = SolveJob(
                    session.running,
                    partial(solve_in, session, arguments),
                    self.engines,
                    terms.progress_seconds,
                    self.trace(terms.solver, session),
                )
                with self.until_done(job, session, place, caller.name, amount):
                    solution: Solution = await watch(job, upload, partial(write_progress, job, context))
                    await write_solution(job, solution, context, terms)


def _apply(session: Session, change: Any) -> float:
    """Change a session, in a worker thread, and return the seconds that took."""
    with session.running:
        start = time.perf_counter()
        session.apply(change)
        return time.perf_counter() - start


async def watch(job: SolveJob, upload: Upload, report: Callable[[], Awaitable[None]]) -> Any:
    """Return the job's result. Until then `report` reports its progress, and a `cancel` of the caller stops it."""
    watcher = asyncio.create_task(_obey_cancel(upload, job))
    try:
        await report()
        if watcher.done():
            watcher.result()
        return await job.result()
    finally:
        watcher.cancel()


async def _obey_cancel(upload: Upload, job: SolveJob) -> None:
    """Wait for the caller's `cancel`. A stream that ends here means nothing; anything else ends the solve."""
    try:
        if await upload.cancelled():
            job.cancel()
    except errors.ServiceError:
        job.abandon()
        raise


async def write_progress(job: SolveJob, context: Context) -> None:
    """Write a job's progress until it has ended."""
    while (progress := await job.next_progress()) is not None:
        await context.write(progress_reply(progress))


async def write_solution(job: SolveJob, solution: Solution, context: Context, terms: SolveTerms) -> None:
    """Write a job's solution, or where it lies in the caller's memory."""
    for message in solution_replies(solution, job.place, checksums=terms.checksums, header_alone=terms.header_alone):
        await context.write(message)


def find_room(header: pb.SolveHeader | pb.StepHeader, b: AnnouncedArray, shared: SharedFile | None) -> Room | None:
    """Return where `x` is to be put in the caller's memory; None if it has to be sent.

    ValueError if the header names a place outside the file.
    """
    if shared is None or not header.HasField("shared_x"):
        return None
    size = b.size * x_itemsize(b)
    tensors.check_range("shared_x", header.shared_x, size, shared)
    return Room(shared, int(header.shared_x), size)


def x_itemsize(b: AnnouncedArray) -> int:
    """Return the bytes of an entry of `x`: of float64, or of complex128 if `b` is complex."""
    return 16 if b.dtype.kind == "c" else 8


def array_bytes(b: AnnouncedArray, x0: AnnouncedArray | None = None, complex_valued: bool = False) -> int:
    """Return the bytes of a solve's arrays: those that arrive, and `x`. `complex_valued` says that the operator is."""
    arrived = b.nbytes + (0 if x0 is None else x0.nbytes)
    # While one part of a complex system is solved, the other is held besides.
    parts = COMPLEX_PARTS_BYTES if complex_valued or b.dtype.kind == "c" else 0
    itemsize = max(x_itemsize(b), 16 if complex_valued else 0)
    return arrived + b.size * (itemsize + parts)


def list_available(entries: Iterable[tuple[str, str, tuple[str, ...]]]) -> pb.ListSolversReply:
    """Return solvers given as name, summary and the modules that each needs, with those that are missing here."""
    infos = []
    for name, summary, needs in entries:
        missing = find_missing(needs)
        infos.append(SolverInfo(name, summary, missing, find_extra(missing)))
    return write_solver_infos(infos)
