"""A solve's header as its arguments, checked before the arrays are uploaded; a `Solution` as replies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from relaxon.core import validation
from relaxon.core.compile_progress import CompileProgress
from relaxon.core.solution import Progress, Solution
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import tensor_pb2
from relaxon.server.gate import errors
from relaxon.server.gate.announced import AnnouncedArray, refusing
from relaxon.wire import chunks, tensors
from relaxon.wire.shared_memory import SharedFile

DEFAULT_RTOL = 1e-6
INCONSISTENT = {
    pb.INCONSISTENT_UNSPECIFIED: "error",
    pb.INCONSISTENT_ERROR: "error",
    pb.INCONSISTENT_REPORT: "report",
    pb.INCONSISTENT_PROJECT: "project",
}
COMPRESSION = {
    tensor_pb2.COMPRESSION_NONE: grpc.Compression.NoCompression,
    tensor_pb2.COMPRESSION_DEFLATE: grpc.Compression.Deflate,
    tensor_pb2.COMPRESSION_GZIP: grpc.Compression.Gzip,
}
RESIDUALS_IN_HEADER = 10_000
"""At most; more are sent in parts."""
Shapes = tuple[tuple[int, ...], ...]
"""The shapes that a right-hand side may have."""


@dataclass(frozen=True, slots=True)
class SolveOptions:
    """What a solve's header says beside its arrays."""

    solver: str
    rtol: float
    atol: float
    max_iterations: int | None
    inconsistent: str
    progress_seconds: float | None
    checksums: bool
    compression: grpc.Compression
    header_alone: bool


def options(header: pb.SolveHeader | pb.StepsHeader) -> SolveOptions:
    """What a header asks for; INVALID_ARGUMENT naming the argument that cannot be."""
    try:
        rtol = validation.positive_float("rtol", header.rtol if header.HasField("rtol") else DEFAULT_RTOL)
        atol = validation.non_negative_float("atol", header.atol)
        limit = None
        if header.HasField("max_iterations"):
            limit = validation.positive_int("max_iterations", header.max_iterations)
    except (ValueError, TypeError) as error:
        raise errors.refused(error) from error
    if header.inconsistent not in INCONSISTENT:
        raise errors.invalid("inconsistent", f"inconsistent must be a known value, got {header.inconsistent}")
    if header.compression not in COMPRESSION:
        raise errors.invalid("compression", f"compression must be a known value, got {header.compression}")
    return SolveOptions(
        solver=header.solver,
        rtol=rtol,
        atol=atol,
        max_iterations=limit,
        inconsistent=INCONSISTENT[header.inconsistent],
        progress_seconds=progress_seconds(header),
        checksums=not header.omit_checksums,
        compression=COMPRESSION[header.compression],
        header_alone=header.header_alone,
    )


def side(name: str, header: tensor_pb2.TensorHeader, shapes: Shapes) -> AnnouncedArray:
    """A right-hand side or a start as announced; INVALID_ARGUMENT naming it where its shape is none of `shapes`."""
    found = AnnouncedArray.of(name, header, tensors.SIDES)
    if found.shape not in shapes:
        raise errors.invalid(name, f"{name} must have {_described(shapes)}, got {found.shape}")
    return found


def start(header: pb.SolveHeader | pb.StepsHeader, shapes: Shapes) -> AnnouncedArray | None:
    """`x0` as announced, if it is."""
    return side("x0", header.x0, shapes) if header.HasField("x0") else None


def shared_x(header: pb.SolveHeader | pb.StepHeader, b: AnnouncedArray, shared: SharedFile | None) -> int | None:
    """Where in the shared file `x` may be put; None where it has to be sent."""
    if shared is None or not header.HasField("shared_x"):
        return None
    with refusing():
        tensors.check_range("shared_x", header.shared_x, math.prod(b.shape) * x_itemsize(b), shared)
    return int(header.shared_x)


def x_itemsize(b: AnnouncedArray) -> int:
    """Bytes of an entry of `x`: float64, or complex128 where `b` is complex."""
    return 16 if b.dtype.kind == "c" else 8


def progress_reply(progress: Progress) -> pb.SolveReply:
    """A progress message."""
    return pb.SolveReply(
        progress=pb.Progress(iteration=progress.iteration, residual=progress.residual, tolerance=progress.tolerance)
    )


def compiling_reply(progress: CompileProgress) -> pb.SolveReply:
    """How far the compiling of the solver is, as a message."""
    reply = pb.SolveReply(compiling=pb.Compiling(done=progress.done, total=progress.total))
    reply.compiling.time_left.FromMilliseconds(round(1000 * progress.seconds_left))
    return reply


def solution_replies(
    solution: Solution, shared_x: int | None = None, *, checksums: bool = True, header_alone: bool = False
) -> Iterator[pb.SolveReply]:
    """A solution's header, then the parts of `x`, or where in the shared file it is, and those of the residuals; the
    header alone where that is wanted and can be."""
    reply = pb.SolveReply(
        solution=pb.SolutionHeader(
            result=pb.Result.Value(f"RESULT_{solution.result.name}"),
            x=tensors.header_of(solution.x),
            residuals=tensors.header_of(solution.residuals),
            iterations=solution.iterations,
            setup_seconds=solution.setup_seconds,
            solve_seconds=solution.solve_seconds,
            true_residual=solution.true_residual,
            relative_residual=solution.relative_residual,
            tolerance=solution.tolerance,
            solver=solution.solver,
            message=solution.message,
            fallbacks=solution.fallbacks,
            info=solution.info,
            backward_error=solution.backward_error,
        )
    )
    if header_alone and shared_x is not None and solution.residuals.size <= RESIDUALS_IN_HEADER:
        reply.solution.shared_x.offset = shared_x
        reply.solution.residual_norms.extend(solution.residuals.tolist())
        yield reply
        return
    yield reply
    if shared_x is not None:
        yield pb.SolveReply(x=tensors.shared_part(shared_x))
    else:
        yield from chunks.messages_of(pb.SolveReply, "x", solution.x, checksum=checksums)
    yield from chunks.messages_of(pb.SolveReply, "residuals", solution.residuals, checksum=checksums)


def _described(shapes: Shapes) -> str:
    if len(shapes) == 1:
        return f"shape {shapes[0]}"
    return f"the grid's shape {shapes[0]} or be packed with shape {shapes[1]}"


def progress_seconds(header: Any) -> float | None:
    """Return how often a header wants progress, None for never; INVALID_ARGUMENT for an interval that is none."""
    if not header.HasField("progress_interval"):
        return None
    interval = header.progress_interval
    seconds = interval.seconds + 1e-9 * interval.nanos
    if seconds < 0 or not math.isfinite(seconds):
        raise errors.invalid("progress_interval", f"progress_interval must not be negative, got {seconds} s")
    return float(seconds)
