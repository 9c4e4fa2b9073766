"""Grids as messages, in both directions: their arrays, widths and sides, and the solvers that a server offers.

Everything here is pure: a refusal is a ValueError or a TypeError whose message starts with the argument's name. The
client raises it as `InvalidArgument`, the server reports it as INVALID_ARGUMENT.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import errors
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import tensor_pb2
from relaxon.solvers.grid.arguments import SpacingLike, validate_widths
from relaxon.solvers.grid.poisson_grid import (
    MAX_CELLS,
    Boundary,
    BoundaryLike,
    CellType,
    PoissonGrid,
    Robin,
    validate_boundary,
)
from relaxon.solvers.grid.sides import Side, check_films
from relaxon.wire import chunks, tensors
from relaxon.wire.arrays import Wire
from relaxon.wire.conversions.fields import read_fields, write_fields
from relaxon.wire.tensors import AnnouncedArray

MOST_INLINE = 300_000
"""Numbers that a grid's header may hold: cell widths and the h of Robin sides travel inline, and as float64 this many
stay within gRPC's limit of 4 MiB per message."""
_CODES = {side: pb.Boundary.Value(f"BOUNDARY_{side.name}") for side in Boundary}
_SIDES = {code: side for side, code in _CODES.items()}
Shape = tuple[int, ...]


Arr = TypeVar("Arr", NDArray[Any], AnnouncedArray)


@dataclass(frozen=True, slots=True)
class SolverInfo:
    """A solver that a server knows by name."""

    name: str
    summary: str
    missing: tuple[str, ...]
    """Python modules that the solver needs and the server lacks."""
    extra: str = ""
    """The extra to install on the server for them: `pip install "relaxon[EXTRA]"`; empty if nothing is missing."""

    @property
    def available(self) -> bool:
        return not self.missing


def read_solver_infos(reply: pb.ListSolversReply) -> tuple[SolverInfo, ...]:
    """Return the solvers of a reply, in its order."""
    return tuple(read_fields(SolverInfo, one) for one in reply.solvers)


def write_solver_infos(infos: Iterable[SolverInfo]) -> pb.ListSolversReply:
    """Return the reply that lists these solvers."""
    return pb.ListSolversReply(solvers=[write_fields(pb.SolverInfo, info) for info in infos])


@dataclass(frozen=True, slots=True, eq=False)
class GridArrays(Generic[Arr]):
    """The arrays of a grid, or of a change to one; on the server first as announcements, then as arrays."""

    cells: Arr | None
    coefficient: tuple[Arr, ...] = ()
    """κ: one array of cells, or one array of faces per axis; empty if it is not given."""
    reaction: float | Arr | None = None
    volume: Arr | None = None

    @property
    def parts(self) -> tuple[tuple[str, Arr], ...]:
        """The arrays in the order in which they travel, each with the field of the messages that carry it."""
        parts = [] if self.cells is None else [("cells", self.cells)]
        parts += [("coefficient", array) for array in self.coefficient]
        if self.reaction is not None and not isinstance(self.reaction, float):
            parts.append(("reaction", self.reaction))
        if self.volume is not None:
            parts.append(("volume", self.volume))
        return tuple(parts)

    @property
    def kappa(self) -> Any:
        """κ as `PoissonGrid` takes it."""
        return self.coefficient[0] if len(self.coefficient) == 1 else self.coefficient or None

    def fill(self, arrays: Iterable[NDArray[Any]]) -> GridArrays[NDArray[Any]]:
        """Return the same with the arrays of `parts` that have arrived, in their order."""
        left = iter(arrays)
        cells = None if self.cells is None else next(left)
        coefficient = tuple(next(left) for _ in self.coefficient)
        reaction = self.reaction if self.reaction is None or isinstance(self.reaction, float) else next(left)
        return GridArrays(cells, coefficient, reaction, None if self.volume is None else next(left))


def array_messages(kind: Any, arrays: GridArrays[NDArray[Any]], checksums: bool) -> Iterator[Any]:
    """Yield the messages of class `kind` that carry a grid's arrays."""
    for field, array in arrays.parts:
        yield from chunks.split_into_messages(kind, field, array, checksum=checksums)


def write_arrays(message: pb.GridHeader | pb.GridChange, arrays: GridArrays[NDArray[Any]]) -> None:
    """Announce a grid's arrays in its header, or in the description of a change."""
    if arrays.cells is not None:
        message.cells.CopyFrom(tensors.describe_array(arrays.cells))
    message.coefficient.extend(tensors.describe_array(array) for array in arrays.coefficient)
    if isinstance(arrays.reaction, float):
        message.reaction = arrays.reaction
    elif arrays.reaction is not None:
        message.reaction_array.CopyFrom(tensors.describe_array(arrays.reaction))
    if arrays.volume is not None:
        message.volume.CopyFrom(tensors.describe_array(arrays.volume))


