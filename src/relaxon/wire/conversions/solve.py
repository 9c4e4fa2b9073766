"""The messages of solves, made from arguments and read into solutions; nothing here makes a call or waits for one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import compile_progress, errors, validation
from relaxon.core.compile_progress import CompileProgress
from relaxon.core.masked import is_masked, masked_refusal, masks_as_nan
from relaxon.core.solution import Progress, Result, Solution
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import tensor_pb2
from relaxon.wire import chunks, tensors
from relaxon.wire.arrays import Wire
from relaxon.wire.handover import Loan, Place, Places

PROGRESS_SECONDS = 0.05
"""How often a callback is called at most; a solve can make thousands of iterations a second."""
INCONSISTENT = {
    "error": pb.INCONSISTENT_ERROR,
    "report": pb.INCONSISTENT_REPORT,
    "project": pb.INCONSISTENT_PROJECT,
}
Inconsistent = Literal["error", "report", "project"]
Header = pb.SolveHeader | pb.StepsHeader


@dataclass(frozen=True, slots=True)
class SolveTerms:
    """The arguments of a solve that are no arrays, checked."""

    solver: str
    rtol: float
    atol: float
    max_iterations: int | None
    inconsistent: str
    progress: bool

    @classmethod
    def checked(
        cls,
        solver: str,
        rtol: float,
        atol: float,
        max_iterations: int | None,
        inconsistent: str,
        progress: bool,
    ) -> SolveTerms:
        """ValueError or TypeError in the words of the engines."""
        if not isinstance(solver, str):
            raise TypeError(f"solver must be a name here, got {type(solver).__name__}")
        if inconsistent not in INCONSISTENT:
            raise ValueError(f"inconsistent must be 'error', 'report' or 'project', got {inconsistent!r}")
        if max_iterations is not None:
            # The wire has 63 bits for what nobody can count to.
            max_iterations = min(validation.positive_int("max_iterations", max_iterations), 2**63 - 1)
        rtol, atol = validation.positive_float("rtol", rtol), validation.non_negative_float("atol", atol)
        return cls(solver, rtol, atol, max_iterations, inconsistent, progress)

    def fill(self, header: Header, wire: Wire) -> None:
        """Put them into a header."""
        header.solver, header.rtol, header.atol = self.solver, self.rtol, self.atol
        if self.max_iterations is not None:
            header.max_iterations = self.max_iterations
        header.inconsistent = INCONSISTENT[self.inconsistent]
        if self.progress:
            header.progress_interval.FromMilliseconds(round(1000 * PROGRESS_SECONDS))
        header.omit_checksums = not wire.checksums
        header.compression = wire.incoming
        header.header_alone = True
        header.compile_progress = compile_progress.is_watched()


def side(name: str, value: ArrayLike, shapes: tuple[tuple[int, ...], ...], *, finite: bool = True) -> NDArray[Any]:
    """A right-hand side or a start as an array that can be sent; ValueError or TypeError in the engines' words.
    `finite=False` does not look at its entries; of an array of a grid's shape the server does, in the fluid. A column
    `(n, 1)` becomes a vector (`is_column`); masked entries of an array of a grid's shape become NaN."""
    whole = len(shapes) > 1 and np.shape(value) == shapes[0]
    if whole:
        value = masks_as_nan(value)  # which the server ignores outside the fluid, and refuses in it
    array = validation.real_or_complex_array(name, value, finite=finite and not whole)
    if array.shape not in shapes:
        vector = _packed(name, array, shapes[-1])
        if vector is not None:
            return vector
        wanted = f"shape {shapes[0]}"
        if len(shapes) > 1:
            wanted = f"the grid's shape {shapes[0]} or be packed with shape {shapes[1]}"
        raise ValueError(f"{name} must have {wanted}, got {array.shape}")
    return array


def masked_names(b: ArrayLike, x0: ArrayLike | None = None) -> tuple[str, ...]:
    """Which of the two hold masked entries."""
    return tuple(name for name, value in (("b", b), ("x0", x0)) if is_masked(value))


def is_column(value: ArrayLike, vector: NDArray[Any]) -> bool:
    """Whether a right-hand side, as `side` gave it, came as a column, as which its solution is given back."""
    return vector.ndim == 1 and np.ndim(value) == 2


