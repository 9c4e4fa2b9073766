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
from relaxon.server import errors
from relaxon.server.announced import AnnouncedArray
from relaxon.solvers.grid import MAX_CELLS, CellType, PoissonGrid

SIDES = {pb.BOUNDARY_NEUMANN: "neumann", pb.BOUNDARY_DIRICHLET: "dirichlet", pb.BOUNDARY_PERIODIC: "periodic"}


@dataclass(frozen=True, slots=True)
class GridPlan:
    """A grid as its header describes it."""

    cells: AnnouncedArray
    coefficient: tuple[AnnouncedArray, ...]
    spacing: float | list[float]
    boundary: str | list[tuple[str, str]]

    def build(self, cells: NDArray[Any], coefficient: Sequence[NDArray[Any]]) -> PoissonGrid:
        """The grid, its components found; INVALID_ARGUMENT for what `PoissonGrid` refuses."""
        return built(cells, self.spacing, self.boundary, kappa_of(coefficient))


def built(cells: NDArray[Any], spacing: Any, boundary: Any, kappa: Any) -> PoissonGrid:
    """A grid, its components found; INVALID_ARGUMENT for what `PoissonGrid` refuses."""
    try:
        grid = PoissonGrid(cells, spacing, boundary, kappa)
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
    spacing, boundary = _spacing(header), _boundary(header)
    try:  # a grid of one cell, for its opinion on the arguments that are not arrays
        PoissonGrid(np.full((1,) * len(shape), CellType.FLUID, np.uint8), spacing, boundary)
    except (ValueError, TypeError) as error:
        raise errors.refused(error) from error
    return GridPlan(cells, coefficient(header.coefficient, shape), spacing, boundary)


def _spacing(header: pb.GridHeader) -> float | list[float]:
    values = list(header.spacing)
    return values if len(values) > 1 else values[0] if values else 1.0


def _boundary(header: pb.GridHeader) -> str | list[tuple[str, str]]:
    axes = []
    for axis, sides in enumerate(header.boundary):
        pair = (SIDES.get(sides.low), SIDES.get(sides.high))
        if None in pair:
            message = f"boundary[{axis}] must be Neumann, Dirichlet or periodic on both sides, got {sides.low}"
            raise errors.invalid(f"boundary[{axis}]", f"{message} and {sides.high}")
        axes.append((pair[0] or "", pair[1] or ""))
    if not axes:
        return "neumann"
    return axes * len(header.cells.shape) if len(axes) == 1 else axes


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
