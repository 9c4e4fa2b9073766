"""What a reply says of a solve, for those who watch calls go by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relaxon.proto import poisson_pb2 as pb


@dataclass(frozen=True, slots=True)
class Solved:
    """A solve that is being answered."""

    solver: str
    result: str
    iterations: int
    setup_seconds: float
    solve_seconds: float
    relative_residual: float
    backward_error: float


def solution_of(reply: Any) -> Solved | None:
    """The solve that a reply begins to answer; None where it does not.

    Any message with a field `solution` that holds a `SolutionHeader` does, whatever service it is of.
    """
    field = reply.DESCRIPTOR.fields_by_name.get("solution") if hasattr(reply, "DESCRIPTOR") else None
    if field is None or field.message_type is not pb.SolutionHeader.DESCRIPTOR or not reply.HasField("solution"):
        return None
    header: pb.SolutionHeader = reply.solution
    return Solved(
        header.solver,
        pb.Result.Name(header.result).removeprefix("RESULT_").lower(),
        header.iterations,
        header.setup_seconds,
        header.solve_seconds,
        header.relative_residual,
        header.backward_error,
    )