def read_terms(
    message: pb.GridHeader | pb.GridChange, shape: Shape, cells: AnnouncedArray | None
) -> GridArrays[AnnouncedArray]:
    """Return the arrays that a message announces for cells of a shape; ValueError naming an array that cannot be."""
    headers = message.coefficient
    faces = len(headers) > 1
    coefficient = tuple(
        AnnouncedArray.of(f"coefficient[{axis}]" if faces else "coefficient", header)
        for axis, header in enumerate(headers)
    )
    check_coefficient(coefficient, shape, faces)
    reaction: float | AnnouncedArray | None = message.reaction if message.HasField("reaction") else None
    if message.HasField("reaction_array"):
        if reaction is not None:
            raise ValueError("reaction must be one number or an array, got both")
        reaction = read_cell_array("reaction", message.reaction_array, shape)
    volume = read_cell_array("volume", message.volume, shape) if message.HasField("volume") else None
    return GridArrays(cells, coefficient, reaction, volume)


def read_cell_array(
    name: str, header: tensor_pb2.TensorHeader, shape: Shape, dtypes: tuple[str, ...] = tensors.FLOATS
) -> AnnouncedArray:
    """Return the announcement of an array with one entry per cell; ValueError if its shape is not the grid's."""
    array = AnnouncedArray.of(name, header, dtypes)
    check_cell_array(name, array, shape)
    return array


def check_cell_array(name: str, array: NDArray[Any] | AnnouncedArray, shape: Shape) -> None:
    """Raise ValueError if an array does not have the grid's shape."""
    if array.shape != shape:
        raise ValueError(f"{name} must have the grid's shape {shape}, got {array.shape}")


def check_coefficient(arrays: Sequence[NDArray[Any] | AnnouncedArray], shape: Shape, faces: bool) -> None:
    """Raise ValueError unless κ is one array of the grid's shape or, with `faces`, one array of faces per axis."""
    if faces and len(arrays) != len(shape):
        raise ValueError(
            f"coefficient must be an array of the grid's shape or {len(shape)} arrays of face values, "
            f"got {len(arrays)} arrays"
        )
    for axis, array in enumerate(arrays):
        expected = tuple(n + (faces and a == axis) for a, n in enumerate(shape))
        if array.shape != expected:
            name = f"coefficient[{axis}]" if faces else "coefficient"
            raise ValueError(f"{name} must have shape {expected}, got {array.shape}")


def build_grid(
    cells: ArrayLike,
    spacing: SpacingLike,
    boundary: BoundaryLike,
    coefficient: ArrayLike | Sequence[ArrayLike] | None,
    reaction: float | ArrayLike | None,
    volume: ArrayLike | None,
) -> PoissonGrid:
    """Return the grid to be sent; InvalidArgument if it is refused, or too large to be sent."""
    with errors.refusals():
        grid = PoissonGrid(cells, spacing, boundary, coefficient, reaction, volume=volume)
        films = [np.size(side.h) for pair in grid.boundary for side in pair if isinstance(side, Robin)]
        inline = sum(films) + sum(len(widths) for widths in grid.spacing if isinstance(widths, np.ndarray))
        if inline > MOST_INLINE:
            raise ValueError(f"boundary and spacing must have at most {MOST_INLINE} numbers to be sent, got {inline}")
        return grid


def arrays_of(grid: PoissonGrid) -> GridArrays[NDArray[Any]]:
    """Return a grid's arrays as the caller gave them."""
    kappa = grid.given_coefficient
    coefficient = () if kappa is None else kappa if isinstance(kappa, tuple) else (kappa,)
    return GridArrays(grid.given_cells, coefficient, grid.given_reaction, grid.given_volume)


def grid_requests(
    grid: PoissonGrid, wire: Wire, shared: tensor_pb2.SharedFile | None, attendance: str
) -> Iterator[pb.CreateGridRequest]:
    """Yield the messages that have a server keep a grid."""
    header = grid_header(grid)
    header.attendance = attendance
    if shared is not None:
        header.shared.CopyFrom(shared)
    yield pb.CreateGridRequest(header=header)
    yield from array_messages(pb.CreateGridRequest, arrays_of(grid), wire.checksums)


def grid_header(grid: PoissonGrid) -> pb.GridHeader:
    """Return the header that describes a grid and announces its arrays."""
    header = pb.GridHeader(
        spacing=grid.mean_spacing,
        boundary=[
            pb.AxisBoundary(low=_code(low), high=_code(high), low_film=_film(low), high_film=_film(high))
            for low, high in grid.boundary
        ],
    )
    write_arrays(header, arrays_of(grid))
    if grid.stretched:
        header.widths.extend(
            pb.AxisWidths(widths=widths if isinstance(widths, np.ndarray) else ()) for widths in grid.spacing
        )
    return header


def needs_extended(grid: PoissonGrid) -> bool:
    """Return whether an older server would silently ignore part of the grid. It refuses sides that it does not know."""
    return grid.stretched or grid.given_reaction is not None or grid.given_volume is not None


