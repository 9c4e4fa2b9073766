"""`GridChange` as the arrays that it announces, and the grid that they make of another one; steps on grids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.proto import poisson_pb2 as pb
from relaxon.server.gate import errors
from relaxon.server.gate.announced import AnnouncedArray
from relaxon.server.gate.uploads import Upload
from relaxon.server.solving import grid_messages, solve_messages
from relaxon.server.solving.footprint import grid_bytes
from relaxon.server.solving.grids import KeptGrid
from relaxon.server.solving.solve_messages import Shapes
from relaxon.server.solving.steps import Stepping
from relaxon.solvers.grid.poisson_grid import PoissonGrid


@dataclass(frozen=True, slots=True)
class GridChangePlan:
    """A change as it is announced."""

    cells: AnnouncedArray | None
    coefficient: tuple[AnnouncedArray, ...]
    unit_coefficient: bool
    reaction: float | AnnouncedArray | None = None
    zero_reaction: bool = False
    volume: AnnouncedArray | None = None
    whole_cells: bool = False

    @property
    def bytes(self) -> int:
        """What it takes while it is uploaded and made."""
        more = [one for _, one in grid_messages.more_arrays(self.coefficient, self.reaction, self.volume)]
        arrays = [*more, *([] if self.cells is None else [self.cells])]
        uploaded = sum(math.prod(one.shape) * one.dtype.itemsize for one in arrays)
        entries = sum(math.prod(one.shape) for one in more)
        return uploaded + grid_bytes(0 if self.cells is None else math.prod(self.cells.shape), entries)

    async def read(self, upload: Upload) -> GridChange:
        """The arrays, from the messages that follow."""
        cells = None if self.cells is None else await upload.array("cells", self.cells)
        coefficient = [await upload.array("coefficient", one) for one in self.coefficient]
        reaction: Any = self.reaction
        if isinstance(reaction, AnnouncedArray):
            reaction = await upload.array("reaction", reaction)
        volume = None if self.volume is None else await upload.array("volume", self.volume)
        return GridChange(
            cells, coefficient, self.unit_coefficient, reaction, self.zero_reaction, volume, self.whole_cells
        )


@dataclass(frozen=True, slots=True)
class GridChange:
    """A change with its arrays."""

    cells: NDArray[Any] | None
    coefficient: Sequence[NDArray[Any]]
    unit_coefficient: bool
    reaction: float | NDArray[Any] | None = None
    zero_reaction: bool = False
    volume: NDArray[Any] | None = None
    whole_cells: bool = False

    def made(self, grid: PoissonGrid) -> PoissonGrid:
        """The changed grid, its components found; INVALID_ARGUMENT for what `PoissonGrid` refuses."""
        kappa = None if self.unit_coefficient else grid.given_coefficient
        if self.coefficient:
            kappa = grid_messages.kappa_of(self.coefficient)
        reaction = grid.given_reaction if self.reaction is None else self.reaction
        if self.zero_reaction:
            reaction = None
        volume = grid.given_volume if self.volume is None else self.volume
        if self.whole_cells:
            volume = None
        cells = grid.given_cells if self.cells is None else self.cells
        return grid_messages.built(cells, grid.spacing, grid.boundary, kappa, reaction, volume)


def plan(change: pb.GridChange, shape: tuple[int, ...]) -> GridChangePlan:
    """What a change announces for a grid of that shape; INVALID_ARGUMENT naming the argument that cannot be."""
    cells = None
    if change.HasField("cells"):
        cells = AnnouncedArray.of("cells", change.cells, ("uint8",))
        if cells.shape != shape:
            raise errors.invalid("cells", f"cells must have the grid's shape {shape}, got {cells.shape}")
    if change.unit_coefficient and change.coefficient:
        raise errors.invalid("coefficient", "coefficient must not be given with unit_coefficient")
    coefficient = grid_messages.coefficient(change.coefficient, shape)
    reaction, volume = grid_messages.reaction(change, shape), grid_messages.volume(change, shape)
    if change.zero_reaction and reaction is not None:
        raise errors.invalid("reaction", "reaction must not be given with zero_reaction")
    if change.whole_cells and volume is not None:
        raise errors.invalid("volume", "volume must not be given with whole_cells")
    nothing = cells is None and not coefficient and reaction is None and volume is None
    if nothing and not (change.unit_coefficient or change.zero_reaction or change.whole_cells):
        raise errors.invalid("cells", "cells, coefficient, reaction or volume must be given, got neither")
    return GridChangePlan(
        cells, coefficient, change.unit_coefficient, reaction, change.zero_reaction, volume, change.whole_cells
    )


class GridStepping(Stepping):
    """Steps on a kept grid."""

    session = KeptGrid

    def shapes(self, kept: KeptGrid) -> Shapes:
        return kept.grid.shape, (kept.grid.unknowns,)

    def plan(self, change: pb.GridChange, kept: KeptGrid) -> GridChangePlan:
        return plan(change, kept.grid.shape)

    def apply(self, change: GridChange, kept: KeptGrid) -> None:
        kept.change(change.made(kept.grid))

    def side(self, header: pb.StepHeader, kept: KeptGrid, changed: bool) -> AnnouncedArray:
        length = header.b.shape[0] if len(header.b.shape) == 1 else 0
        if changed and 1 <= length <= kept.grid.cells.size:
            return solve_messages.side("b", header.b, ((length,),))
        return super().side(header, kept, changed)

    def carried(self, start: NDArray[Any] | None, content: PoissonGrid) -> NDArray[Any] | None:
        """Of the grid's shape, whatever its unknowns become."""
        if start is None or start.shape == content.shape:
            return start
        return np.asarray(content.unpack(start))
