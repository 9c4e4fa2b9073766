"""The replies to a solve, in both directions: progress, compile progress, and solutions with their arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core import compile_progress, errors
from relaxon.core.compile_progress import CompileProgress
from relaxon.core.masked import describe_masked
from relaxon.core.solution import Progress, Result, Solution
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import tensor_pb2
from relaxon.wire import chunks, tensors
from relaxon.wire.arrays import Wire
from relaxon.wire.handover import Slot

SCALARS = (
    "iterations",
    "setup_seconds",
    "solve_seconds",
    "true_residual",
    "relative_residual",
    "tolerance",
    "solver",
    "message",
    "fallbacks",
    "backward_error",
)
"""The fields that `Solution` and `SolutionHeader` share."""
RESIDUALS_IN_HEADER = 10_000
"""Residual norms that a header may hold; longer histories travel in parts."""
_RESULT = "RESULT_"
"""The prefix of the protocol's names for `Result`."""


def progress_reply(progress: Progress) -> pb.SolveReply:
    """Return a progress message."""
    return pb.SolveReply(
        progress=pb.Progress(iteration=progress.iteration, residual=progress.residual, tolerance=progress.tolerance)
    )


def compiling_reply(progress: CompileProgress) -> pb.SolveReply:
    """Return a message that says how far the compilation of the solver is."""
    reply = pb.SolveReply(compiling=pb.Compiling(done=progress.done, total=progress.total))
    reply.compiling.time_left.FromMilliseconds(round(1000 * progress.seconds_left))
    return reply


def solution_replies(
    solution: Solution, shared_x: int | None = None, *, checksums: bool = True, header_alone: bool = False
) -> Iterator[pb.SolveReply]:
    """Yield a solution's header, then the parts of `x` and those of the residuals.

    `shared_x` is the offset at which `x` lies in the caller's shared file, None if it has to be sent. With
    `header_alone` the header is everything, where `x` is shared and the residuals are few.
    """
    reply = pb.SolveReply(
        solution=pb.SolutionHeader(
            result=pb.Result.Value(f"{_RESULT}{solution.result.name}"),
            x=tensors.describe_array(solution.x),
            residuals=tensors.describe_array(solution.residuals),
            info=solution.info,
            **{name: getattr(solution, name) for name in SCALARS},
        )
    )
    if header_alone and shared_x is not None and solution.residuals.size <= RESIDUALS_IN_HEADER:
        reply.solution.shared_x.offset = shared_x
        reply.solution.residual_norms.extend(solution.residuals.tolist())
        yield reply
        return
    yield reply
    if shared_x is not None:
        yield pb.SolveReply(x=tensors.make_shared_part(shared_x))
    else:
        yield from chunks.split_into_messages(pb.SolveReply, "x", solution.x, checksum=checksums)
    yield from chunks.split_into_messages(pb.SolveReply, "residuals", solution.residuals, checksum=checksums)


def find_solution(reply: Any) -> tuple[str, pb.SolutionHeader] | None:
    """Return how the solve that a reply starts to answer ended, and the reply's header; None for any other message.

    A reply of any service counts whose field `solution` holds a `SolutionHeader`.
    """
    field = reply.DESCRIPTOR.fields_by_name.get("solution") if hasattr(reply, "DESCRIPTOR") else None
    if field is None or field.message_type is not pb.SolutionHeader.DESCRIPTOR or not reply.HasField("solution"):
        return None
    return pb.Result.Name(reply.solution.result).removeprefix(_RESULT).lower(), reply.solution


def answer_dtype(b: NDArray[Any]) -> np.dtype[Any]:
    """Return the dtype of the solution for a right-hand side."""
    return np.dtype(np.complex128 if b.dtype.kind == "c" else np.float64)