def check_extended(extended: bool, needed: bool) -> None:
    """Raise FailedPrecondition if the server has not read everything that a grid or a change consists of."""
    if needed and not extended:
        raise errors.FailedPrecondition(
            "the server is older than this client: it does not know reaction, volume or the widths of single cells"
        )


@dataclass(frozen=True, slots=True)
class GridPlan:
    """A grid as its header describes it, before its arrays arrive."""

    arrays: GridArrays[AnnouncedArray]
    spacing: Any
    boundary: Any

    @property
    def cells(self) -> AnnouncedArray:
        """The announced cells, which every header has."""
        assert self.arrays.cells is not None
        return self.arrays.cells

    @property
    def parts(self) -> tuple[tuple[str, AnnouncedArray], ...]:
        """The arrays to come, in their order, each with the field of the messages that carry it."""
        return self.arrays.parts

    def build(self, arrays: Iterable[NDArray[Any]]) -> PoissonGrid:
        """Return the grid with the arrays of `parts`; ValueError or TypeError as `PoissonGrid` raises."""
        given = self.arrays.fill(arrays)
        return PoissonGrid(
            given.cells,  # type: ignore[arg-type]  # a header always announces cells
            self.spacing,
            self.boundary,
            given.kappa,
            given.reaction,
            volume=given.volume,
        )


def read_grid_header(header: pb.GridHeader) -> GridPlan:
    """Return what a header describes; ValueError or TypeError naming the argument if no grid can be made of it."""
    cells = AnnouncedArray.of("cells", header.cells, ("uint8",))
    shape = cells.shape
    if len(shape) not in (2, 3):
        raise ValueError(f"cells must have 2 or 3 axes, got shape {shape}")
    if cells.size > MAX_CELLS:
        raise ValueError(f"cells must number at most {MAX_CELLS}, got {cells.size}")
    spacing, boundary = _read_spacing(header, shape), _read_boundary(header, shape)
    widths = [float(np.mean(axis)) for axis in validate_widths(spacing, shape)]
    check_films(validate_boundary(boundary, len(shape)), shape)
    # A grid of one cell refuses what does not go together, before any array is uploaded.
    sides = [tuple("neumann" if isinstance(side, Robin) else side for side in pair) for pair in boundary]
    number = header.reaction if header.HasField("reaction") else None
    PoissonGrid(np.full((1,) * len(shape), CellType.FLUID, np.uint8), widths, sides, None, number)
    return GridPlan(read_terms(header, shape, cells), spacing, boundary)


def _read_spacing(header: pb.GridHeader, shape: Shape) -> Any:
    values: Any = list(header.spacing)
    spacing = values if len(values) > 1 else values[0] if values else 1.0
    if not header.widths:
        return spacing
    if len(header.widths) != len(shape):
        raise ValueError(f"spacing must have widths for each of the {len(shape)} axes, got {len(header.widths)}")
    single = values if len(values) > 1 else [spacing] * len(shape)
    if len(single) != len(shape):
        raise ValueError(f"spacing must be one number or {len(shape)} entries (one an axis), got {len(single)}")
    return [np.array(axis.widths) if axis.widths else one for axis, one in zip(header.widths, single, strict=True)]


def _read_boundary(header: pb.GridHeader, shape: Shape) -> list[tuple[Any, Any]]:
    axes = []
    for axis, sides in enumerate(header.boundary):
        across = shape[:axis] + shape[axis + 1 :]
        pair = (
            _read_side(axis, sides.low, sides.low_film, across),
            _read_side(axis, sides.high, sides.high_film, across),
        )
        if None in pair:
            kinds = "Neumann, Dirichlet or periodic, a Dirichlet node or Robin,"
            raise ValueError(f"boundary[{axis}] must be {kinds} on both sides, got {sides.low} and {sides.high}")
        axes.append(pair)
    if not axes:
        return [(Boundary.NEUMANN, Boundary.NEUMANN)] * len(shape)
    return axes * len(shape) if len(axes) == 1 else axes


def _code(side: Side) -> pb.Boundary.ValueType:
    return pb.BOUNDARY_ROBIN if isinstance(side, Robin) else _CODES[side]


def _film(side: Side) -> list[float]:
    """Return the h of a Robin side, flattened; empty for any other side."""
    return np.ravel(side.h).tolist() if isinstance(side, Robin) else []


def _read_side(axis: int, code: pb.Boundary.ValueType, film: Sequence[float], shape: Shape) -> Side | None:
    """Return a side of the shape `shape`; None if its kind is not known."""
    if code != pb.BOUNDARY_ROBIN:
        return _SIDES.get(code)
    if len(film) != 1 and len(film) != math.prod(shape):
        raise ValueError(
            f"boundary[{axis}] must have one h or those of the side's {math.prod(shape)} cells, got {len(film)}"
        )
    try:
        return Robin(film[0] if len(film) == 1 else np.array(film).reshape(shape))
    except (ValueError, TypeError) as error:
        raise ValueError(f"boundary[{axis}].{error}") from error
