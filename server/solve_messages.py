"""`SolveHeader` as the arguments of a solve, checked before the arrays are uploaded; a `Solution` as replies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import tensor_pb2, tensors
from relaxon.proto.shared import SharedFile
from relaxon.server import errors
from relaxon.server.announced import AnnouncedArray
from relaxon.solvers import validation
from relaxon.solvers.grid import PoissonGrid
from relaxon.solvers.solution import Progress, Solution

DEFAULT_RTOL = 1e-6
X_BYTES = 8
"""Of an entry of `x`, float64."""
INCONSISTENT = {
    pb.INCONSISTENT_UNSPECIFIED: "error",
    pb.INCONSISTENT_ERROR: "error",
    pb.INCONSISTENT_REPORT: "report",
    pb.INCONSISTENT_PROJECT: "project",
}


@dataclass(frozen=True, slots=True)
class SolvePlan:
    """A solve as its header describes it."""

    solver: str
    rtol: float
    atol: float
    max_iterations: int | None
    inconsistent: str
    b: AnnouncedArray
    x0: AnnouncedArray | None
    progress_seconds: float | None


def plan(header: pb.SolveHeader, grid: PoissonGrid, shared: SharedFile | None) -> SolvePlan:
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
    b = _side("b", header.b, grid)
    if header.HasField("shared_x") and shared is not None:
        try:
            tensors.check_range("shared_x", header.shared_x, math.prod(b.shape) * X_BYTES, shared)
        except tensors.TensorError as error:
            raise errors.invalid(error.field, str(error)) from None
    return SolvePlan(
        solver=header.solver,
        rtol=rtol,
        atol=atol,
        max_iterations=limit,
        inconsistent=INCONSISTENT[header.inconsistent],
        b=b,
        x0=_side("x0", header.x0, grid) if header.HasField("x0") else None,
        progress_seconds=_progress_seconds(header),
    )


def progress_reply(progress: Progress) -> pb.SolveReply:
    """A progress message."""
    return pb.SolveReply(
        progress=pb.Progress(iteration=progress.iteration, residual=progress.residual, tolerance=progress.tolerance)
    )


def share_x(solution: Solution, shared: SharedFile, offset: int) -> int | None:
    """Put `x` into the shared file; its offset, or None where there is no memory for it."""
    try:
        shared.write(offset, tensors.octets_of(solution.x))
    except OSError:
        return None
    return offset


def solution_replies(solution: Solution, shared_x: int | None = None) -> Iterator[pb.SolveReply]:
    """A solution's header, then the parts of `x`, or where in the shared file it is, and those of the residuals."""
    yield pb.SolveReply(
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
        )
    )
    if shared_x is not None:
        yield pb.SolveReply(x=tensor_pb2.TensorPart(shared=tensor_pb2.SharedArray(offset=shared_x)))
    else:
        for part in tensors.parts_of(solution.x):
            yield pb.SolveReply(x=part)
    for part in tensors.parts_of(solution.residuals):
        yield pb.SolveReply(residuals=part)


def _side(name: str, header: tensor_pb2.TensorHeader, grid: PoissonGrid) -> AnnouncedArray:
    side = AnnouncedArray.of(name, header)
    if side.shape not in (grid.shape, (grid.unknowns,)):
        raise errors.invalid(
            name,
            f"{name} must have the grid's shape {grid.shape} or be packed with shape ({grid.unknowns},), "
            f"got {side.shape}",
        )
    return side


def _progress_seconds(header: pb.SolveHeader) -> float | None:
    if not header.HasField("progress_interval"):
        return None
    interval = header.progress_interval
    seconds = interval.seconds + 1e-9 * interval.nanos
    if seconds < 0 or not math.isfinite(seconds):
        raise errors.invalid("progress_interval", f"progress_interval must not be negative, got {seconds} s")
    return seconds
