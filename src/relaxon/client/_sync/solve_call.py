"""One `Solve` call: the arrays go up, progress comes back, then the solution; a cancel may go up in between."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from relaxon.core import errors
from relaxon.core.solution import Progress
from relaxon.wire.arrays import Wire
from relaxon.wire.handover import Places

Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)


class AnswerReader(Protocol[Answer_co]):
    """Puts the replies to one request together."""

    def take(self, reply: Any) -> Progress | Answer_co | None:
        """Return the answer with the last of its replies, progress where the reply is that."""

    def refused(self, error: errors.InvalidArgument) -> errors.InvalidArgument:
        """Return a refusal in the caller's words."""

    def ended(self) -> errors.RelaxonError:
        """Return the error for a stream that ended before the answer was complete."""


class Attemptable(Protocol[Answer_co]):
    """A checked request of a call that answers with progress and can be cancelled."""

    @property
    def cancel(self) -> Any:
        """The message that asks for what there is by now."""

    def attempt(self, places: Places | None) -> tuple[Iterator[Any], AnswerReader[Answer_co]]:
        """Return the messages of one attempt and what reads its replies."""


class SolveCall(Generic[Answer]):
    """Sends a request and puts the answer together; used once."""

    def __init__(
        self,
        request: Attemptable[Answer],
        callback: Callable[[Any], object] | None,
        wire: Wire,
        places: Places | None = None,
    ) -> None:
        """`places` of the shared file are this call's alone: the arrays pass through them where they can."""
        self._messages, self._reader = request.attempt(places)
        self._cancel = request.cancel
        self._wire = wire
        self._callback = callback
        self._wishes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        """What `_requests` waits for after the arrays: True to send a cancel, False to end."""

    def run(self, method: Callable[..., Any], timeout: float | None) -> Answer:
        """Make the call; its errors are this package's, and an exception in the callback ends the call."""
        try:
            return self._answer(method, timeout)
        except errors.InvalidArgument as error:
            raise self._reader.refused(error) from None

    def _answer(self, method: Callable[..., Any], timeout: float | None) -> Answer:
        answer, callback = None, self._callback
        with errors.translated():
            call = method(self._requests(), timeout=timeout, compression=self._wire.outgoing)
            try:
                for reply in call:
                    found = self._reader.take(reply)
                    if isinstance(found, Progress):
                        if callback is not None and callback(found) is True:
                            callback = None
                            self._wishes.put(True)
                    elif found is not None:
                        answer = found
            finally:
                self._wishes.put(False)
                call.cancel()  # does nothing where the call has ended
        if answer is None:
            raise self._reader.ended()
        return answer

    def _requests(self) -> Iterator[Any]:
        yield from self._messages
        if self._wishes.get():
            yield self._cancel
