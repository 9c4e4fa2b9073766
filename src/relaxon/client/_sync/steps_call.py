"""One `SolveSteps` or `SolveMatrixSteps` call: right-hand sides are pulled from the caller's iterable as the server
gets on with them."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from relaxon.core import errors
from relaxon.core.solution import Callback, Progress, Solution
from relaxon.wire.arrays import Wire
from relaxon.wire.conversions.solution import SolutionReader
from relaxon.wire.conversions.solve import numbered
from relaxon.wire.conversions.steps import AHEAD, StepMessages
from relaxon.wire.handover import Handover


class StepsCall:
    """A sequence of steps, whose solutions are iterated over once. What is the caller's runs in its own thread."""

    def __init__(
        self,
        method: Callable[..., Any],
        steps: Iterable[Any],
        callback: Callback | None,
        read_ahead: bool,
        timeout: float,
        wire: Wire,
        arguments: Mapping[str, str] | None = None,
    ) -> None:
        """`method` is the stub's; `arguments` are what the messages' fields are called here."""
        self._arguments = arguments
        self._method = method
        self._steps = iter(steps)
        self._callback = callback
        self._most = AHEAD if read_ahead else 1
        self._timeout = timeout
        self._wire = wire
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._waiting: deque[SolutionReader] = deque()
        """Steps that are sent and not answered."""
        self._done = 0
        self._late = False
        self._refused: errors.InvalidArgument | None = None
        """The mistake in the step after those, told when they are answered."""

    def solutions(self, handover: Handover, messages_for: Any) -> Iterator[Solution]:
        """The solutions, in the steps' order; `messages_for` a shared file's places gives the first messages and the
        maker of the others. The call ends with the iteration, however that ends."""
        # Whatever ends it early, the server may still be writing the answer of a step.
        with handover.lent(harmless=()) as places:
            first, messages = messages_for(places)
            for message in first:
                self._outbox.put(message)
            call: Any = self._method(iter(self._outbox.get, None), compression=self._wire.outgoing)
            watch = _Watch(self._timeout, partial(self._give_up, call))
            try:
                more = True
                while True:
                    while more and len(self._waiting) < self._most:
                        more = self._pull(messages)
                    if not self._waiting:
                        self._end(call)
                        break
                    yield self._answer(call, watch, messages)
            finally:
                watch.end()
                self._outbox.put(None)
                call.cancel()  # does nothing where the call has ended
        if self._refused is not None:
            raise self._refused

    def _pull(self, messages: StepMessages) -> bool:
        """Take the caller's next step and send it; False where there is none that can be sent."""
        try:
            step = next(self._steps)
        except StopIteration:
            return False
        try:
            with errors.refusals():
                found, reader = messages.step(step)
        except errors.InvalidArgument as error:
            self._refused = numbered(error, self._done + len(self._waiting))
            return False
        for message in found:
            self._outbox.put(message)
        self._waiting.append(reader)
        return True

    def _answer(self, call: Any, watch: _Watch, messages: StepMessages) -> Solution:
        """The solution of the step that waits for longest."""
        try:
            with watch.step(), errors.translated(self._arguments):
                solution = self._read(call, messages)
        except errors.Cancelled:
            if self._late:
                raise errors.DeadlineExceeded(f"step {self._done} took longer than {self._timeout:g} s") from None
            raise
        except errors.InvalidArgument as error:
            raise numbered(self._waiting[0].refused(error), self._done) from None
        self._waiting.popleft()
        self._done += 1
        return solution

    def _read(self, call: Any, messages: StepMessages) -> Solution:
        reader, stopped = self._waiting[0], False
        for reply in call:
            found = reader.take(reply)
            if isinstance(found, Solution):
                return found
            if isinstance(found, Progress) and self._callback is not None and not stopped:
                stopped = self._callback(found) is True
                if stopped:
                    self._outbox.put(messages.cancel(self._done))
        raise reader.ended()

    def _end(self, call: Any) -> None:
        """End the sending side, after which the server ends the call. Not before: a cancel may have to go up."""
        self._outbox.put(None)
        with errors.translated():
            for reply in call:
                raise errors.InternalError(f"the server sent {reply.WhichOneof('message')} out of turn")

    def _give_up(self, call: Any) -> None:
        self._late = True
        call.cancel()


class _Watch:
    """Calls `late` where a step takes longer than so many seconds. One thread for all steps, which sleeps through most
    of them: a step that begins while it sleeps is not due before it wakes."""

    def __init__(self, seconds: float, late: Callable[[], None]) -> None:
        self._seconds = min(seconds, threading.TIMEOUT_MAX)
        self._late = late
        self._due: float | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="relaxon-steps", daemon=True).start()

    @contextmanager
    def step(self) -> Iterator[None]:
        """The block has to end in time."""
        self._due = time.monotonic() + self._seconds
        try:
            yield
        finally:
            self._due = None

    def end(self) -> None:
        """Watch no more."""
        self._ended.set()

    def _run(self) -> None:
        left = self._seconds
        while not self._ended.wait(left):
            due = self._due
            left = self._seconds if due is None else due - time.monotonic()
            if left <= 0:
                self._late()
                return