class SolutionReader:
    """Assembles the solution of one right-hand side from the replies to it."""

    def __init__(
        self, b: NDArray[Any], wire: Wire, place: Slot | None = None, kept: NDArray[Any] | None = None
    ) -> None:
        """`place` is where in the shared file the answer may come; `kept` is held until there is a solution."""
        self.kept = kept
        self.column = False
        """Whether `b` was given as a column; `x` is then returned as one."""
        self.masked: tuple[str, ...] = ()
        """Those of `b` and `x0` whose masked entries were sent as NaN."""
        self._shape = b.shape
        self._dtype = answer_dtype(b)
        self._wire = wire
        self._place = place
        self._header: pb.SolutionHeader | None = None
        self._arrays: dict[str, tensors.Assembler] = {}
        self._x: NDArray[Any] | None = None

    def take(self, reply: pb.SolveReply) -> Progress | Solution | None:
        """Take the next reply and return the solution if it is complete, or the progress that the reply reports.

        Raises
        ------
        InternalError : if the reply is damaged or out of order.
        """
        kind = reply.WhichOneof("message")
        try:
            if kind == "compiling" and self._header is None:
                state = reply.compiling
                left = state.time_left.ToMilliseconds() / 1000
                compile_progress.tell(CompileProgress(state.done, state.total, left))
                return None
            if kind == "progress" and self._header is None:
                progress = reply.progress
                return Progress(progress.iteration, progress.residual, progress.tolerance)
            if kind == "solution" and self._header is None:
                return self._begin(reply.solution)
            if kind == "x" and self._x is None and "x" in self._arrays:
                self._take_x(reply.x)
                return None
            if kind == "residuals" and "residuals" in self._arrays:
                residuals = self._arrays["residuals"]
                residuals.take(reply.residuals)
                return self._solution(np.asarray(residuals.array(), np.float64)) if residuals.complete else None
        except tensors.TensorError as error:
            raise errors.InternalError(f"the server's answer is damaged: {error}") from error
        raise errors.InternalError(f"the server sent {kind or 'an empty message'} out of order")

    def translate_refusal(self, error: errors.InvalidArgument) -> errors.InvalidArgument:
        """Return a refusal that speaks of a mask where the server saw the NaN that stood for a masked entry."""
        if error.field not in self.masked or "must be finite" not in str(error):
            return error
        return errors.InvalidArgument(describe_masked(error.field), error.field)

    def explain_end(self) -> errors.RelaxonError:
        """Return the error for a stream that ended before the solution was complete."""
        if self._header is None:
            return errors.InternalError("the server ended the call without a solution")
        broken = next((array for array in self._arrays.values() if not array.complete), None)
        return errors.InternalError(f"the server's answer is damaged: {'' if broken is None else broken.truncated()}")

    def _begin(self, header: pb.SolutionHeader) -> Solution | None:
        # The solution of a complex matrix is complex whatever `b` is.
        x = tensors.read_header("x", header.x, tuple(dict.fromkeys((self._dtype.name, "complex128"))))
        if x[1] != self._shape:
            raise errors.InternalError(f"the server's x has shape {x[1]}, where b has {self._shape}")
        residuals = tensors.read_header("residuals", header.residuals, ("float64",))
        if residuals[1] != (header.iterations + 1,):
            raise errors.InternalError(
                f"the server's residuals have shape {residuals[1]} for {header.iterations} iterations"
            )
        self._header = header
        checked = self._wire.checksums
        self._arrays = {
            "x": tensors.Assembler("x", *x, checked),
            "residuals": tensors.Assembler("residuals", *residuals, checked),
        }

        if not header.HasField("shared_x"):
            return None
        if len(header.residual_norms) != header.iterations + 1:
            raise errors.InternalError(
                f"the server has {len(header.residual_norms)} residual norms for {header.iterations} iterations"
            )
        self._take_shared_x(header.shared_x)
        return self._solution(np.array(header.residual_norms))

    def _take_shared_x(self, shared: tensor_pb2.SharedArray) -> None:
        place, incoming = self._place, self._arrays["x"]
        if place is None:
            raise tensors.TensorError("x", "is said to lie in a shared file, where none was agreed on")
        if shared.offset != place.offset:
            raise tensors.TensorError("x", f"is not where it was to be put: at {shared.offset}")
        incoming.take_shared(shared, place.file)
        self._x = place.kept(incoming.array())
        self._place = None

    def _take_x(self, part: tensor_pb2.TensorPart) -> None:
        if part.HasField("shared"):
            self._take_shared_x(part.shared)
            return
        incoming = self._arrays["x"]
        incoming.take(part)
        if incoming.complete:
            self._x = incoming.array()
            if self._place is not None:
                self._place.give_back()
            self._place = None

    def _solution(self, residuals: NDArray[np.float64]) -> Solution:
        header = self._header
        if header is None or self._x is None:
            raise self.explain_end()
        self.kept = None
        return Solution(
            x=self._x.reshape(-1, 1) if self.column else self._x,
            result=read_result(header.result),
            residuals=residuals,
            info=dict(header.info),
            **{name: getattr(header, name) for name in SCALARS},
        )


def read_result(code: pb.Result.ValueType) -> Result:
    """Return the result for its number in a message; InternalError for an unknown one."""
    try:
        return Result[pb.Result.Name(code).removeprefix(_RESULT)]
    except (KeyError, ValueError):
        raise errors.InternalError(f"the server sent the unknown result {code}") from None


def share_set_up(solutions: list[Solution]) -> tuple[Solution, ...]:
    """Return the solutions with the seconds of the set-up that all of them share, as in process."""
    return tuple(replace(one, setup_seconds=solutions[0].setup_seconds) for one in solutions)
