"""Inverse problems of `ProximalService.Solve`: what a header asks for, and the run in a worker thread.

Imported on first use, for their weight: modules of `relaxon.neuromorphic.proximal` that need torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.neuromorphic.proximal import CompositeOperator, ForwardOperator
from relaxon.proto import proximal_pb2 as pb
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors
from relaxon.server.training import forward_maps, proximal_limits
from relaxon.server.training.forward_maps import ReadMap, Shape
from relaxon.server.training.limits import check_bytes, check_most
from relaxon.server.training.tables import check_finite
from relaxon.wire.conversions.solve import read_progress_seconds
from relaxon.wire.tensors import AnnouncedArray

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal import ProximalModel
    from relaxon.server.solving.solve_job import SolveJob

MAX_ITERATIONS = 1_000_000
REFUSED = ("data_weight", "method", "observation", "operator", "penalty", "x0")
"""The arguments that the engine may refuse once A is known; any other ValueError is a fault of the server."""


@dataclass(frozen=True, slots=True)
class InversePlan:
    """An inverse problem as its header describes it."""

    shape: Shape
    """The shape of the signal."""
    fields: list[str]
    """The name of each forward map in refusals."""
    options: dict[str, Any]
    """The arguments of `ProximalModel.solve`."""
    x0: AnnouncedArray | None
    progress_seconds: float | None


def plan(header: pb.SolveInverseHeader, model: ProximalModel, settings: ServerSettings) -> InversePlan:
    """Return what a header asks for; INVALID_ARGUMENT naming the argument, RESOURCE_EXHAUSTED where it is too large."""
    shape = _signal_shape(header, model)
    proximal_limits.check_signals(model.settings, 1, shape, settings)
    fields = forward_maps.fields_of(header.operator)
    with errors.refusing():
        options, progress_seconds = _options(header), read_progress_seconds(header)
    x0 = AnnouncedArray.of("x0", header.x0) if header.HasField("x0") else None
    if x0 is not None and x0.shape != shape:
        raise errors.invalid("x0", f"x0 must have the signal's shape {shape}, got {x0.shape}")
    return InversePlan(shape, fields, options, x0, progress_seconds)


def _signal_shape(header: pb.SolveInverseHeader, model: ProximalModel) -> Shape:
    own = forward_maps.own_shape(header.operator)
    shape = tuple(header.shape) or (own if model.accepts(own) else model.shape)
    if not model.accepts(shape) or min(shape) < 1:
        raise errors.invalid("shape", f"shape must be one that the model takes, such as {model.shape}, got {shape}")
    return shape


def announce_observation(header: pb.SolveInverseHeader, shape: Shape, settings: ServerSettings) -> AnnouncedArray:
    """Return the announced observation; INVALID_ARGUMENT unless it has the shape that A gives."""
    announced = AnnouncedArray.of("observation", header.observation)
    if announced.shape != shape:
        raise errors.invalid(
            "observation", f"observation must have the shape {shape} that operator gives, got {announced.shape}"
        )
    check_bytes(math.prod(shape), settings)
    return announced


@dataclass(frozen=True, slots=True)
class InverseRun:
    """A run whose arrays have arrived; `reconstruct` is the work of a solve job."""

    model: ProximalModel
    maps: list[ReadMap]
    fields: list[str]
    options: dict[str, Any]
    observation: NDArray[Any]
    x0: NDArray[Any] | None

    def check(self) -> None:
        """Refuse NaN and infinity with INVALID_ARGUMENT, naming the array."""
        check_finite("observation", self.observation)
        if self.x0 is not None:
            check_finite("x0", self.x0)

    def reconstruct(self, job: SolveJob) -> Any:
        """Run in a worker thread; end within one application of A when nobody waits any more."""
        from relaxon.neuromorphic.proximal.forward.poisson_map import UnsolvedFieldError

        record: Any = job.record  # typed for the progress of a solve; it reads what both have in common
        try:
            return self.model.solve(
                self.observation,
                WatchedOperator(self._operator(), job.check),
                x0=self.x0,
                callback=record,
                **self.options,
            )
        except UnsolvedFieldError as error:
            message = f"operator must give fields that its solver can find: {error}"
            raise errors.invalid("operator", message) from error
        except (ValueError, TypeError) as error:
            if not str(error).startswith(REFUSED):
                raise
            raise errors.build_refusal(error) from error

    def _operator(self) -> ForwardOperator:
        made = []
        for field, one in zip(self.fields, self.maps, strict=True):
            with forward_maps.name_refusals(field):
                made.append(one.make())
        return made[0] if len(made) == 1 else CompositeOperator(made)


class WatchedOperator(ForwardOperator):
    """A forward operator that calls `check` before each application."""

    def __init__(self, operator: ForwardOperator, check: Callable[[], None]) -> None:
        self.name, self._operator, self._check = operator.name, operator, check
        self.input_shape, self.output_shape = operator.input_shape, operator.output_shape

    def _apply(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        self._check()
        return self._operator._apply(x)

    def _adjoint(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        self._check()
        return self._operator._adjoint(y)


def check_number(field: str, value: int, most: int) -> int:
    """Return a whole number from 1 to `most`; INVALID_ARGUMENT or RESOURCE_EXHAUSTED, naming the field, otherwise."""
    if value < 1:
        raise errors.invalid(field, f"{field} must be at least 1, got {value}")
    check_most(field, value, most)
    return value


def _options(header: pb.SolveInverseHeader) -> dict[str, Any]:
    from relaxon.neuromorphic.proximal.plug_and_play import Method

    if header.HasField("data_weight") == header.HasField("observation_noise"):
        given = "both" if header.HasField("data_weight") else "neither"
        raise ValueError(f"data_weight must be given where observation_noise is not, got {given}")
    options: dict[str, Any] = {"method": header.method or "pgd"}
    if options["method"] not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {header.method[:80]!r}")
    for name in ("data_weight", "observation_noise", "penalty", "tolerance"):
        if header.HasField(name):
            options[name] = validation.positive_float(name, getattr(header, name))
    if header.HasField("max_iterations"):
        options["max_iterations"] = check_number("max_iterations", header.max_iterations, MAX_ITERATIONS)
    return options
