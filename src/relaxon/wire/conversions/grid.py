"""Grids as they travel, checked on this side in the engines' words, and what a client knows of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import errors
from relaxon.core.html import table
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import tensor_pb2
from relaxon.solvers.grid.arguments import SpacingLike
from relaxon.solvers.grid.poisson_grid import Boundary, BoundaryLike, PoissonGrid, Robin
from relaxon.solvers.grid.sides import Side
from relaxon.wire import chunks, tensors
from relaxon.wire.arrays import Wire
from relaxon.wire.conversions.steps import Change, GridStepMessages
from relaxon.wire.conversions.system import SystemHandle
from relaxon.wire.handover import Places

_SIDES = {
    Boundary.NEUMANN: pb.BOUNDARY_NEUMANN,
    Boundary.DIRICHLET: pb.BOUNDARY_DIRICHLET,
    Boundary.DIRICHLET_NODE: pb.BOUNDARY_DIRICHLET_NODE,
    Boundary.PERIODIC: pb.BOUNDARY_PERIODIC,
}
MOST_INLINE = 300_000
"""Widths and h of Robin sides travel in the header, whose message may not be larger than this many float64 make it."""


@dataclass(frozen=True, slots=True)
class SolverInfo:
    """A solver that a server knows by name."""

    name: str
    summary: str
    missing: tuple[str, ...]
    """Python modules that it needs and the server lacks."""
    extra: str = ""
    """What to install on the server for them: `pip install "relaxon[EXTRA]"`; empty where nothing is missing."""

    @property
    def available(self) -> bool:
        return not self.missing


def solver_infos(reply: pb.ListSolversReply) -> tuple[SolverInfo, ...]:
    """The solvers of a list, in its order."""
    return tuple(SolverInfo(one.name, one.summary, tuple(one.missing), one.extra) for one in reply.solvers)


def checked_grid(
    cells: ArrayLike,
    spacing: SpacingLike,
    boundary: BoundaryLike,
    coefficient: ArrayLike | Sequence[ArrayLike] | None,
    reaction: float | ArrayLike | None,
    volume: ArrayLike | None,
) -> PoissonGrid:
    """The grid that is to be sent, refused here where it can be."""
    with errors.refusals():
        grid = PoissonGrid(cells, spacing, boundary, coefficient, reaction, volume=volume)
        films = [np.size(side.h) for pair in grid.boundary for side in pair if isinstance(side, Robin)]
        inline = sum(films) + sum(len(one) for one in grid.spacing if isinstance(one, np.ndarray))
        if inline > MOST_INLINE:
            raise ValueError(f"boundary and spacing must have at most {MOST_INLINE} numbers to be sent, got {inline}")
        return grid


def grid_requests(
    grid: PoissonGrid, wire: Wire, shared: tensor_pb2.SharedFile | None, attendance: str
) -> Iterator[pb.CreateGridRequest]:
    """All that is sent to have a grid kept."""
    header = grid_header(grid)
    header.attendance = attendance
    if shared is not None:
        header.shared.CopyFrom(shared)
    yield pb.CreateGridRequest(header=header)
    yield from chunks.messages_of(pb.CreateGridRequest, "cells", grid.given_cells, checksum=wire.checksums)
    for kind, array in term_arrays(grid):
        yield from chunks.messages_of(pb.CreateGridRequest, kind, array, checksum=wire.checksums)


def grid_header(grid: PoissonGrid) -> pb.GridHeader:
    """Return what describes a grid beside its arrays."""
    header = pb.GridHeader(
        cells=tensors.header_of(grid.given_cells),
        spacing=grid.mean_spacing,
        boundary=[
            pb.AxisBoundary(low=_kind(low), high=_kind(high), low_film=_film(low), high_film=_film(high))
            for low, high in grid.boundary
        ],
        coefficient=[tensors.header_of(array) for array in coefficient_arrays(grid)],
    )
    if grid.stretched:
        header.widths.extend(pb.AxisWidths(widths=one if isinstance(one, np.ndarray) else ()) for one in grid.spacing)
    if isinstance(grid.given_reaction, np.ndarray):
        header.reaction_array.CopyFrom(tensors.header_of(grid.given_reaction))
    elif grid.given_reaction is not None:
        header.reaction = grid.given_reaction
    if grid.given_volume is not None:
        header.volume.CopyFrom(tensors.header_of(grid.given_volume))
    return header


def term_arrays(grid: PoissonGrid) -> tuple[tuple[str, NDArray[Any]], ...]:
    """Return a grid's arrays beside its cells, in the order in which they travel, each with its messages' field."""
    found = [("coefficient", one) for one in coefficient_arrays(grid)]
    if isinstance(grid.given_reaction, np.ndarray):
        found.append(("reaction", grid.given_reaction))
    if grid.given_volume is not None:
        found.append(("volume", grid.given_volume))
    return tuple(found)


def needs_extended(grid: PoissonGrid) -> bool:
    """Return whether an older server would ignore something of the grid. It refuses sides that it does not know."""
    return grid.stretched or grid.given_reaction is not None or grid.given_volume is not None


def check_extended(extended: bool, needed: bool) -> None:
    """Raise FailedPrecondition where the server has not read all that a grid or a change consists of."""
    if needed and not extended:
        raise errors.FailedPrecondition(
            "the server is older than this client: it knows no reaction, no volume and no widths of single cells"
        )


def _kind(side: Side) -> Any:
    return pb.BOUNDARY_ROBIN if isinstance(side, Robin) else _SIDES[side]


def _film(side: Side) -> list[float]:
    return np.ravel(side.h).tolist() if isinstance(side, Robin) else []


def coefficient_arrays(grid: PoissonGrid) -> tuple[NDArray[Any], ...]:
    """Return the arrays of a grid's κ, none where it is 1."""
    kappa = grid.given_coefficient
    return () if kappa is None else kappa if isinstance(kappa, tuple) else (kappa,)


