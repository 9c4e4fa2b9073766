"""The requests of a solve, in both directions: options, right-hand sides and initial guesses. No call is made here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import compile_progress, errors, validation
from relaxon.core.masked import is_masked, masks_as_nan
from relaxon.core.solve_options import INCONSISTENT, SolveOptions
from relaxon.core.solve_options import Inconsistent as Inconsistent
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import tensor_pb2
from relaxon.wire import chunks, tensors
from relaxon.wire.arrays import COMPRESSIONS, Wire
from relaxon.wire.conversions.solution import SolutionReader, answer_dtype
from relaxon.wire.handover import Loan, Slot, Slots
from relaxon.wire.tensors import AnnouncedArray

PROGRESS_SECONDS = 0.05
"""The shortest time between two calls of a callback: a solve can make thousands of iterations a second."""
MOST_ITERATIONS = 2**63 - 1
"""The largest limit that the protocol can express; a larger one means the same."""
_INCONSISTENT: dict[str, pb.Inconsistent.ValueType] = {
    name: pb.Inconsistent.Value(f"INCONSISTENT_{name.upper()}") for name in INCONSISTENT
}
_INCONSISTENT_NAMES = {code: name for name, code in _INCONSISTENT.items()} | {pb.INCONSISTENT_UNSPECIFIED: "error"}
_COMPRESSION_NAMES = {code: name for name, (_, code) in COMPRESSIONS.items()}
_DEFAULTS = SolveOptions()
Header = pb.SolveHeader | pb.StepsHeader
Shapes = tuple[tuple[int, ...], ...]
"""The shapes that a right-hand side may have; the last is that of a vector of the unknowns."""


@dataclass(frozen=True, slots=True)
class SolveTerms:
    """What the header of a solve, or of a sequence of steps, says besides its arrays."""

    solver: str
    options: SolveOptions
    progress_seconds: float | None = None
    """How often progress is reported; None for never."""
    checksums: bool = True
    """Whether the server sends arrays with checksums."""
    compression: str | None = None
    """How the server compresses its messages."""
    header_alone: bool = True
    """Whether a solution may consist of its header alone."""
    compile_progress: bool = False
    """Whether the server reports how far the compilation of the solver is."""

    @classmethod
    def of(cls, solver: str, options: SolveOptions, progress: bool, wire: Wire) -> SolveTerms:
        """Return a client's terms; TypeError if `solver` is not a name."""
        if not isinstance(solver, str):
            raise TypeError(f"solver must be a name here, got {type(solver).__name__}")
        seconds = PROGRESS_SECONDS if progress else None
        return cls(
            solver, options, seconds, wire.checksums, wire.compression, compile_progress=compile_progress.is_watched()
        )

    def write(self, header: Header) -> None:
        """Write the terms into a header."""
        options = self.options
        header.solver, header.rtol, header.atol = self.solver, options.rtol, options.atol
        if options.max_iterations is not None:
            header.max_iterations = min(options.max_iterations, MOST_ITERATIONS)
        header.inconsistent = _INCONSISTENT[options.inconsistent]
        if self.progress_seconds is not None:
            header.progress_interval.FromMilliseconds(round(1000 * self.progress_seconds))
        header.omit_checksums = not self.checksums
        header.compression = COMPRESSIONS[self.compression][1]
        header.header_alone = self.header_alone
        header.compile_progress = self.compile_progress

    @classmethod
    def read(cls, header: Header) -> SolveTerms:
        """Return the terms of a header; ValueError or TypeError naming the argument that is refused."""
        if header.inconsistent not in _INCONSISTENT_NAMES:
            raise ValueError(f"inconsistent must be a known value, got {header.inconsistent}")
        if header.compression not in _COMPRESSION_NAMES:
            raise ValueError(f"compression must be a known value, got {header.compression}")
        options = SolveOptions(
            header.rtol if header.HasField("rtol") else _DEFAULTS.rtol,
            header.atol,
            header.max_iterations if header.HasField("max_iterations") else None,
            _INCONSISTENT_NAMES[header.inconsistent],
        )
        return cls(
            header.solver,
            options,
            read_progress_seconds(header),
            not header.omit_checksums,
            _COMPRESSION_NAMES[header.compression],
            header.header_alone,
            header.compile_progress,
        )


def read_progress_seconds(header: Any) -> float | None:
    """Return how often a header asks for progress, None for never; ValueError for a negative interval."""
    if not header.HasField("progress_interval"):
        return None
    interval = header.progress_interval
    seconds = interval.seconds + 1e-9 * interval.nanos
    if seconds < 0 or not math.isfinite(seconds):
        raise ValueError(f"progress_interval must not be negative, got {seconds} s")
    return float(seconds)


def describe_shapes(shapes: Shapes) -> str:
    """Return what a right-hand side must have, for an error message."""
    if len(shapes) == 1:
        return f"shape {shapes[0]}"
    return f"the grid's shape {shapes[0]} or be packed with shape {shapes[1]}"


def read_side(name: str, header: tensor_pb2.TensorHeader, shapes: Shapes) -> AnnouncedArray:
    """Return an announced right-hand side or initial guess; ValueError if it has none of the shapes."""
    array = AnnouncedArray.of(name, header, tensors.SIDES)
    if array.shape not in shapes:
        raise ValueError(f"{name} must have {describe_shapes(shapes)}, got {array.shape}")
    return array


def read_start(header: Header, shapes: Shapes) -> AnnouncedArray | None:
    """Return the announced initial guess `x0`; None if there is none."""
    return read_side("x0", header.x0, shapes) if header.HasField("x0") else None


