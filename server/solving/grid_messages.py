"""`GridHeader` as the arguments of a `PoissonGrid`, checked before the arrays are uploaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import tensor_pb2
from relaxon.server.gate import errors
from relaxon.server.gate.announced import AnnouncedArray
from relaxon.solvers.grid.arguments import validate_widths
from relaxon.solvers.grid.poisson_grid import MAX_CELLS, CellType, PoissonGrid, Robin, validate_boundary
from relaxon.solvers.grid.sides import check_films

SIDES = {
    pb.BOUNDARY_NEUMANN: "neumann",
    pb.BOUNDARY_DIRICHLET: "dirichlet",
    pb.BOUNDARY_DIRICHLET_NODE: "dirichlet-node",
    pb.BOUNDARY_PERIODIC: "periodic",
}


@dataclass(frozen=True, slots=True)
class GridPlan:
    """A grid as its header describes it."""

    cells: AnnouncedArray
    coefficient: tuple[AnnouncedArray, ...]
    spacing: Any
    boundary: Any
    reaction: float | AnnouncedArray | None
    volume: AnnouncedArray | None

    @property
    def arrays(self) -> tuple[tuple[str, AnnouncedArray], ...]:
        """Those that follow the header, in their order, each with the messages' field that holds its parts."""
        return ("cells", self.cells), *more_arrays(self.coefficient, self.reaction, self.volume)

    def build(self, arrays: Sequence[NDArray[Any]]) -> PoissonGrid:
        """The grid of these arrays, its components found; INVALID_ARGUMENT for what `PoissonGrid` refuses."""
        left = list(arrays)
        cells, coefficient = left.pop(0), [left.pop(0) for _ in self.coefficient]
        reaction = left.pop(0) if isinstance(self.reaction, AnnouncedArray) else self.reaction
        volume = left.pop(0) if self.volume is not None else None
        return built(cells, self.spacing, self.boundary, kappa_of(coefficient), reaction, volume)


def more_arrays(
    coefficient: Sequence[AnnouncedArray], reaction: float | AnnouncedArray | None, volume: AnnouncedArray | None
) -> tuple[tuple[str, AnnouncedArray], ...]:
    """The announced arrays beside `cells`, in the order in which they come, each with its messages' field."""
    found = [("coefficient", one) for one in coefficient]
    if isinstance(reaction, AnnouncedArray):
        found.append(("reaction", reaction))
    if volume is not None:
        found.append(("volume", volume))
    return tuple(found)


def built(
    cells: NDArray[Any], spacing: Any, boundary: Any, kappa: Any, reaction: Any = None, volume: Any = None
) -> PoissonGrid:
    """A grid, its components found; INVALID_ARGUMENT for what `PoissonGrid` refuses."""
    try:
        grid = PoissonGrid(cells, spacing, boundary, kappa, reaction, volume=volume)
    except (ValueError, TypeError) as error:
        raise errors.refused(error) from error
    grid.nullspace  # noqa: B018  computed here, off the event loop, and kept by the grid
    return grid


def kappa_of(coefficient: Sequence[NDArray[Any]]) -> Any:
    """The arrays that came as `PoissonGrid` takes them."""
    return None if not coefficient else coefficient[0] if len(coefficient) == 1 else tuple(coefficient)


def plan(header: pb.GridHeader) -> GridPlan:
    """What a header asks for; INVALID_ARGUMENT naming the argument where no grid can be made of it."""
    cells = AnnouncedArray.of("cells", header.cells, ("uint8",))
    shape = cells.shape
    if len(shape) not in (2, 3):
        raise errors.invalid("cells", f"cells must have 2 or 3 axes, got shape {shape}")
    if math.prod(shape) > MAX_CELLS:
        raise errors.invalid("cells", f"cells must number at most {MAX_CELLS}, got {math.prod(shape)}")
    try:  # of each argument that is no array, and a grid of one cell for its opinion on those together
        spacing, boundary = _spacing(header, shape), _boundary(header, shape)
        likeness = [float(np.mean(one)) for one in validate_widths(spacing, shape)]
        check_films(validate_boundary(boundary, len(shape)), shape)
        sides = [tuple("neumann" if isinstance(side, Robin) else side for side in pair) for pair in boundary]
        number = header.reaction if header.HasField("reaction") else None
        PoissonGrid(np.full((1,) * len(shape), CellType.FLUID, np.uint8), likeness, sides, None, number)
    except (ValueError, TypeError) as error:
        raise errors.refused(error) from error
    kappa = coefficient(header.coefficient, shape)
    return GridPlan(cells, kappa, spacing, boundary, reaction(header, shape), volume(header, shape))


