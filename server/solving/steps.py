"""One `SolveSteps` or `SolveMatrixSteps` call: a pipeline that reads one step ahead of the solve and writes behind it.

Three tasks run: one reads, one has the steps solved in order, one writes the answers. At most two right-hand sides and
two solutions are held: no arrays are read while two steps are read and not solved, and no step is solved while two
solutions are not written. A step that has been read while the one before it is solved is submitted right behind that
one, so that the thread that solves does not wait for the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import grpc

from relaxon.proto import poisson_pb2 as pb
from relaxon.server.gate import errors, identity
from relaxon.server.gate.serial_executor import SerialExecutor
from relaxon.server.solving.runtime import SolveRuntime, array_bytes, find_room, write_progress, write_solution
from relaxon.server.solving.session import Session
from relaxon.server.solving.solve_job import SolveJob
from relaxon.server.solving.step_sequence import ReadStep, StepSolver
from relaxon.wire.arrays import COMPRESSIONS
from relaxon.wire.conversions.solve import SolveTerms, read_start

AHEAD = 2
"""Steps that are read and not yet solved: the one that is being solved, and the next."""
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class StepFailure:
    """Why there is no further step: reported in its turn, after the answers of the steps before it."""

    error: errors.ServiceError


class StepsCall:
    """One call, used once."""

    def __init__(self, runtime: SolveRuntime, context: Context, kind: type[Session]) -> None:
        self._runtime = runtime
        self._kind = kind
        self._context = context
        self._caller = identity.current()
        self._upload = runtime.upload(context, self._aside)
        self._ahead = asyncio.Semaphore(AHEAD)
        self._behind = asyncio.Semaphore(AHEAD)
        self._read_steps: asyncio.Queue[ReadStep | StepFailure | None] = asyncio.Queue()
        self._jobs: asyncio.Queue[SolveJob | StepFailure | None] = asyncio.Queue()
        self._held = self._base = 0
        """Bytes that are taken for the call, and those of them that the initial guess takes."""
        self._changed = False
        """Whether a step has announced a change: the reader does not know the number of unknowns after it."""
        self._stretch: _Stretch | None = None
        """The steps that are being solved."""
        self._begun = 0

    async def run(self) -> None:
        """Read, solve and write until the caller's side has ended and every step is answered."""
        header: pb.StepsHeader = await self._upload.header()
        sessions = self._runtime.sessions
        with sessions.use(header.grid_id, self._caller, self._kind) as session:
            with errors.refusing():
                terms = SolveTerms.read(header)
                x0 = read_start(header, session.side_shapes)
            solver = await self._runtime.beside(partial(self._kind.find_solver, terms.solver))
            self._context.set_compression(COMPRESSIONS[terms.compression][0])
            await self._runtime.until_compiled(self._context, header, terms, session)
            if x0 is not None:
                self._base = 2 * x0.nbytes  # as it arrives, and a copy of what is shared
                self._hold(0)
            start = None if x0 is None else (await self._upload.array("x0", x0, session.shared)).copy()
            sequence = StepSolver(session, solver, terms, start, warm=not header.cold)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_report_in_turn(self._read(session), self._read_steps))
                    tasks.create_task(_report_in_turn(self._solve(session, sequence), self._jobs))
                    tasks.create_task(self._write(terms))
                sequence.end()
            except BaseExceptionGroup as group:
                raise _first(group) from None
            except asyncio.CancelledError as error:
                errors.let_go(error)  # which the task group's own frame holds
                raise
            finally:
                self._upload.close()
                sessions.give_back(self._caller.name, self._held)

    def _aside(self, message: Any) -> bool:
        """Handle a `cancel`, which may come between any two messages."""
        if message.WhichOneof("message") != "cancel":
            return False
        if self._stretch is not None:
            self._stretch.cancel(message.cancel.step)
        return True

    async def _read(self, session: Session) -> None:
        while True:
            # A caller with two steps in flight has its `cancel` read here.
            header = await self._upload.next("step")
            if header is None:
                await self._read_steps.put(None)
                return
            await self._ahead.acquire()
            with errors.refusing():
                change = session.read_change(header.change) if header.HasField("change") else None
                self._changed = self._changed or change is not None
                b = session.read_step_side(header, self._changed)
                room = find_room(header, b, session.shared)
            # Memory for as many steps as are in flight at a time, until the call ends.
            changing = 0 if change is None else session.measure_change(change)
            self._hold(AHEAD * (array_bytes(b, complex_valued=session.complex_valued) + changing))
            filled = None if change is None else change.fill(await self._upload.arrays(change.parts))
            step = ReadStep(await self._upload.side(header, b, session.shared), filled, room)
            del filled
            if not await self._follow(step):
                await self._read_steps.put(step)

    def _hold(self, amount: int) -> None:
        more = amount + self._base - self._held
        if more > 0:
            self._runtime.sessions.take(self._caller.name, more)
            self._held += more

    async def _follow(self, step: ReadStep) -> bool:
        """Submit a step behind the one that is being solved, and return whether that was possible.

        It is not if the step needs other memory, or if another call waits to be admitted.
        """
        stretch = self._stretch
        if stretch is None or not stretch.takes(step) or self._behind.locked() or self._runtime.admission.wanted:
            return False
        await self._behind.acquire()  # without waiting
        self._begin(stretch, step)
        return True

    def _begin(self, stretch: _Stretch, step: ReadStep) -> None:
        self._jobs.put_nowait(stretch.begin(self._begun, step))
        self._begun += 1

    async def _solve(self, session: Session, sequence: StepSolver) -> None:
        runtime, solver, owner = self._runtime, sequence.terms.solver, self._caller.name
        line = SerialExecutor(runtime.engines)
        while (step := await self._read_steps.get()) is not None:
            if isinstance(step, StepFailure):
                await self._jobs.put(step)
                return
            await self._behind.acquire()
            async with runtime.admission.waiting():
                amount = session.footprint(solver)[1]
                with runtime.sessions.hold(owner, amount), runtime.sessions.set_up(session, solver) as place:
                    until_done = partial(runtime.until_done, session=session, place=place, owner=owner, amount=amount)
                    with _Stretch(session, sequence, runtime, line, until_done, step) as stretch:
                        self._stretch = stretch
                        self._begin(stretch, step)
                        del step
                        try:
                            while (job := stretch.first) is not None:
                                if not await job.succeeded():
                                    return  # the writer reports it once the answers before this one are written
                                stretch.end_first()
                                self._ahead.release()
                        finally:
                            self._stretch = job = None
        await self._jobs.put(None)

    async def _write(self, terms: SolveTerms) -> None:
        while (job := await self._jobs.get()) is not None:
            if isinstance(job, StepFailure):
                raise job.error
            await write_progress(job, self._context)
            await write_solution(job, await job.result(), self._context, terms)
            del job
            self._behind.release()


