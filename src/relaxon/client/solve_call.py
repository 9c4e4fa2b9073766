"""One `Solve` call: the arrays go up, progress comes back, then the solution; a cancel may go up in between."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

from relaxon.client import errors
from relaxon.client.handover import Places
from relaxon.client.system import SolveRequest
from relaxon.client.wire import Wire
from relaxon.proto import poisson_pb2 as pb
from relaxon.solvers.solution import Callback, Progress, Solution


class SolveCall:
    """Sends a request and puts the answer together; used once."""

    def __init__(
        self, request: SolveRequest, callback: Callback | None, wire: Wire, places: Places | None = None
    ) -> None:
        """`places` of the shared file are this call's alone: the arrays pass through them where they can."""
        self._messages, self._reader = request.attempt(places)
        self._wire = wire
        self._callback = callback
        self._wishes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        """What `_requests` waits for after the arrays: True to send a cancel, False to end."""

    def run(self, method: Callable[..., Any], timeout: float | None) -> Solution:
        """Make the call; its errors are this package's, and an exception in the callback ends the call."""
        try:
            return self._answer(method, timeout)
        except errors.InvalidArgument as error:
            raise self._reader.refused(error) from None

    def _answer(self, method: Callable[..., Any], timeout: float | None) -> Solution:
        solution, callback = None, self._callback
        with errors.translated():
            call = method(self._requests(), timeout=timeout, compression=self._wire.outgoing)
            try:
                for reply in call:
                    found = self._reader.take(reply)
                    if isinstance(found, Solution):
                        solution = found
                    elif isinstance(found, Progress) and callback is not None and callback(found) is True:
                        callback = None
                        self._wishes.put(True)
            finally:
                self._wishes.put(False)
                call.cancel()  # does nothing where the call has ended
        if solution is None:
            raise self._reader.ended()
        return solution

    def _requests(self) -> Iterator[pb.SolveRequest]:
        yield from self._messages
        if self._wishes.get():
            yield pb.SolveRequest(cancel=pb.Cancel())
