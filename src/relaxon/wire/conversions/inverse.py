"""Inverse problems as they travel: requests, progress, reconstructions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import errors, validation
from relaxon.core.html import residual_curve, table
from relaxon.core.solution import Progress, Result
from relaxon.proto import poisson_pb2
from relaxon.proto import proximal_pb2 as pb
from relaxon.wire import tensors
from relaxon.wire.arrays import Wire
from relaxon.wire.conversions.fields import check_text, read_fields, write_fields
from relaxon.wire.conversions.forward_maps import ForwardMap, describe_maps
from relaxon.wire.conversions.proximal import ENGINE, Array, ProximalModelInfo
from relaxon.wire.conversions.solution import read_result
from relaxon.wire.conversions.tables import GatheredArrays, reshape_array, stream_messages
from relaxon.wire.handover import Slots

Method = Literal["pgd", "admm", "mirror"]
PROGRESS_SECONDS = 0.05
"""The time between two progress replies."""
WIRE = Wire(shared_memory=False, checksums=True)
"""The transport of the arrays of these calls."""


@dataclass(frozen=True, slots=True)
class InverseProgress(Progress):
    """The progress of an inverse problem: `residual` and `tolerance` are relative measures of stationarity."""

    objective: float
    """`w ½‖A x − b‖² + R(x)`, up to R's constant."""


InverseCallback = Callable[[InverseProgress], object]
"""Called with the newest progress; a return value that is `True` stops the run with `Result.CANCELLED`."""


@dataclass(frozen=True, slots=True, repr=False)
class InverseSolution:
    """The outcome of a plug-and-play run on a server, like `relaxon.neuromorphic.proximal.Reconstruction`."""

    x: Array
    """The reconstruction, of the signal's shape."""
    result: Result
    """`CONVERGED` where the last residual met the tolerance."""
    residuals: Array
    """`‖w Aᵀ(A x − b) + ∇R(x)‖₂ / ‖w Aᵀ b‖₂` at the start and after each iteration, `(iterations + 1,)`."""
    objectives: Array
    """`w ½‖A x − b‖² + R(x)` at the same iterates, up to R's constant."""
    iterations: int
    seconds: float
    """The time of the iterations."""
    tolerance: float
    method: str
    data_weight: float
    operator_norm: float
    penalty: float
    """ρ of "admm"; NaN for other methods."""
    guaranteed: bool
    """Whether theory guarantees that the iterations converge to a critical point."""
    message: str

    @property
    def converged(self) -> bool:
        return self.result is Result.CONVERGED

    @property
    def residual(self) -> float:
        """The last residual."""
        return float(self.residuals[-1])

    def __repr__(self) -> str:
        return (
            f"InverseSolution({self.result.name} by {self.method!r}, {self.iterations} iterations, "
            f"residual {self.residual:.2e}, x of shape {self.x.shape})"
        )

    def _repr_html_(self) -> str:
        rows = {
            "result": self.result.value.replace("_", " "),
            "method": self.method,
            "iterations": self.iterations,
            "residual": f"{self.residual:.2e}, asked for {self.tolerance:.2e}",
            "seconds": f"{self.seconds:.3g}",
            "message": self.message,
        }
        return table("reconstruction", rows, residual_curve(self.residuals))


class InverseRequest:
    """A checked inverse problem, which may be attempted several times."""

    cancel: ClassVar[pb.SolveInverseRequest] = pb.SolveInverseRequest(cancel=poisson_pb2.Cancel())

    def __init__(self, header: pb.SolveInverseHeader, arrays: list[tuple[str, NDArray[Any]]]) -> None:
        """`arrays` follow the header in this order, each under its name."""
        self._header = header
        self._arrays = arrays

    def attempt(self, _: Slots | None) -> tuple[Iterator[pb.SolveInverseRequest], InverseReader]:
        """Return the messages of one attempt and what reads its replies."""
        return self._messages(), InverseReader()

    def _messages(self) -> Iterator[pb.SolveInverseRequest]:
        yield pb.SolveInverseRequest(header=self._header)
        for name, array in self._arrays:
            for part in tensors.split_array(array):
                yield pb.SolveInverseRequest(**{name: part})  # type: ignore[arg-type]