def _packed(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any] | None:
    if array.ndim != 2 or len(shape) != 1 or array.shape[0] != shape[0]:
        return None
    if array.shape[1] == 1:
        return array.reshape(shape)
    raise ValueError(
        f"{name} must have shape {shape} or {(*shape, 1)}, got {array.shape}: for several right-hand sides call "
        f"solve_many({name}.T)"
    )


@dataclass(frozen=True, slots=True)
class Handed:
    """An array that is in the shared file."""

    offset: int
    place: Place | None = None
    """Taken for it, if one was."""
    kept: NDArray[Any] | None = None
    """The caller's own array, where that lies there: to be held until the server has answered."""


def handed(array: NDArray[Any], places: Places | None, room: int, lies: type[Loan]) -> Handed | None:
    """Have an array in the shared file, or None where it has to be sent. Where it lies there, as a part of a loan of
    the kind `lies`, nothing is copied; otherwise a place of so many bytes, at least its own, is taken for it."""
    if places is None:
        return None
    offset = places.offset_of(array, lies)
    if offset is not None:
        return Handed(offset, kept=array)
    place = places.take(room)
    if place is None:
        return None
    place.write(array)
    return Handed(place.offset, place)


def sent(kind: Any, field: str, array: NDArray[Any], wire: Wire) -> Iterator[Any]:
    """An array in messages of a class. ValueError for unknowns that are not finite, before any is sent; a server that
    shares the file looks at once. An array of a grid's shape may hold anything outside the fluid: the server looks."""
    if array.ndim == 1:
        validation.finite_entries(field, array)
    return chunks.messages_of(kind, field, array, checksum=wire.checksums)


def side_requests(
    kind: Any,
    header: pb.SolveHeader | pb.StepHeader,
    b: NDArray[Any],
    wire: Wire,
    places: Places | None,
    lies: type[Loan],
) -> tuple[Iterable[Any], SolutionReader]:
    """What to send of a right-hand side beside the header, which is completed, and what reads the replies to it. The
    solution may come in the shared file: where `b` was copied to, which the server reads before."""
    room = b.size * answer_dtype(b).itemsize
    gone = handed(b, places, room, lies)
    if gone is None or places is None:
        return sent(kind, "b", b, wire), SolutionReader(b, wire)
    header.shared_b = gone.offset
    place = gone.place or places.take(room)
    if place is not None:
        header.shared_x = place.offset
    return (), SolutionReader(b, wire, place, gone.kept)


def solve_requests(
    header: pb.SolveHeader, b: NDArray[Any], x0: NDArray[Any] | None, wire: Wire, places: Places | None
) -> tuple[Iterator[pb.SolveRequest], SolutionReader]:
    """All that is sent of a solve but for a cancel, and what reads the replies. What passes through the shared file is
    there on return; the header is completed."""
    header.b.CopyFrom(tensors.header_of(b))
    if x0 is not None:
        header.x0.CopyFrom(tensors.header_of(x0))
    # While the call lasts nothing of the caller's changes, be it a solution of before.
    right, reader = side_requests(pb.SolveRequest, header, b, wire, places, Loan)
    parts: list[Iterable[Any]] = [(pb.SolveRequest(header=header),), right]
    if x0 is not None:
        start = handed(x0, places, x0.nbytes, Loan)
        parts.append(
            sent(pb.SolveRequest, "x0", x0, wire)
            if start is None
            else (pb.SolveRequest(x0=tensors.shared_part(start.offset)),)
        )
    return chain.from_iterable(parts), reader


def answer_dtype(b: NDArray[Any]) -> np.dtype[Any]:
    """Of the solution for a right-hand side."""
    return np.dtype(np.complex128 if b.dtype.kind == "c" else np.float64)


