"""What comes back from a `Solve` call, put together message by message."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.client import errors
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import tensors
from relaxon.proto.shared import SharedFile
from relaxon.solvers.solution import Progress, Result, Solution


class SolveAnswer:
    """Takes the replies of a call in turn; InternalError for one that does not fit."""

    def __init__(self, shape: tuple[int, ...], shared: SharedFile | None) -> None:
        """`shape` is that of the right-hand side, `shared` where arrays may come through."""
        self._shape = shape
        self._shared = shared
        self._solution: pb.SolutionHeader | None = None
        self._arrays: dict[str, tensors.Assembler] = {}

    def take(self, reply: pb.SolveReply) -> Progress | None:
        """Place a reply; what a callback is to be told of, if it is that."""
        kind = reply.WhichOneof("message")
        try:
            if kind == "progress":
                one = reply.progress
                return Progress(one.iteration, one.residual, one.tolerance)
            if kind == "solution":
                self._begin(reply.solution)
            elif kind in self._arrays:
                part = reply.x if kind == "x" else reply.residuals
                if self._shared is not None and part.HasField("shared"):
                    self._arrays[kind].take_shared(part.shared, self._shared)
                else:
                    self._arrays[kind].take(part)
            else:
                raise errors.InternalError(f"the server sent {kind or 'an empty message'} out of turn")
        except tensors.TensorError as error:
            raise errors.InternalError(f"the server's answer is damaged: {error}") from error
        return None

    def finished(self) -> Solution:
        """The solution, once the call has ended."""
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

    def _begin(self, solution: pb.SolutionHeader) -> None:
        x = tensors.checked_header("x", solution.x, ("float64",))
        if x[1] != self._shape:
            raise errors.InternalError(f"the server's x has shape {x[1]}, where b has {self._shape}")
        residuals = tensors.checked_header("residuals", solution.residuals, ("float64",))
        if residuals[1] != (solution.iterations + 1,):
            raise errors.InternalError(
                f"the server's residuals have shape {residuals[1]} for {solution.iterations} iterations"
            )
        self._solution = solution
        self._arrays = {"x": tensors.Assembler("x", *x), "residuals": tensors.Assembler("residuals", *residuals)}

    def _array(self, name: str) -> NDArray[np.float64]:
        incoming = self._arrays[name]
        if not incoming.complete:
            raise errors.InternalError(f"the server's answer is damaged: {incoming.truncated()}")
        array: NDArray[Any] = incoming.array()
        return np.asarray(array, np.float64)


def _result(code: pb.Result.ValueType) -> Result:
    try:
        return Result[pb.Result.Name(code).removeprefix("RESULT_")]
    except (KeyError, ValueError):
        raise errors.InternalError(f"the server sent the unknown result {code}") from None
