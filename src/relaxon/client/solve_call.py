"""One `Solve` call: the arrays go up, progress comes back, then the solution; a cancel may go up in between."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

from numpy.typing import NDArray

from relaxon.client import errors
from relaxon.client.solve_messages import SolutionReader, solve_requests
from relaxon.client.wire import Wire
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto.shared import SharedFile
from relaxon.solvers.solution import Callback, Progress, Solution


class SolveCall:
    """Sends a header with its arrays and puts the answer together; used once."""

    def __init__(
        self,
        header: pb.SolveHeader,
        b: NDArray[Any],
        x0: NDArray[Any] | None,
        callback: Callback | None,
        wire: Wire,
        shared: SharedFile | None = None,
    ) -> None:
        """`shared` is this call's alone, and the server has it open: the arrays pass through it where they can."""
        self._messages = solve_requests(header, b, x0, wire, shared)
        self._reader = SolutionReader(b, wire, shared)
        self._wire = wire
        self._callback = callback
        self._cancelled = False
        self._wishes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        """What `_requests` waits for after the arrays: True to send a cancel, False to end."""

    def run(self, method: Callable[..., Any], timeout: float) -> Solution:
        """Make the call; its errors are this package's, and an exception in the callback ends the call."""
        with errors.translated():
            call = method(self._requests(), timeout=timeout, compression=self._wire.outgoing)
            try:
                solution = None
                for reply in call:
                    found = self._reader.take(reply)
                    if isinstance(found, Progress):
                        self._report(found)
                    elif found is not None:
                        solution = found
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

    def _report(self, progress: Progress) -> None:
        if self._callback is None or self._cancelled:
            return
        if self._callback(progress) is True:
            self._cancelled = True
            self._wishes.put(True)
