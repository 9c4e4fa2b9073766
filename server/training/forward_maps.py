"""Forward maps of inverse problems, checked from their headers before their arrays are uploaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.neuromorphic.proximal import (
    BlurOperator,
    ForwardOperator,
    IdentityOperator,
    MaskOperator,
    PoissonMap,
    RadonOperator,
)
from relaxon.proto import proximal_pb2 as pb
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors
from relaxon.server.solving import footprint
from relaxon.server.solving.grids import find_grid_solver
from relaxon.server.training.limits import FLOAT_BYTES, MAX_COLUMNS, check_bytes, check_most
from relaxon.server.training.proximal_limits import MAX_KERNEL
from relaxon.wire.conversions.grid import read_grid_header
from relaxon.wire.tensors import AnnouncedArray

Shape = tuple[int, ...]
KINDS = "identity, mask, blur, radon or poisson"
MAX_MAPS = 8
MAX_ANGLES = 4096
WIDEST_BLUR = (MAX_KERNEL - 1) // 8
"""In pixels: the kernel of a Gaussian extends over 4 standard deviations on each side."""
MAX_PRODUCTS = 2**33
"""The multiplications of one blur, which cannot be interrupted: some ten seconds of one processor."""
RADON_FLOATS = 24
"""The floats for each angle and pixel in a Radon transform's matrix, its transpose, and the arrays that both are built
from: some three entries of each."""
FIELD_SOLVER, FIELD_RTOL = "scipy-direct", 1e-12


@dataclass(frozen=True, slots=True)
class ReadMap:
    """A forward map whose arrays have arrived."""

    output_shape: Shape
    make: Callable[[], ForwardOperator]
    """Builds the operator, which may take long."""


@dataclass(frozen=True, slots=True)
class MapPlan:
    """A forward map as its header describes it."""

    arrays: tuple[AnnouncedArray, ...]
    """The arrays that follow, in order of arrival."""
    read: Callable[[list[NDArray[Any]]], ReadMap]
    """Checks these arrays; call it within `named`, which names the map in refusals."""


def fields_of(given: Sequence[pb.ForwardMap]) -> list[str]:
    """Return the name of each map in refusals; INVALID_ARGUMENT where there is no map, or one without a kind."""
    if not given:
        raise errors.invalid("operator", f"operator must be {KINDS}, got none")
    check_most("operator", len(given), MAX_MAPS, "operator's maps")
    fields = ["operator"] if len(given) == 1 else [f"operator[{place}]" for place in range(len(given))]
    for field, one in zip(fields, given, strict=True):
        if one.WhichOneof("map") is None:
            raise errors.invalid(field, f"{field} must be {KINDS}, got none of them")
    return fields


def own_shape(given: Sequence[pb.ForwardMap]) -> Shape:
    """Return the shape of signals that the array of the first map gives; empty where it gives none."""
    first = given[0] if given else pb.ForwardMap()
    if first.HasField("mask"):
        return tuple(first.mask.observed.shape)
    return tuple(first.poisson.grid.cells.shape)


def plan(field: str, described: pb.ForwardMap, shape: Shape, settings: ServerSettings) -> MapPlan:
    """Return a map for signals of `shape`; INVALID_ARGUMENT naming its field, RESOURCE_EXHAUSTED if it is too large."""
    kind = described.WhichOneof("map") or ""
    with name_refusals(field):
        return PLANS[kind](field, getattr(described, kind), shape, settings)


@contextmanager
def name_refusals(field: str) -> Iterator[None]:
    """Raise the refusals of the block as refusals of a field of the map `field`."""
    try:
        yield
    except errors.ServiceError as error:
        if error.code is not grpc.StatusCode.INVALID_ARGUMENT:
            raise
        raise _prefix_refusal(field, error) from error
    except (ValueError, TypeError) as error:
        raise _prefix_refusal(field, errors.build_refusal(error)) from error


def _identity(_: str, __: pb.IdentityMap, shape: Shape, ___: ServerSettings) -> MapPlan:
    return MapPlan((), lambda arrays: ReadMap(shape, partial(IdentityOperator, shape)))


def _mask(_: str, given: pb.MaskMap, shape: Shape, __: ServerSettings) -> MapPlan:
    announced = AnnouncedArray.of("observed", given.observed, ("uint8",))
    _check_shape(announced, shape)

    def read(arrays: list[NDArray[Any]]) -> ReadMap:
        if arrays[0].max() > 1:
            raise ValueError(f"observed must be 0 or 1, got {arrays[0].max()}")
        operator = MaskOperator(arrays[0].astype(bool))
        return ReadMap(operator.output_shape, lambda: operator)

    return MapPlan((announced,), read)


def _blur(field: str, given: pb.BlurMap, shape: Shape, _: ServerSettings) -> MapPlan:
    boundary: Any = given.boundary or "zero"
    form = given.WhichOneof("form")
    if form is None:
        raise ValueError("kernel must be given, or a width")
    if form == "width":
        if math.isfinite(given.width):  # the engine refuses other widths
            check_most(f"{field}.width", math.ceil(given.width), WIDEST_BLUR)
        gaussian = BlurOperator.gaussian(shape, given.width, boundary=boundary)
        _check_products(f"{field}.width", shape, gaussian.kernel.shape)
        return MapPlan((), lambda arrays: ReadMap(shape, lambda: gaussian))
    announced = AnnouncedArray.of("kernel", given.kernel)
    check_most(f"{field}.kernel", max(announced.shape), MAX_KERNEL, f"{field}.kernel's sides")
    _check_products(f"{field}.kernel", shape, announced.shape)
    BlurOperator(shape, np.ones(announced.shape), boundary=boundary)  # refuses what it can before the kernel arrives

    def read(arrays: list[NDArray[Any]]) -> ReadMap:
        operator = BlurOperator(shape, arrays[0], boundary=boundary)
        return ReadMap(shape, lambda: operator)

    return MapPlan((announced,), read)


def _radon(field: str, given: pb.RadonMap, shape: Shape, settings: ServerSettings) -> MapPlan:
    detectors = given.detectors if given.HasField("detectors") else None
    check_most(f"{field}.angles", len(given.angles), MAX_ANGLES, f"{field}.angles' entries")
    check_most(f"{field}.detectors", detectors or 0, MAX_COLUMNS)
    check_bytes(RADON_FLOATS * len(given.angles) * math.prod(shape), settings)
    operator = RadonOperator(shape, np.array(given.angles, np.float64), detectors)
    check_bytes(math.prod(operator.output_shape), settings)
    return MapPlan((), lambda arrays: ReadMap(operator.output_shape, lambda: operator))


def _poisson(field: str, given: pb.FieldMap, shape: Shape, settings: ServerSettings) -> MapPlan:
    solver = given.solver or FIELD_SOLVER
    rtol = validation.positive_float("rtol", given.rtol if given.HasField("rtol") else FIELD_RTOL)
    planned = read_grid_header(given.grid)
    _check_shape(planned.cells, shape)
    cells, arrays = math.prod(shape), [one for _, one in planned.parts]
    check_most(f"{field}.cells", cells, settings.max_cells)
    check_bytes(_floats(footprint.grid_bytes(cells, sum(math.prod(one.shape) for one in arrays[1:]))), settings)
    find_grid_solver(solver)

    def read(arrays: list[NDArray[Any]]) -> ReadMap:
        grid = planned.build(arrays)
        check_bytes(_floats(sum(footprint.grid_setup(solver, grid))), settings)
        return ReadMap(grid.shape, partial(PoissonMap, grid, solver=solver, rtol=rtol))

    return MapPlan(tuple(arrays), read)


PLANS: dict[str, Callable[[str, Any, Shape, ServerSettings], MapPlan]] = {
    "identity": _identity,
    "mask": _mask,
    "blur": _blur,
    "radon": _radon,
    "poisson": _poisson,
}
"""By the field of `ForwardMap` that each of them reads."""


def _prefix_refusal(field: str, error: errors.ServiceError) -> errors.ServiceError:
    """Return the same refusal with the name of the map before that of the argument."""
    name = error.details[0].field_violations[0].field  # type: ignore[attr-defined]
    return errors.invalid(f"{field}.{name}" if name else field, f"{field}.{error.message}")


def _check_shape(announced: AnnouncedArray, shape: Shape) -> None:
    if announced.shape != shape:
        raise ValueError(
            f"{announced.name} must have the shape {shape} of the signals that it is for, got {announced.shape}"
        )


def _check_products(name: str, shape: Shape, kernel: Shape) -> None:
    check_most(name, math.prod(shape) * math.prod(kernel), MAX_PRODUCTS, f"{name}'s entries times those of a signal")


def _floats(size: int) -> int:
    return math.ceil(size / FLOAT_BYTES)
