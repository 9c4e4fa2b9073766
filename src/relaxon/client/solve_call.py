"""One `Solve` call: the arrays go up, progress comes back, then the solution; a cancel may go up in between."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.client import errors
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import poisson_pb2_grpc, tensor_pb2, tensors
from relaxon.proto.shared import SharedFile
from relaxon.solvers.solution import Callback, Progress, Result, Solution

B_OFFSET = X_OFFSET = 0
"""Where in a shared file `b` lies, and `x` when `b` has been read; `x0` has the second half."""


class SolveCall:
    """Sends a header with its arrays and puts the answer together; used once."""

    def __init__(
        self,
        header: pb.SolveHeader,
        b: NDArray[Any],
        x0: NDArray[Any] | None,
        callback: Callback | None,
        shared: SharedFile | None = None,
    ) -> None:
        """`shared` is this call's alone, and the server has it open: the arrays pass through it where they can."""
        self._header = header
        self._shared = shared
        if shared is not None:
            header.shared_x = X_OFFSET
        self._b = b
        self._x0 = x0
        self._callback = callback
        self._cancelled = False
        self._wishes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        """What `_requests` waits for after the arrays: True to send a cancel, False to end."""
        self._solution: pb.SolutionHeader | None = None
        self._arrays: dict[str, tensors.Assembler] = {}

    def run(self, stub: poisson_pb2_grpc.PoissonServiceStub, timeout: float) -> Solution:
        """Make the call; its errors are this package's, and an exception in the callback ends the call."""
        b = self._parts(self._b, B_OFFSET)
        x0 = () if self._x0 is None else self._parts(self._x0, self._shared.size // 2 if self._shared else 0)
        with errors.translated():
            call = stub.Solve(self._requests(b, x0), timeout=timeout)
            try:
                for reply in call:
                    self._take(reply)
            except tensors.TensorError as error:
                raise errors.InternalError(f"the server's answer is damaged: {error}") from error
            finally:
                self._wishes.put(False)
                call.cancel()  # does nothing where the call has ended
        return self._finished()

    def _requests(
        self, b: Iterable[tensor_pb2.TensorPart], x0: Iterable[tensor_pb2.TensorPart]
    ) -> Iterator[pb.SolveRequest]:
        yield pb.SolveRequest(header=self._header)
        for part in b:
            yield pb.SolveRequest(b=part)
        for part in x0:
            yield pb.SolveRequest(x0=part)
        if self._wishes.get():
            yield pb.SolveRequest(cancel=pb.Cancel())

    def _parts(self, array: NDArray[Any], offset: int) -> Iterable[tensor_pb2.TensorPart]:
        """What to send of an array, which lies in the shared file on return where it can: `_requests` runs in
        another thread, and for longer than a call that is refused."""
        if self._shared is not None:
            with suppress(OSError):  # no memory for it there; what is sent needs none
                self._shared.write(offset, tensors.octets_of(array))
                return (tensor_pb2.TensorPart(shared=tensor_pb2.SharedArray(offset=offset)),)
        return tensors.parts_of(array)

    def _take(self, reply: pb.SolveReply) -> None:
        kind = reply.WhichOneof("message")
        if kind == "progress":
            self._report(reply.progress)
        elif kind == "solution":
            self._begin(reply.solution)
        elif kind in self._arrays:
            part = reply.x if kind == "x" else reply.residuals
            if self._shared is not None and part.HasField("shared"):
                self._arrays[kind].take_shared(part.shared, self._shared)
            else:
                self._arrays[kind].take(part)
        else:
            raise errors.InternalError(f"the server sent {kind or 'an empty message'} out of turn")

    def _report(self, progress: pb.Progress) -> None:
        if self._callback is None or self._cancelled:
            return
        if self._callback(Progress(progress.iteration, progress.residual, progress.tolerance)) is True:
            self._cancelled = True
            self._wishes.put(True)

    def _begin(self, solution: pb.SolutionHeader) -> None:
        x = tensors.checked_header("x", solution.x, ("float64",))
        if x[1] != self._b.shape:
            raise errors.InternalError(f"the server's x has shape {x[1]}, where b has {self._b.shape}")
        residuals = tensors.checked_header("residuals", solution.residuals, ("float64",))
        if residuals[1] != (solution.iterations + 1,):
            raise errors.InternalError(
                f"the server's residuals have shape {residuals[1]} for {solution.iterations} iterations"
            )
        self._solution = solution
        self._arrays = {"x": tensors.Assembler("x", *x), "residuals": tensors.Assembler("residuals", *residuals)}

    def _finished(self) -> Solution:
        header = self._solution
        if header is None:
            raise errors.InternalError("the server ended the call without a solution")
        return Solution(
            x=self._array("x"),
            result=_result(header.result),
            residuals=self._array("residuals"),
            iterations=header.iterations,
            setup_seconds=header.setup_seconds,
            solve_seconds=header.solve_seconds,
            true_residual=header.true_residual,
            relative_residual=header.relative_residual,
            tolerance=header.tolerance,
            solver=header.solver,
            message=header.message,
            fallbacks=header.fallbacks,
            info=dict(header.info),
        )

    def _array(self, name: str) -> NDArray[np.float64]:
        incoming = self._arrays[name]
        if not incoming.complete:
            raise errors.InternalError(f"the server's answer is damaged: {incoming.truncated()}")
        return np.asarray(incoming.array(), np.float64)


def _result(code: pb.Result.ValueType) -> Result:
    try:
        return Result[pb.Result.Name(code).removeprefix("RESULT_")]
    except (KeyError, ValueError):
        raise errors.InternalError(f"the server sent the unknown result {code}") from None
