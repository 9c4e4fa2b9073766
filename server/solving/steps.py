"""One `SolveSteps` or `SolveMatrixSteps` call: a pipeline that reads one step ahead of the one that it solves, and
writes behind it.

Three tasks: one reads, one has the steps solved in their order, one writes the answers. At most two right-hand sides
and two solutions are held: no arrays are read while two steps are read and not solved, and no step is solved while two
solutions are not written. A step that has been read while the one before it is solved is submitted behind that, so that
the thread that solves need not wait for the event loop.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Protocol, Self

import grpc
import numpy as np
from numpy.typing import NDArray

from relaxon.core.solution import Solution
from relaxon.proto import poisson_pb2 as pb
from relaxon.server.gate import errors
from relaxon.server.gate.announced import AnnouncedArray
from relaxon.server.gate.identity import caller_of
from relaxon.server.gate.in_turn import InTurn
from relaxon.server.gate.uploads import Upload
from relaxon.server.solving import solve_messages
from relaxon.server.solving.sessions import Session
from relaxon.server.solving.solve_job import Room, SolveJob, checked, prepared
from relaxon.server.solving.solve_messages import Shapes
from relaxon.server.solving.solve_service import SolveRuntime, array_bytes, room_for_x, write_progress, write_solution
from relaxon.solvers.interface.complex_parts import ComplexRequest
from relaxon.solvers.interface.front import Front
from relaxon.solvers.interface.request import Request

AHEAD = 2
"""Steps that are read and not yet solved: the one that is being solved, and the next."""
Context = grpc.aio.ServicerContext[Any, Any]


class ChangePlan(Protocol):
    """A step's change as it is announced."""

    @property
    def bytes(self) -> int: ...

    async def read(self, upload: Upload) -> Any: ...


class Stepping(ABC):
    """What the steps of a kind of session have of their own."""

    session: ClassVar[type[Session]]

    @abstractmethod
    def shapes(self, kept: Any) -> Shapes:
        """Of the right-hand sides as the session is."""

    @abstractmethod
    def plan(self, change: Any, kept: Any) -> ChangePlan:
        """What a step's change announces; INVALID_ARGUMENT naming the argument that cannot be."""

    @abstractmethod
    def apply(self, change: Any, kept: Any) -> None:
        """Make a change of a step. In a worker thread, with the session's `running` held."""

    def side(self, header: Any, kept: Any, changed: bool) -> AnnouncedArray:
        """A step's `b` as announced; `changed` is whether a step has announced a change, which may not be made yet."""
        return solve_messages.side("b", header.b, self.shapes(kept))

    def carried(self, start: NDArray[Any] | None, content: Any) -> NDArray[Any] | None:
        """A start in a form that outlives what the session holds."""
        return start


@dataclass(slots=True)
class Step:
    """A step as it was read."""

    b: NDArray[Any] | None
    """Taken by who solves it."""
    change: Any
    """With its arrays; None where there is none."""
    room: Room | None


@dataclass(frozen=True, slots=True)
class Failure:
    """In a step's place, why there is none: told when its turn has come, after the answers of those before it."""

    error: errors.ServiceError


