"""Inverse problems of `ProximalService.Solve`: what a header asks for, the run in a worker thread, and its replies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.neuromorphic.proximal import CompositeOperator, ForwardOperator
from relaxon.proto import poisson_pb2
from relaxon.proto import proximal_pb2 as pb
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors
from relaxon.server.gate.announced import AnnouncedArray
from relaxon.server.solving.solve_messages import progress_seconds
from relaxon.server.training import forward_maps, proximal_limits
from relaxon.server.training.boosting_messages import check_bytes, check_finite
from relaxon.server.training.forward_maps import ReadMap, Shape
from relaxon.server.training.proximal_messages import positive
from relaxon.wire import tensors

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal import PlugAndPlayProgress, ProximalModel, Reconstruction
    from relaxon.server.solving.solve_job import SolveJob

MAX_ITERATIONS = 1_000_000
REFUSED = ("data_weight", "method", "observation", "operator", "penalty", "x0")
"""What the engine may refuse once A is known; another ValueError of its run is the server's own fault."""


@dataclass(frozen=True, slots=True)
class InversePlan:
    """An inverse problem as its header describes it."""

    shape: Shape
    """Of the signal."""
    fields: list[str]
    """What each of the forward maps is called."""
    options: dict[str, Any]
    """Arguments of `ProximalModel.solve`."""
    x0: AnnouncedArray | None
    progress_seconds: float | None


def plan(header: pb.SolveInverseHeader, model: ProximalModel, settings: ServerSettings) -> InversePlan:
    """Return what a header asks for; INVALID_ARGUMENT naming the argument, RESOURCE_EXHAUSTED where it is too large."""
    shape = _signal_shape(header, model)
    proximal_limits.check_signals(model.settings, 1, shape, settings)
    fields = forward_maps.fields_of(header.operator)
    try:
        options = _options(header)
    except (ValueError, TypeError) as error:
        raise errors.refused(error) from error
    x0 = AnnouncedArray.of("x0", header.x0) if header.HasField("x0") else None
    if x0 is not None and x0.shape != shape:
        raise errors.invalid("x0", f"x0 must have the signal's shape {shape}, got {x0.shape}")
    return InversePlan(shape, fields, options, x0, progress_seconds(header))


def _signal_shape(header: pb.SolveInverseHeader, model: ProximalModel) -> Shape:
    own = forward_maps.own_shape(header.operator)
    shape = tuple(header.shape) or (own if model.accepts(own) else model.shape)
    if not model.accepts(shape) or min(shape) < 1:
        raise errors.invalid("shape", f"shape must be one that the model takes, such as {model.shape}, got {shape}")
    return shape


def observed(header: pb.SolveInverseHeader, shape: Shape, settings: ServerSettings) -> AnnouncedArray:
    """Return the announced observation; INVALID_ARGUMENT where it is not of the shape that A gives."""
    announced = AnnouncedArray.of("observation", header.observation)
    if announced.shape != shape:
        raise errors.invalid(
            "observation", f"observation must have the shape {shape} that operator gives, got {announced.shape}"
        )
    check_bytes(math.prod(shape), settings)
    return announced


@dataclass(frozen=True, slots=True)
class InverseRun:
    """A run whose arrays have come; `reconstruct` is a job's work."""

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
        """Run in a worker thread; it ends within one application of A where nobody waits any more."""
        from relaxon.neuromorphic.proximal.forward.poisson_map import UnsolvedFieldError

        record: Any = job.record  # whose progress is a solve's: it reads what the two have in common
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
            raise errors.refused(error) from error

    def _operator(self) -> ForwardOperator:
        made = []
        for field, one in zip(self.fields, self.maps, strict=True):
            with forward_maps.named(field):
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


def progress_reply(progress: PlugAndPlayProgress) -> pb.SolveInverseReply:
    """Return a progress message."""
    return pb.SolveInverseReply(
        progress=pb.InverseProgress(
            iteration=progress.iteration,
            residual=progress.residual,
            objective=progress.objective,
            tolerance=progress.tolerance,
        )
    )


def reconstruction_replies(found: Reconstruction) -> Iterator[pb.SolveInverseReply]:
    """Return the replies that carry a reconstruction."""
    arrays = {"x": found.x, "residuals": found.residuals, "objectives": found.objectives}
    header = pb.ReconstructionHeader(
        result=poisson_pb2.Result.Value(f"RESULT_{found.result.name}"),
        iterations=found.iterations,
        seconds=found.seconds,
        tolerance=found.tolerance,
        method=found.method,
        data_weight=found.data_weight,
        operator_norm=found.operator_norm,
        guaranteed=found.guaranteed,
        message=found.message,
        x=tensors.header_of(found.x),
        residuals=tensors.header_of(found.residuals),
        objectives=tensors.header_of(found.objectives),
    )
    if math.isfinite(found.penalty):
        header.penalty = found.penalty
    yield pb.SolveInverseReply(header=header)
    for name, array in arrays.items():
        for part in tensors.parts_of(array):
            yield pb.SolveInverseReply(**{name: part})  # type: ignore[arg-type]


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
        options["max_iterations"] = positive("max_iterations", header.max_iterations, MAX_ITERATIONS)
    return options
