"""One `Solve` call: the arrays go up, progress comes back, then the solution; a cancel may go up in between."""

from __future__ import annotations

import queue
from collections.abc import Iterator

from relaxon.client import errors
from relaxon.client.solve_request import CANCEL, SolveRequest
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import poisson_pb2_grpc
from relaxon.proto.shared import SharedFile
from relaxon.solvers.solution import Callback, Solution


class SolveCall:
    """Sends a request and puts the answer together; used once."""

    def __init__(self, request: SolveRequest, callback: Callback | None, shared: SharedFile | None = None) -> None:
        """`shared` is this call's alone, and the server has it open: the arrays pass through it where they can."""
        self._request = request
        self._shared = shared
        self._callback = callback
        self._wishes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        """What `_requests` waits for after the arrays: True to send a cancel, False to end."""

    def run(self, stub: poisson_pb2_grpc.PoissonServiceStub, timeout: float | None) -> Solution:
        """Make the call; its errors are this package's, and an exception in the callback ends the call."""
        # The arrays are in the shared file from here on: what sends runs in another thread, and for longer than a
        # call that is refused.
        messages, answer = self._request.handed(self._shared), self._request.answer(self._shared)
        callback = self._callback
        with errors.translated():
            call = stub.Solve(self._requests(messages), timeout=timeout)
            try:
                for reply in call:
                    progress = answer.take(reply)
                    if progress is not None and callback is not None and callback(progress) is True:
                        callback = None
                        self._wishes.put(True)
            finally:
                self._wishes.put(False)
                call.cancel()  # does nothing where the call has ended
        return answer.finished()

    def _requests(self, messages: Iterator[pb.SolveRequest]) -> Iterator[pb.SolveRequest]:
        yield from messages
        if self._wishes.get():
            yield CANCEL