class _Stretch:
    """Steps that are solved one after the other with what was taken for the first of them."""

    def __init__(
        self,
        session: Session,
        sequence: StepSolver,
        runtime: SolveRuntime,
        line: SerialExecutor,
        until_done: Callable[[SolveJob], AbstractContextManager[None]],
        first: ReadStep,
    ) -> None:
        """`until_done` is entered with each job, and left when the job or the stretch has ended."""
        self._session = session
        self._sequence = sequence
        self._runtime = runtime
        self._line = line
        self._until_done = until_done
        self._content = session.content if first.change is None else None
        """What the memory was counted for; None if the first step changes it."""
        self._jobs: deque[tuple[int, SolveJob, ExitStack]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._jobs:
            self._jobs.pop()[2].close()

    def takes(self, step: ReadStep) -> bool:
        """Return whether a step needs no other memory than what has been counted."""
        return bool(self._jobs) and step.change is None and self._session.content is self._content

    def begin(self, number: int, step: ReadStep) -> SolveJob:
        """Submit a step behind those of the stretch, and return its job."""
        terms = self._sequence.terms
        trace = self._runtime.trace(terms.solver, self._session)
        work = partial(self._sequence.solve, step)
        job = SolveJob(self._session.running, work, self._line, terms.progress_seconds, trace)
        stack = ExitStack()
        stack.enter_context(self._until_done(job))
        self._jobs.append((number, job, stack))
        return job

    @property
    def first(self) -> SolveJob | None:
        """The job of the step that is being solved."""
        return self._jobs[0][1] if self._jobs else None

    def end_first(self) -> None:
        """Note that the first job has ended."""
        self._jobs.popleft()[2].close()

    def cancel(self, number: int) -> None:
        """Stop the step of that number, if it is being solved."""
        for one, job, _ in self._jobs:
            if one == number and job.future.running():
                job.cancel()


async def _report_in_turn(work: Coroutine[Any, Any, None], queue: asyncio.Queue[Any]) -> None:
    """Do `work`; if it is refused, put the refusal into the queue, behind what the work has put there."""
    try:
        await work
    except errors.ServiceError as error:
        await queue.put(StepFailure(error))


def _first(group: BaseException) -> BaseException:
    """Return the error of the first task to fail; the others are cancelled then."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