class SolutionReader:
    """Puts the replies to one right-hand side together."""

    def __init__(
        self, b: NDArray[Any], wire: Wire, place: Place | None = None, kept: NDArray[Any] | None = None
    ) -> None:
        """`place` is where in the shared file the answer may come; `kept` is held until there is a solution."""
        self.kept = kept
        self.column = False
        """Whether `b` came as a column, as which `x` is given back."""
        self.masked: tuple[str, ...] = ()
        """Those of `b` and `x0` whose masked entries are sent as NaN."""
        self._shape = b.shape
        self._dtype = answer_dtype(b)
        self._wire = wire
        self._place = place
        self._header: pb.SolutionHeader | None = None
        self._arrays: dict[str, tensors.Assembler] = {}
        self._x: NDArray[Any] | None = None

    def take(self, reply: pb.SolveReply) -> Progress | Solution | None:
        """The solution with the last of its replies, progress where there is some; InternalError for what is wrong."""
        kind = reply.WhichOneof("message")
        try:
            if kind == "compiling" and self._header is None:
                _tell_compiling(reply.compiling)
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
                self._arrays["residuals"].take(reply.residuals)
                residuals = self._arrays["residuals"]
                return self._solution(np.asarray(residuals.array(), np.float64)) if residuals.complete else None
        except tensors.TensorError as error:
            raise errors.InternalError(f"the server's answer is damaged: {error}") from error
        raise errors.InternalError(f"the server sent {kind or 'an empty message'} out of turn")

    def refused(self, error: errors.InvalidArgument) -> errors.InvalidArgument:
        """The refusal in the words for a mask, where what the server takes for NaN is one."""
        if error.field not in self.masked or "must be finite" not in str(error):
            return error
        return errors.InvalidArgument(masked_refusal(error.field), error.field)

    def ended(self) -> errors.RelaxonError:
        """The error for a stream that ended before the solution was complete."""
        if self._header is None:
            return errors.InternalError("the server ended the call without a solution")
        broken = next((one for one in self._arrays.values() if not one.complete), None)
        return errors.InternalError(f"the server's answer is damaged: {'' if broken is None else broken.truncated()}")

    def _begin(self, header: pb.SolutionHeader) -> Solution | None:
        # Complex with a complex matrix, whatever `b` is.
        x = tensors.checked_header("x", header.x, tuple(dict.fromkeys((self._dtype.name, "complex128"))))
        if x[1] != self._shape:
            raise errors.InternalError(f"the server's x has shape {x[1]}, where b has {self._shape}")
        residuals = tensors.checked_header("residuals", header.residuals, ("float64",))
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
        incoming = self._arrays["x"]
        place = self._place
        if part.HasField("shared"):
            self._take_shared_x(part.shared)
        else:
            incoming.take(part)
            if not incoming.complete:
                return
            self._x = incoming.array()
            if place is not None:
                place.give_back()
            self._place = None

    def _solution(self, residuals: NDArray[np.float64]) -> Solution:
        header = self._header
        if header is None or self._x is None:
            raise self.ended()
        self.kept = None
        return Solution(
            x=self._x.reshape(-1, 1) if self.column else self._x,
            result=_result(header.result),
            residuals=residuals,
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
            backward_error=header.backward_error,
        )


def _tell_compiling(state: pb.Compiling) -> None:
    """Tell those who watch compiling in this process of the server's."""
    compile_progress.tell(CompileProgress(state.done, state.total, state.time_left.ToMilliseconds() / 1000))


def _result(code: pb.Result.ValueType) -> Result:
    try:
        return Result[pb.Result.Name(code).removeprefix("RESULT_")]
    except (KeyError, ValueError):
        raise errors.InternalError(f"the server sent the unknown result {code}") from None


def several(
    sides: ArrayLike | Iterable[ArrayLike], starts: Any, shapes: tuple[tuple[int, ...], ...]
) -> tuple[list[Any], list[Any]]:
    """The right-hand sides of `solve_many`, of one of the shapes, and a start, or None, for each."""
    validation.array_like("b", sides)
    given: tuple[int, ...] = getattr(sides, "shape", ())
    unknowns = shapes[-1][0]
    if len(given) == 2 and given[0] == unknowns != given[1] and given[1:] not in shapes:
        raise ValueError(f"b must hold a right-hand side in each row, (k, {unknowns}), got {tuple(given)}: pass b.T")
    found: list[Any] = list(sides)  # type: ignore[arg-type]
    if not found:
        raise ValueError("b must hold at least one right-hand side, got none")
    begun: list[Any] = [None] * len(found) if starts is None else list(starts)
    if len(begun) != len(found):
        raise ValueError(f"x0 must hold one start for each of the {len(found)} right-hand sides, got {len(begun)}")
    return found, begun


def numbered(error: errors.InvalidArgument, number: int) -> errors.InvalidArgument:
    """A refusal of `b` as one of `b[number]`: the server has one right-hand side at a time and cannot know which."""
    if error.field != "b":
        return error
    return errors.InvalidArgument(f"b[{number}]{str(error).removeprefix('b')}", f"b[{number}]")


def with_one_set_up(solutions: list[Solution]) -> tuple[Solution, ...]:
    """As in process, each with the seconds of the set-up that all share."""
    return tuple(replace(one, setup_seconds=solutions[0].setup_seconds) for one in solutions)