def side(name: str, value: ArrayLike, shapes: Shapes, *, finite: bool = True) -> NDArray[Any]:
    """Return a right-hand side or an initial guess as an array that can be sent.

    A column `(n, 1)` becomes a vector (see `is_column`). In an array of a grid's shape, masked entries become NaN.
    `finite=False` leaves the check of the entries to others; those of a grid's shape are always left to the server,
    which knows where the fluid is.

    Raises
    ------
    TypeError, ValueError : naming the argument, with the message of the in-process solve.
    """
    whole = len(shapes) > 1 and np.shape(value) == shapes[0]
    if whole:
        value = masks_as_nan(value)  # the server ignores NaN outside the fluid, and refuses it inside
    array = validation.real_or_complex_array(name, value, finite=finite and not whole)
    if array.shape not in shapes:
        vector = _flatten_column(name, array, shapes[-1])
        if vector is not None:
            return vector
        raise ValueError(f"{name} must have {describe_shapes(shapes)}, got {array.shape}")
    return array


def find_masked(b: ArrayLike, x0: ArrayLike | None = None) -> tuple[str, ...]:
    """Return which of the two hold masked entries."""
    return tuple(name for name, value in (("b", b), ("x0", x0)) if is_masked(value))


def is_column(value: ArrayLike, vector: NDArray[Any]) -> bool:
    """Return whether a right-hand side that `side` made a vector was given as a column; so is its solution then."""
    return vector.ndim == 1 and np.ndim(value) == 2


def _flatten_column(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any] | None:
    if array.ndim != 2 or len(shape) != 1 or array.shape[0] != shape[0]:
        return None
    if array.shape[1] == 1:
        return array.reshape(shape)
    raise ValueError(
        f"{name} must have shape {shape} or {(*shape, 1)}, got {array.shape}: for several right-hand sides call "
        f"solve_many({name}.T)"
    )


@dataclass(frozen=True, slots=True)
class SharedArray:
    """An array that lies in the shared file."""

    offset: int
    place: Slot | None = None
    """The place that was taken for it, if one was."""
    kept: NDArray[Any] | None = None
    """The caller's own array, if it lies there: it must be held until the server has answered."""


def share(array: NDArray[Any], places: Slots | None, room: int, lies: type[Loan]) -> SharedArray | None:
    """Place an array in the shared file; None if it has to be sent.

    An array that is part of a loan of the kind `lies` is already there, and nothing is copied. Any other is copied to a
    place of `room` bytes, which must be at least its own.
    """
    if places is None:
        return None
    offset = places.offset_of(array, lies)
    if offset is not None:
        return SharedArray(offset, kept=array)
    place = places.take(room)
    if place is None:
        return None
    place.write(array)
    return SharedArray(place.offset, place)


def array_requests(kind: Any, field: str, array: NDArray[Any], wire: Wire) -> Iterator[Any]:
    """Return the messages of class `kind` that carry an array in `field`.

    ValueError for a vector with entries that are not finite, before anything is sent. A server that shares the file
    looks itself; so does it at an array of a grid's shape, which may hold anything outside the fluid.
    """
    if array.ndim == 1:
        validation.finite_entries(field, array)
    return chunks.split_into_messages(kind, field, array, checksum=wire.checksums)


def side_requests(
    kind: Any,
    header: pb.SolveHeader | pb.StepHeader,
    b: NDArray[Any],
    wire: Wire,
    places: Slots | None,
    lies: type[Loan],
) -> tuple[Iterable[Any], SolutionReader]:
    """Complete a header and return the messages that carry `b`, with the reader of the replies to it.

    The solution may come in the shared file, in the place that `b` was copied to: the server reads `b` first.
    """
    room = b.size * answer_dtype(b).itemsize
    shared = share(b, places, room, lies)
    if shared is None or places is None:
        return array_requests(kind, "b", b, wire), SolutionReader(b, wire)
    header.shared_b = shared.offset
    place = shared.place or places.take(room)
    if place is not None:
        header.shared_x = place.offset
    return (), SolutionReader(b, wire, place, shared.kept)


def solve_requests(
    header: pb.SolveHeader, b: NDArray[Any], x0: NDArray[Any] | None, wire: Wire, places: Slots | None
) -> tuple[Iterator[pb.SolveRequest], SolutionReader]:
    """Complete a header and return the messages of a solve, all but a cancellation, with the reader of the replies.

    Arrays that pass through the shared file are there on return.
    """
    header.b.CopyFrom(tensors.describe_array(b))
    if x0 is not None:
        header.x0.CopyFrom(tensors.describe_array(x0))
    # The caller cannot change an array while the call lasts, so that any loan may serve, an earlier solution included.
    right, reader = side_requests(pb.SolveRequest, header, b, wire, places, Loan)
    parts: list[Iterable[Any]] = [(pb.SolveRequest(header=header),), right]
    if x0 is not None:
        start = share(x0, places, x0.nbytes, Loan)
        parts.append(
            array_requests(pb.SolveRequest, "x0", x0, wire)
            if start is None
            else (pb.SolveRequest(x0=tensors.make_shared_part(start.offset)),)
        )
    return chain.from_iterable(parts), reader


def split_sides(sides: ArrayLike | Iterable[ArrayLike], starts: Any, shapes: Shapes) -> tuple[list[Any], list[Any]]:
    """Return the right-hand sides of `solve_many`, and an initial guess or None for each.

    Raises
    ------
    TypeError, ValueError : if there is no right-hand side, they are columns, or the guesses are not as many.
    """
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


def number_refusal(error: errors.InvalidArgument, number: int) -> errors.InvalidArgument:
    """Return a refusal of `b` as one of `b[number]`: the server has one right-hand side at a time and cannot know."""
    if error.field != "b":
        return error
    return errors.InvalidArgument(f"b[{number}]{str(error).removeprefix('b')}", f"b[{number}]")
