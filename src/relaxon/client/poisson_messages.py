"""Poisson systems as they travel: grids, right-hand sides and solvers, checked on this side in the engines' words."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from numpy.typing import ArrayLike, NDArray

from relaxon.client import errors
from relaxon.client.solve_request import SolveRequest
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import tensor_pb2, tensors
from relaxon.solvers import validation
from relaxon.solvers.grid import Boundary, BoundaryLike, PoissonGrid
from relaxon.solvers.html import table

PROGRESS_SECONDS = 0.05
"""How often a callback is called at most; a solve can make thousands of iterations a second."""
_SIDES = {
    Boundary.NEUMANN: pb.BOUNDARY_NEUMANN,
    Boundary.DIRICHLET: pb.BOUNDARY_DIRICHLET,
    Boundary.PERIODIC: pb.BOUNDARY_PERIODIC,
}
_INCONSISTENT = {
    "error": pb.INCONSISTENT_ERROR,
    "report": pb.INCONSISTENT_REPORT,
    "project": pb.INCONSISTENT_PROJECT,
}
Inconsistent = Literal["error", "report", "project"]


@dataclass(frozen=True, slots=True)
class SolverInfo:
    """A solver that a server knows by name."""

    name: str
    summary: str
    missing: tuple[str, ...]
    """Python modules that it needs and the server lacks."""

    @property
    def available(self) -> bool:
        return not self.missing


def solver_infos(reply: pb.ListSolversReply) -> tuple[SolverInfo, ...]:
    """The solvers of a list, in its order."""
    return tuple(SolverInfo(one.name, one.summary, tuple(one.missing)) for one in reply.solvers)


def checked_grid(
    cells: ArrayLike,
    spacing: float | Sequence[float],
    boundary: BoundaryLike,
    coefficient: ArrayLike | Sequence[ArrayLike] | None,
) -> PoissonGrid:
    """The grid that is to be sent, refused here where it can be."""
    with errors.refusals():
        return PoissonGrid(cells, spacing, boundary, coefficient)


def grid_requests(grid: PoissonGrid, shared: tensor_pb2.SharedFile | None) -> Iterator[pb.CreateGridRequest]:
    """The messages that have a server keep the grid; `shared` is how it finds the file for its arrays."""
    kappa = grid.coefficient
    arrays = () if kappa is None else kappa if isinstance(kappa, tuple) else (kappa,)
    yield pb.CreateGridRequest(
        header=pb.GridHeader(
            cells=tensors.header_of(grid.cells),
            spacing=grid.spacing,
            boundary=[pb.AxisBoundary(low=_SIDES[low], high=_SIDES[high]) for low, high in grid.boundary],
            coefficient=[tensors.header_of(array) for array in arrays],
            shared=shared,
        )
    )
    for part in tensors.parts_of(grid.cells):
        yield pb.CreateGridRequest(cells=part)
    for array in arrays:
        for part in tensors.parts_of(array):
            yield pb.CreateGridRequest(coefficient=part)


class GridHandle:
    """What a client knows of a grid that a server keeps."""

    def __init__(self, kept: pb.Grid, shape: tuple[int, ...], target: str) -> None:
        self.id: str = kept.id
        self.shape = shape
        self.unknowns: int = kept.unknowns
        self.singular_components: int = kept.singular_components
        """Fluid components that neither air nor a Dirichlet side holds; `b` must sum to zero over each."""
        self.setup_seconds: float = kept.setup_seconds
        """What the server spent on checking the grid and finding its components."""
        self.expires: datetime = kept.expire_time.ToDatetime(UTC)
        """When the server would have forgotten the grid had it not been used since it was made."""
        self._target = target
        self._used = time.monotonic()
        self._deleted = False

    def __repr__(self) -> str:
        return f"RemoteGrid({'×'.join(map(str, self.shape))}, {self.unknowns} unknowns)"

    def _repr_html_(self) -> str:
        rows = {
            "shape": "×".join(map(str, self.shape)),
            "unknowns": f"{self.unknowns:,}",
            "components without a fixed value": self.singular_components,
            "server": self._target,
            "id": self.id,
        }
        return table("grid on a server", rows)

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """A call on the grid: where the server does not know it, the error says what may have happened to it."""
        try:
            yield
        except errors.NotFound as error:
            if self._deleted:
                raise
            shape, idle = "×".join(map(str, self.shape)), time.monotonic() - self._used
            raise errors.GridLost(
                f"grid {self.id!r} ({shape}), last used {idle:.1f} s ago, is not on the server at {self._target} any "
                "more: the server was restarted, or the grid has expired, made room for another or was deleted by "
                "another client; make it again",
                error.resource_type,
                error.resource_name,
            ) from error
        self._used = time.monotonic()

    def _solve_request(
        self,
        name: str,
        b: ArrayLike,
        solver: str,
        rtol: float,
        atol: float,
        max_iterations: int | None,
        x0: ArrayLike | None,
        inconsistent: str,
        progress: bool,
    ) -> SolveRequest:
        """A solve's header and arrays, refused here where they can be, in the words of the engines."""
        with errors.refusals():
            if not isinstance(solver, str):
                raise TypeError(f"solver must be a name here, got {type(solver).__name__}")
            header = pb.SolveHeader(
                grid_id=self.id,
                solver=solver,
                rtol=validation.positive_float("rtol", rtol),
                atol=validation.non_negative_float("atol", atol),
            )
            if max_iterations is not None:
                # The wire has 63 bits for what nobody can count to.
                header.max_iterations = min(validation.positive_int("max_iterations", max_iterations), 2**63 - 1)
            if inconsistent not in _INCONSISTENT:
                raise ValueError(f"inconsistent must be 'error', 'report' or 'project', got {inconsistent!r}")
            header.inconsistent = _INCONSISTENT[inconsistent]
            side = self._side(name, b)
            start = None if x0 is None else self._side("x0", x0)
        header.b.CopyFrom(tensors.header_of(side))
        if start is not None:
            header.x0.CopyFrom(tensors.header_of(start))
        if progress:
            header.progress_interval.FromMilliseconds(round(1000 * PROGRESS_SECONDS))
        return SolveRequest(header, side, start)

    def _solve_requests(
        self,
        b: ArrayLike | Sequence[ArrayLike],
        solver: str,
        rtol: float,
        atol: float,
        max_iterations: int | None,
        x0: ArrayLike | Sequence[ArrayLike] | None,
        inconsistent: str,
        progress: bool,
    ) -> list[SolveRequest]:
        """The same for several right-hand sides; all are checked before the first is sent."""
        with errors.refusals():
            sides: list[Any] = list(b)  # type: ignore[arg-type]
            if not sides:
                raise ValueError("b must hold at least one right-hand side, got none")
            starts: list[Any] = [None] * len(sides) if x0 is None else list(x0)  # type: ignore[arg-type]
            if len(starts) != len(sides):
                raise ValueError(
                    f"x0 must hold one start for each of the {len(sides)} right-hand sides, got {len(starts)}"
                )
        return [
            self._solve_request(f"b[{i}]", side, solver, rtol, atol, max_iterations, start, inconsistent, progress)
            for i, (side, start) in enumerate(zip(sides, starts, strict=True))
        ]

    def _side(self, name: str, value: ArrayLike) -> NDArray[Any]:
        array = validation.real_array(name, value)
        if array.shape not in (self.shape, (self.unknowns,)):
            raise ValueError(
                f"{name} must have the grid's shape {self.shape} or be packed with shape ({self.unknowns},), "
                f"got {array.shape}"
            )
        return array


@contextmanager
def numbered(number: int) -> Iterator[None]:
    """Has refusals of `b` in the block say which of several it was: the server has one a call and cannot know."""
    try:
        yield
    except errors.InvalidArgument as error:
        if error.field != "b":
            raise
        raise errors.InvalidArgument(f"b[{number}]{str(error).removeprefix('b')}", f"b[{number}]") from error