class InverseReader:
    """Puts the replies to an inverse problem together."""

    def __init__(self) -> None:
        self._gathered = GatheredArrays(x="float64", residuals="float64", objectives="float64")

    def take(self, reply: pb.SolveInverseReply) -> InverseProgress | InverseSolution | None:
        """Return the solution with the last of its replies, progress where the reply is that."""
        if reply.HasField("progress") and self._gathered.header is None:
            told = reply.progress
            return InverseProgress(told.iteration, told.residual, told.tolerance, told.objective)
        self._gathered.take(reply)
        return _solution_of(self._gathered) if self._gathered.complete else None

    def translate_refusal(self, error: errors.InvalidArgument) -> errors.InvalidArgument:
        """Return the refusal unchanged: the fields of the messages have the names of the arguments."""
        return error

    def explain_end(self) -> errors.RelaxonError:
        """Return the error for a stream that ended before the solution was complete."""
        return errors.InternalError("the server ended the call before the reconstruction was complete")


def inverse_request(
    model: str | ProximalModelInfo,
    observation: ArrayLike,
    operator: ForwardMap | Sequence[ForwardMap],
    x0: ArrayLike | None,
    shape: Sequence[int] | None,
    *,
    method: str,
    max_iterations: int | None,
    progress: bool,
    **numbers: float | None,
) -> InverseRequest:
    """Return the request of an inverse problem; InvalidArgument where it can be refused here.

    `numbers` are the fields of the header that must be greater than 0, by name.
    """
    with errors.refusals():
        maps, arrays = describe_maps(operator)
        b = _array("observation", observation)
        header = pb.SolveInverseHeader(
            model=ENGINE.name_of(model),
            operator=maps,
            observation=tensors.describe_array(b),
            method=check_text("method", method),
            shape=() if shape is None else [validation.positive_int("shape", side) for side in shape],
        )
        for name, value in numbers.items():
            if value is not None:
                setattr(header, name, validation.positive_float(name, value))
        if max_iterations is not None:
            header.max_iterations = validation.positive_int("max_iterations", max_iterations)
        if progress:
            header.progress_interval.FromMilliseconds(round(1000 * PROGRESS_SECONDS))
        sent = [*(("operator", array) for array in arrays), ("observation", b)]
        if x0 is not None:
            start = _array("x0", x0)
            header.x0.CopyFrom(tensors.describe_array(start))
            sent.append(("x0", start))
        return InverseRequest(header, sent)


def _solution_of(gathered: GatheredArrays) -> InverseSolution:
    header, arrays = gathered.finished()
    count = (header.iterations + 1,)
    return read_fields(
        InverseSolution,
        header,
        x=arrays["x"],
        result=read_result(header.result),
        residuals=reshape_array("residuals", arrays["residuals"], count),
        objectives=reshape_array("objectives", arrays["objectives"], count),
        penalty=header.penalty if header.HasField("penalty") else math.nan,
    )


def progress_message(progress: Any) -> pb.SolveInverseReply:
    """Return the reply that carries progress, which has the attributes of `InverseProgress`."""
    return pb.SolveInverseReply(progress=write_fields(pb.InverseProgress, progress))


def solution_messages(found: Any) -> Iterator[pb.SolveInverseReply]:
    """Yield the replies that carry a reconstruction, which has the attributes of `InverseSolution`."""
    arrays = {"x": found.x, "residuals": found.residuals, "objectives": found.objectives}
    announced = {name: tensors.describe_array(array) for name, array in arrays.items()}
    penalty = found.penalty if math.isfinite(found.penalty) else None
    header = write_fields(pb.ReconstructionHeader, found, **announced, penalty=penalty)
    return stream_messages(pb.SolveInverseReply, header, arrays)


def _array(name: str, value: ArrayLike) -> NDArray[np.generic]:
    array = validation.real_array(name, value)
    if not array.size or array.ndim > 3:
        raise ValueError(f"{name} must have 1 to 3 axes and at least one entry, got shape {array.shape}")
    return array
