"""Changes to a kept grid as messages, in both directions: other cells, κ, σ or volumes. Pure, as `grid.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import validation
from relaxon.core.masked import plain_array
from relaxon.proto import poisson_pb2 as pb
from relaxon.solvers.grid.poisson_grid import CellType, PoissonGrid
from relaxon.wire.arrays import Wire
from relaxon.wire.conversions.grid import (
    Arr,
    GridArrays,
    Shape,
    array_messages,
    check_cell_array,
    check_coefficient,
    read_cell_array,
    read_terms,
    write_arrays,
)
from relaxon.wire.tensors import AnnouncedArray

Unchanged = Literal["unchanged"]
Kappa = ArrayLike | Sequence[ArrayLike] | None
Reaction = float | ArrayLike | None


@dataclass(frozen=True, slots=True, eq=False)
class GridChange(Generic[Arr]):
    """What a kept grid is from now on; what is not given stays. On the server first as announcements."""

    arrays: GridArrays[Arr]
    unit_coefficient: bool = False
    """κ = 1 everywhere from now on."""
    zero_reaction: bool = False
    """No reaction term from now on."""
    whole_cells: bool = False
    """No volumes from now on: all cells are whole."""

    @property
    def parts(self) -> tuple[tuple[str, Arr], ...]:
        """The arrays in the order in which they travel, each with the field of the messages that carry it."""
        return self.arrays.parts

    @property
    def needs_extended(self) -> bool:
        """Whether an older server would silently ignore part of the change."""
        given = self.arrays.reaction is not None or self.arrays.volume is not None
        return given or self.zero_reaction or self.whole_cells

    @property
    def unknowns(self) -> int | None:
        """The number of unknowns of the changed grid; None if the cells stay."""
        cells: Any = self.arrays.cells
        return None if cells is None else int(np.count_nonzero(cells == CellType.FLUID))

    def message(self) -> pb.GridChange:
        """Return the message that announces the change in a header."""
        message = pb.GridChange(
            unit_coefficient=self.unit_coefficient, zero_reaction=self.zero_reaction, whole_cells=self.whole_cells
        )
        write_arrays(message, self.arrays)  # type: ignore[arg-type]  # the arrays, on the client's side
        return message

    def requests(self, kind: Any, wire: Wire) -> Iterator[Any]:
        """Yield the messages of class `kind` that carry the change's arrays."""
        return array_messages(kind, self.arrays, wire.checksums)  # type: ignore[arg-type]

    def fill(self, arrays: Iterable[NDArray[Any]]) -> GridChange[NDArray[Any]]:
        """Return the same change with the arrays that have arrived, in the order of `parts`."""
        filled = self.arrays.fill(arrays)
        return GridChange(filled, self.unit_coefficient, self.zero_reaction, self.whole_cells)

    def apply(self, grid: PoissonGrid) -> PoissonGrid:
        """Return the changed grid; ValueError or TypeError as `PoissonGrid` raises."""
        given: GridArrays[Any] = self.arrays
        kappa = None if self.unit_coefficient else grid.given_coefficient
        reaction = grid.given_reaction if given.reaction is None else given.reaction
        volume = grid.given_volume if given.volume is None else given.volume
        return PoissonGrid(
            grid.given_cells if given.cells is None else given.cells,
            grid.spacing,
            grid.boundary,
            given.kappa if given.coefficient else kappa,
            None if self.zero_reaction else reaction,
            volume=None if self.whole_cells else volume,
        )


def change_of(
    cells: ArrayLike | None,
    coefficient: Kappa | Unchanged,
    shape: Shape,
    reaction: Reaction | Unchanged = "unchanged",
    volume: ArrayLike | Unchanged | None = "unchanged",
) -> GridChange[NDArray[Any]] | None:
    """Return the change that a caller's arguments describe, ready to be sent; None if nothing changes.

    Shapes and types are checked here, values by the server. TypeError or ValueError naming the argument.
    """
    unchanged = isinstance(coefficient, str)
    if unchanged and coefficient != "unchanged":
        raise ValueError(f"coefficient must be an array, a sequence of them, None or 'unchanged', got {coefficient!r}")
    kappa = () if coefficient is None or unchanged else _kappa(coefficient, shape)
    sigma, parts = _term("reaction", reaction, shape), _term("volume", volume, shape)
    zero = reaction is None or (isinstance(sigma, float) and sigma == 0.0)
    whole = volume is None
    if cells is None and unchanged and sigma is None and parts is None and not (zero or whole):
        return None
    arrays = GridArrays(
        None if cells is None else _cells(cells, shape),
        kappa,
        None if zero else sigma,
        None if parts is None else np.asarray(parts),
    )
    return GridChange(arrays, coefficient is None, zero, whole)


def read_change(change: pb.GridChange, shape: Shape) -> GridChange[AnnouncedArray]:
    """Return what a message announces for a grid of a shape; ValueError naming the argument that cannot be."""
    cells = read_cell_array("cells", change.cells, shape, ("uint8",)) if change.HasField("cells") else None
    if change.unit_coefficient and change.coefficient:
        raise ValueError("coefficient must not be given with unit_coefficient")
    arrays = read_terms(change, shape, cells)
    if change.zero_reaction and arrays.reaction is not None:
        raise ValueError("reaction must not be given with zero_reaction")
    if change.whole_cells and arrays.volume is not None:
        raise ValueError("volume must not be given with whole_cells")
    if not (
        arrays.parts
        or arrays.reaction is not None
        or change.unit_coefficient
        or change.zero_reaction
        or change.whole_cells
    ):
        raise ValueError("cells must be given, or coefficient, reaction or volume, got none of them")
    return GridChange(arrays, change.unit_coefficient, change.zero_reaction, change.whole_cells)


def change_requests(grid_id: str, change: GridChange[NDArray[Any]], wire: Wire) -> Iterator[pb.UpdateGridRequest]:
    """Yield the messages that have a server change a grid."""
    yield pb.UpdateGridRequest(header=pb.UpdateGridHeader(id=grid_id, change=change.message()))
    yield from change.requests(pb.UpdateGridRequest, wire)


def _cells(value: ArrayLike, shape: Shape) -> NDArray[np.uint8]:
    array = plain_array("cells", value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"cells must be integers (CellType values), got dtype {array.dtype}")
    check_cell_array("cells", array, shape)
    if array.dtype != np.uint8 and (int(array.min()) < CellType.FLUID or int(array.max()) > CellType.AIR):
        raise ValueError(f"cells must be FLUID (0), SOLID (1) or AIR (2), got {int(array.min())} to {int(array.max())}")
    return array.astype(np.uint8, copy=False)


def _term(name: str, value: Any, shape: Shape) -> float | NDArray[Any] | None:
    """Return the new σ or the new volumes; None if they stay or are removed."""
    if value is None or (isinstance(value, str) and value == "unchanged"):
        return None
    if name == "reaction" and np.ndim(value) == 0:
        return validation.non_negative_float(name, value)
    array = validation.real_array(name, value, finite=False)
    check_cell_array(name, array, shape)
    return array


def _kappa(coefficient: Any, shape: Shape) -> tuple[NDArray[Any], ...]:
    faces = isinstance(coefficient, tuple | list)
    arrays = tuple(
        validation.real_array(f"coefficient[{axis}]" if faces else "coefficient", values, finite=False)
        for axis, values in enumerate(coefficient if faces else (coefficient,))
    )
    check_coefficient(arrays, shape, faces)
    return arrays
