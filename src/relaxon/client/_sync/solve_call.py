# Generated from relaxon/client/_async/solve_call.py by tools/generate_client.py: edit that file and run the tool.
"""One `Solve` call of the blocking client: the arrays go up, progress comes back, then the solution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, TypeVar

from relaxon.client._sync.caller import RetryingCaller
from relaxon.client.shared.blocking_runtime import Outbox, wants_to_stop
from relaxon.core import errors
from relaxon.core.solution import Progress
from relaxon.wire.arrays import Wire
from relaxon.wire.handover import Slots

Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)


class AnswerReader(Protocol[Answer_co]):
    """Assembles the replies to one request."""

    def take(self, reply: Any) -> Progress | Answer_co | None:
        """Return the answer with the last of its replies, and progress where the reply is that."""

    def translate_refusal(self, error: errors.InvalidArgument) -> errors.InvalidArgument:
        """Return a refusal in the caller's terms."""

    def explain_end(self) -> errors.RelaxonError:
        """Return the error for a stream that ended before the answer was complete."""


class RepeatableRequest(Protocol[Answer_co]):
    """A validated request of a call that answers with progress and can be cancelled."""

    @property
    def cancel(self) -> Any:
        """The message that asks for the answer reached so far."""

    def attempt(self, places: Slots | None) -> tuple[Iterator[Any], AnswerReader[Answer_co]]:
        """Return the messages of one attempt and the reader of its replies."""


def solve(
    caller: RetryingCaller,
    method: Callable[..., Any],
    request: RepeatableRequest[Answer],
    callback: Callable[[Any], object] | None,
    places: Slots | None,
    seconds: float | None,
    wire: Wire,
) -> Answer:
    """Make one attempt and return its answer. An exception in the callback ends the call, and with it the solve.

    `places` are places of the shared file for this call alone; arrays pass through them where they can.
    """
    # Copying the arrays into the shared file takes time.
    messages, reader = request.attempt(places)
    outbox = Outbox(messages)
    begin = partial(method, compression=wire.outgoing)
    answer = None
    try:
        with caller.stream(begin, outbox.messages(), seconds) as call:
            for reply in call:
                found = reader.take(reply)
                if isinstance(found, Progress):
                    if callback is not None and wants_to_stop(callback, found):
                        callback = None
                        outbox.put(request.cancel)
                        outbox.end()
                elif found is not None:
                    answer = found
    except errors.InvalidArgument as error:
        raise reader.translate_refusal(error) from None
    finally:
        outbox.end()
    if answer is None:
        raise reader.explain_end()
    return answer