def change_requests(grid_id: str, change: Change, wire: Wire) -> Iterator[pb.UpdateGridRequest]:
    """All that is sent to have a grid changed."""
    yield pb.UpdateGridRequest(header=pb.UpdateGridHeader(id=grid_id, change=change.message()))
    yield from change.requests(pb.UpdateGridRequest, wire)


class GridHandle(SystemHandle):
    """What a client knows of a grid that a server keeps."""

    _default_solver = "dcdm"

    def _told(self, kept: pb.Grid, shape: tuple[int, ...]) -> None:
        """Note what the server said of it."""
        self.id: str = kept.id
        self.shape = shape
        self.extended: bool = kept.extended
        """Whether the server knows reactions, volumes and widths of single cells."""
        self.unknowns: int = kept.unknowns
        self.singular_components: int = kept.singular_components
        """Fluid components that neither air nor a Dirichlet side holds; `b` must sum to zero over each."""
        self.setup_seconds: float = kept.setup_seconds
        """What the server spent on checking the grid and finding its components."""
        self.expires: datetime = kept.expire_time.ToDatetime(UTC)
        """When the server would have forgotten the grid had it not been used since it was made."""

    def _changed(self, reply: Any) -> None:
        self._now_has(reply.unknowns)
        self.singular_components = reply.singular_components
        self.setup_seconds = reply.setup_seconds

    def _now_has(self, unknowns: int) -> None:
        self.unknowns = unknowns

    def _grid_step_messages(self, places: Places | None) -> GridStepMessages:
        """The maker of a sequence's messages, with a shared file's places."""
        return GridStepMessages(self.shape, self.unknowns, self._wire, places, self._now_has, self._check_change)

    def _check_change(self, change: Change) -> None:
        check_extended(self.extended, change.needs_extended)

    @property
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        return self.shape, (self.unknowns,)

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