class StepsCall:
    """One call, used once."""

    def __init__(
        self, runtime: SolveRuntime, context: Context, solver: Callable[[str], Any], stepping: Stepping
    ) -> None:
        self._runtime = runtime
        self._stepping = stepping
        self._context = context
        self._solver = solver
        self._caller = caller_of(context)
        self._upload = runtime.upload(context, self._aside)
        self._ahead = asyncio.Semaphore(AHEAD)
        self._behind = asyncio.Semaphore(AHEAD)
        self._read_steps: asyncio.Queue[Step | Failure | None] = asyncio.Queue()
        self._jobs: asyncio.Queue[SolveJob | Failure | None] = asyncio.Queue()
        self._held = self._base = 0
        """Bytes that are taken for the call, and those of them that are the start's."""
        self._changed = False
        """Whether a step has announced a change: how many unknowns there are then is not known to the reader."""
        self._stretch: _Stretch | None = None
        """Of steps that are being solved."""
        self._begun = 0

    async def run(self) -> None:
        """Read, solve and write until the caller's side has ended and every step is answered."""
        header: pb.StepsHeader = await self._upload.header()
        sessions = self._runtime.sessions
        with sessions.use(header.grid_id, self._caller, self._stepping.session) as kept:
            options = solve_messages.options(header)
            x0 = solve_messages.start(header, self._stepping.shapes(kept))
            solver = await self._runtime.beside(lambda: self._solver(options.solver))
            self._context.set_compression(options.compression)
            await self._runtime.until_compiled(self._context, header, kept)
            if x0 is not None:
                self._base = 2 * math.prod(x0.shape) * x0.dtype.itemsize  # as it comes, and a copy of what is shared
                self._hold(0)
            start = None if x0 is None else (await self._upload.array("x0", x0, kept.shared)).copy()
            sequence = Sequence(kept, solver, options, start, warm=not header.cold, stepping=self._stepping)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_told_in_turn(self._read(kept), self._read_steps))
                    tasks.create_task(_told_in_turn(self._solve(kept, sequence), self._jobs))
                    tasks.create_task(self._write(options))
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
        """Deals with a `cancel`, which may come between any two messages."""
        if message.WhichOneof("message") != "cancel":
            return False
        if self._stretch is not None:
            self._stretch.cancel(message.cancel.step)
        return True

    async def _read(self, kept: Session) -> None:
        while True:
            # A `cancel` for a step under way is seen here, where a caller with two steps on their way has come to.
            header = await self._upload.next("step")
            if header is None:
                await self._read_steps.put(None)
                return
            await self._ahead.acquire()
            planned = self._stepping.plan(header.change, kept) if header.HasField("change") else None
            self._changed = self._changed or planned is not None
            b = self._stepping.side(header, kept, self._changed)
            room = room_for_x(header, b, kept.shared)
            # For as many steps as are under way at a time, until the call ends.
            self._hold(
                AHEAD * (array_bytes(b, complex_valued=kept.complex_valued) + (0 if planned is None else planned.bytes))
            )
            change = None if planned is None else await planned.read(self._upload)
            step = Step(await self._upload.side(header, b, kept.shared), change, room)
            if not await self._followed(step):
                await self._read_steps.put(step)

    def _hold(self, amount: int) -> None:
        more = amount + self._base - self._held
        if more > 0:
            self._runtime.sessions.take(self._caller.name, more)
            self._held += more

    async def _followed(self, step: Step) -> bool:
        """Submit it behind the one that is being solved, where nobody waits for the place that this call has; False
        where it has to wait itself."""
        stretch = self._stretch
        if stretch is None or not stretch.takes(step) or self._behind.locked() or self._runtime.places.wanted:
            return False
        await self._behind.acquire()  # at once
        self._begin(stretch, step)
        return True

    def _begin(self, stretch: _Stretch, step: Step) -> None:
        self._jobs.put_nowait(stretch.begin(self._begun, step))
        self._begun += 1

    async def _solve(self, kept: Session, sequence: Sequence) -> None:
        runtime, solver, owner = self._runtime, sequence.options.solver, self._caller.name
        line = InTurn(runtime.engines)
        while (step := await self._read_steps.get()) is not None:
            if isinstance(step, Failure):
                await self._jobs.put(step)
                return
            await self._behind.acquire()
            async with runtime.places.waiting():
                amount = kept.footprint(solver)[1]
                with runtime.sessions.hold(owner, amount), runtime.sessions.set_up(kept, solver) as place:
                    until_done = partial(runtime.until_done, session=kept, place=place, owner=owner, amount=amount)
                    with _Stretch(kept, sequence, runtime, line, until_done, step) as stretch:
                        self._stretch = stretch
                        self._begin(stretch, step)
                        del step
                        try:
                            while (job := stretch.first) is not None:
                                if not await job.succeeded():
                                    return  # the writer tells, when the answers before this one are written
                                stretch.end_first()
                                self._ahead.release()
                        finally:
                            self._stretch = job = None
        await self._jobs.put(None)

    async def _write(self, options: solve_messages.SolveOptions) -> None:
        while (job := await self._jobs.get()) is not None:
            if isinstance(job, Failure):
                raise job.error
            await write_progress(job, self._context)
            await write_solution(job, await job.result(), self._context, options)
            del job
            self._behind.release()