def reaction(header: pb.GridHeader | pb.GridChange, shape: tuple[int, ...]) -> float | AnnouncedArray | None:
    """σ as announced; INVALID_ARGUMENT where it cannot be."""
    if not header.HasField("reaction_array"):
        return header.reaction if header.HasField("reaction") else None
    if header.HasField("reaction"):
        raise errors.invalid("reaction", "reaction must be one number or an array, got both")
    return _of_cells("reaction", header.reaction_array, shape)


def volume(header: pb.GridHeader | pb.GridChange, shape: tuple[int, ...]) -> AnnouncedArray | None:
    """The volumes as announced; INVALID_ARGUMENT where they cannot be."""
    return _of_cells("volume", header.volume, shape) if header.HasField("volume") else None


def _of_cells(name: str, header: tensor_pb2.TensorHeader, shape: tuple[int, ...]) -> AnnouncedArray:
    array = AnnouncedArray.of(name, header)
    if array.shape != shape:
        raise errors.invalid(name, f"{name} must have the grid's shape {shape}, got {array.shape}")
    return array


def _spacing(header: pb.GridHeader, shape: tuple[int, ...]) -> Any:
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


def _boundary(header: pb.GridHeader, shape: tuple[int, ...]) -> list[tuple[Any, Any]]:
    axes = []
    for axis, sides in enumerate(header.boundary):
        across = shape[:axis] + shape[axis + 1 :]
        pair = _side(axis, sides.low, sides.low_film, across), _side(axis, sides.high, sides.high_film, across)
        if None in pair:
            kinds = "Neumann, Dirichlet or periodic, a Dirichlet node or Robin,"
            message = f"boundary[{axis}] must be {kinds} on both sides, got {sides.low}"
            raise errors.invalid(f"boundary[{axis}]", f"{message} and {sides.high}")
        axes.append(pair)
    if not axes:
        return [("neumann", "neumann")] * len(shape)
    return axes * len(shape) if len(axes) == 1 else axes


def _side(axis: int, kind: int, film: Sequence[float], shape: tuple[int, ...]) -> Any:
    """A side as a grid takes it; None for a kind that is not known."""
    if kind != pb.BOUNDARY_ROBIN:
        return SIDES.get(kind)  # type: ignore[call-overload]
    if len(film) != 1 and len(film) != math.prod(shape):
        raise ValueError(
            f"boundary[{axis}] must have one h or those of the side's {math.prod(shape)} cells, got {len(film)}"
        )
    try:
        return Robin(film[0] if len(film) == 1 else np.array(film).reshape(shape))
    except (ValueError, TypeError) as error:
        raise ValueError(f"boundary[{axis}].{error}") from error


def coefficient(headers: Sequence[tensor_pb2.TensorHeader], shape: tuple[int, ...]) -> tuple[AnnouncedArray, ...]:
    """κ as announced for cells of that shape; INVALID_ARGUMENT naming the array that cannot be."""
    count = len(headers)
    if count not in (0, 1, len(shape)):
        raise errors.invalid(
            "coefficient",
            f"coefficient must be an array of the grid's shape or {len(shape)} arrays of face values, "
            f"got {count} arrays",
        )
    found = []
    for axis, one in enumerate(headers):
        name = "coefficient" if count == 1 else f"coefficient[{axis}]"
        expected = shape if count == 1 else tuple(n + (a == axis) for a, n in enumerate(shape))
        array = AnnouncedArray.of(name, one)
        if array.shape != expected:
            raise errors.invalid(name, f"{name} must have shape {expected}, got {array.shape}")
        found.append(array)
    return tuple(found)