class _Stretch:
    """Steps that are solved one after the other with what was taken for the first."""

    def __init__(
        self,
        kept: Session,
        sequence: Sequence,
        runtime: SolveRuntime,
        line: InTurn,
        until_done: Callable[[SolveJob], AbstractContextManager[None]],
        first: Step,
    ) -> None:
        """`until_done` is entered with each job, and left when that has ended or the stretch has."""
        self._kept = kept
        self._sequence = sequence
        self._runtime = runtime
        self._line = line
        self._until_done = until_done
        self._content = kept.content if first.change is None else None
        """For which the memory was counted; None where that changes."""
        self._jobs: deque[tuple[int, SolveJob, ExitStack]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._jobs:
            self._jobs.pop()[2].close()

    def takes(self, step: Step) -> bool:
        """Whether a step needs no other memory than what has been counted."""
        return bool(self._jobs) and step.change is None and self._kept.content is self._content

    def begin(self, number: int, step: Step) -> SolveJob:
        """Have a step solved, behind those that are here."""
        options = self._sequence.options
        trace = self._runtime.trace(options.solver, self._kept)
        job = SolveJob(self._kept, partial(self._sequence.solve, step), self._line, options.progress_seconds, trace)
        stack = ExitStack()
        stack.enter_context(self._until_done(job))
        self._jobs.append((number, job, stack))
        return job

    @property
    def first(self) -> SolveJob | None:
        """The one that is being solved."""
        return self._jobs[0][1] if self._jobs else None

    def end_first(self) -> None:
        """It has ended."""
        self._jobs.popleft()[2].close()

    def cancel(self, number: int) -> None:
        """Stop that step, if it is being solved."""
        for one, job, _ in self._jobs:
            if one == number and job.future.running():
                job.cancel()


class Sequence:
    """The steps' course in the worker thread: each makes its change where it has one, and starts from the last one."""

    def __init__(
        self,
        kept: Session,
        solver: Any,
        options: solve_messages.SolveOptions,
        start: NDArray[Any] | None,
        warm: bool,
        stepping: Stepping,
    ) -> None:
        self.options = options
        self._kept = kept
        self._solver = solver
        self._start = start
        self._content = kept.content
        self._stepping = stepping
        self._warm = warm
        self._last: tuple[Front, Request] | None = None
        """The step before, where its arrays are this one's to go on with: no copies, and no memory that is new."""

    def solve(self, step: Step, job: SolveJob) -> Solution:
        """A job's work."""
        kept = self._kept
        if step.change is not None:
            self._stepping.apply(step.change, kept)
            job.check()
        if kept.content is not self._content:
            if self._last is not None:
                self._last[0].reclaim(self._last[1])
            self._start = self._stepping.carried(self._start, self._content)
            self._content, self._last = kept.content, None
        front, setup_seconds = prepared(kept, self._solver, self.options.solver)
        job.check()
        request, start = self._request(front, step)
        solution = replace(front.answer(request, job.record, start), setup_seconds=setup_seconds)
        del start
        handed = job.hand_over(solution, step.room, front)
        # What is not in the caller's memory is still to be sent.
        free = isinstance(request, Request) and not np.may_share_memory(handed.x, request.x)
        if not self._warm or not math.isfinite(solution.true_residual):
            front.reclaim(request, x=free)
            return handed
        self._start = solution.x
        if isinstance(request, Request) and free:
            self._last = front, request
        else:
            front.reclaim(request)
        return handed

    def end(self) -> None:
        """Leave the last step's memory to other calls. Not while a step is being solved."""
        if self._last is not None:
            front, request = self._last
            self._start = self._last = None
            front.reclaim(request, x=True)

    def _request(self, front: Front, step: Step) -> tuple[Request | ComplexRequest, NDArray[Any] | None]:
        """The step's request, and its start where that is not in the memory that the solve goes on in."""
        options = self.options
        b, step.b = step.b, None
        start, self._start = self._start, None
        last, self._last = self._last, None
        real = b is not None and b.dtype.kind != "c"
        if last is not None and last[0] is front and real:
            going_on = checked(
                front.continued, last[1], b, options.rtol, options.atol, options.max_iterations, options.inconsistent
            )
            return going_on, None
        if start is not None and start.dtype.kind == "c" and real and not self._kept.complex_valued:
            start = start.real
        request = checked(
            front.request, b, options.rtol, options.atol, options.max_iterations, start, options.inconsistent
        )
        return request, start


async def _told_in_turn(work: Coroutine[Any, Any, None], queue: asyncio.Queue[Any]) -> None:
    """Do it; where it is refused, say so behind what it has already put into the queue."""
    try:
        await work
    except errors.ServiceError as error:
        await queue.put(Failure(error))


def _first(group: BaseException) -> BaseException:
    """One of the tasks' errors: that of the first task to fail, as the others are cut off then."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
