"""The messages of `proximal.proto` as arguments of the engine, checked before the arrays are uploaded, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.tensor_files import write_tensors
from relaxon.proto import proximal_pb2 as pb
from relaxon.proto import tensor_pb2
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors
from relaxon.server.gate.announced import AnnouncedArray
from relaxon.server.jobs.folder import REQUEST
from relaxon.server.jobs.operations_service import job_message, timestamp
from relaxon.server.jobs.records import Job, Json
from relaxon.server.training import proximal_limits
from relaxon.server.training.boosting_messages import check_finite
from relaxon.server.training.proximal_task import DATA, KIND, settings_of
from relaxon.wire import tensors

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal import NetworkSettings, PriorEvaluation, ProximalModel

MAX_NEWTON_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """A training run as its header describes it."""

    data: AnnouncedArray
    request: Json

    def write(self, folder: Path, data: NDArray[Any]) -> None:
        """Put the request and its data, which are checked first, where the worker process reads them."""
        check_finite("data", data)
        folder.mkdir()
        write_tensors(folder / DATA, {"data": data})
        (folder / REQUEST).write_text(json.dumps(self.request), encoding="utf-8")


def plan(header: pb.TrainProximalHeader, settings: ServerSettings) -> TrainPlan:
    """Return what a header asks for; INVALID_ARGUMENT naming the argument, RESOURCE_EXHAUSTED where it is too large."""
    data, shape = _announced("data", header.data, header.shape)
    if not header.settings.HasField("noise"):
        raise errors.invalid("noise", "noise must be given: the standard deviation of the noise to train at")
    if not header.network.shape:
        raise errors.invalid("shape", "shape must be given: that of one signal")
    request = {"kind": KIND, "network": _given(header.network), "settings": _given(header.settings)}
    try:
        network, training = settings_of(request)
    except (ValueError, TypeError) as error:
        raise errors.refused(error) from error
    if shape[1:] != network.shape:
        sides = ", ".join(map(str, network.shape))
        raise errors.invalid("data", f"data must have shape (n, {sides}), got {shape}")
    proximal_limits.check_training(shape[0], network, training, settings)
    return TrainPlan(data, request)


@dataclass(frozen=True, slots=True)
class SignalsPlan:
    """A signal, or several along the first axis, that are yet to come."""

    array: AnnouncedArray
    shape: tuple[int, ...]

    def read(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return them as the engine takes them; INVALID_ARGUMENT for NaN and infinity."""
        check_finite(self.array.name, array)
        return array.reshape(self.shape)


def signals(
    name: str,
    header: tensor_pb2.TensorHeader,
    shape: Sequence[int],
    model: ProximalModel,
    settings: ServerSettings,
) -> SignalsPlan:
    """Return the announced signals; refused before they come where they are not the model's, or too many."""
    array, sides = _announced(name, header, shape)
    axes = len(model.shape)
    one = sides if len(sides) == axes else sides[1:]
    if len(one) != axes or not model.accepts(one):
        expected = ", ".join(map(str, model.shape))
        raise errors.invalid(name, f"{name} must have shape ({expected}) or (n, {expected}), got {sides}")
    proximal_limits.check_signals(model.settings, math.prod(sides) // math.prod(one), one, settings)
    return SignalsPlan(array, sides)


def _announced(
    name: str, header: tensor_pb2.TensorHeader, given: Sequence[int]
) -> tuple[AnnouncedArray, tuple[int, ...]]:
    """An array of signals and its shape, which is beside it where it comes as one axis."""
    array = AnnouncedArray.of(name, header)
    shape = tuple(given)
    if shape and (array.shape != (math.prod(shape),) or min(shape) < 1 or len(shape) > proximal_limits.MAX_AXES + 1):
        raise errors.invalid(
            "shape", f"shape must be that of {name}'s {array.shape} entries along one axis, got {list(shape)[:9]}"
        )
    return array, shape or array.shape


def prior_options(header: pb.PriorHeader) -> dict[str, Any]:
    """Return how a regulariser is to be evaluated: what the header gives, by the engine's names."""
    given: dict[str, Any] = {}
    if header.HasField("rtol"):
        if not (math.isfinite(header.rtol) and header.rtol > 0):
            raise errors.invalid("rtol", f"rtol must be finite and greater than 0, got {header.rtol}")
        given["rtol"] = header.rtol
    if header.HasField("max_iterations"):
        given["max_iterations"] = positive("max_iterations", header.max_iterations, MAX_NEWTON_STEPS)
    return given


def positive(field: str, value: int, most: int) -> int:
    """Return a whole number from 1 to `most`; INVALID_ARGUMENT or RESOURCE_EXHAUSTED naming the field otherwise."""
    if value < 1:
        raise errors.invalid(field, f"{field} must be at least 1, got {value}")
    proximal_limits.at_most(field, value, most)
    return value


def denoised_replies(output: NDArray[np.float64], planned: SignalsPlan) -> Iterator[pb.DenoiseReply]:
    """Return the replies that carry denoised signals, in the form in which they came."""
    array = output.reshape(planned.array.shape)
    yield pb.DenoiseReply(header=pb.DenoiseReplyHeader(output=tensors.header_of(array)))
    for part in tensors.parts_of(array):
        yield pb.DenoiseReply(output=part)


def prior_replies(found: PriorEvaluation, planned: SignalsPlan) -> Iterator[pb.PriorReply]:
    """Return the replies that carry the values of a regulariser and how well each is known."""
    preimage = found.preimage
    arrays: dict[str, NDArray[Any]] = {
        "output": found.values,
        "residuals": preimage.residuals,
        "converged": preimage.converged.astype(np.uint8),
        "preimage": preimage.y.reshape(planned.array.shape),
    }
    headers = {name: tensors.header_of(array) for name, array in arrays.items()}
    yield pb.PriorReply(header=pb.PriorReplyHeader(iterations=preimage.iterations, **headers))
    for name, array in arrays.items():
        for part in tensors.parts_of(array):
            yield pb.PriorReply(**{name: part})  # type: ignore[arg-type]


def model_message(name: str, created: float, model: ProximalModel, whole: bool = True) -> pb.ProximalModel:
    """Return the message of a stored model; `whole` with the fields that can be long."""
    training = model.training
    message = pb.ProximalModel(
        name=name,
        create_time=timestamp(created),
        network=network_message(model.settings),
        noise=model.noise,
    )
    if training is not None:
        message.steps, message.outcome, message.message = training.steps, training.ended.value, training.reason
        if whole:
            message.train_loss.extend(record.loss for record in training.records)
            message.mean_square.extend(record.mean_square for record in training.records)
    return message


def network_message(network: NetworkSettings) -> pb.ProximalNetwork:
    """Return a network's form with all of its fields."""
    return pb.ProximalNetwork(**network.describe())


def progress_message(progress: Json) -> pb.ProximalProgress:
    """Return what a worker process said in a report."""
    return pb.ProximalProgress(**progress)


def metadata(job: Job, newest: Json | None) -> pb.ProximalTraining:
    """Return the metadata of a job's operation."""
    return pb.ProximalTraining(job=job_message(job), progress=None if newest is None else progress_message(newest))


def _given(message: pb.ProximalNetwork | pb.ProximalSettings) -> dict[str, Any]:
    """The fields that are given, as JSON values."""
    found = {descriptor.name: value for descriptor, value in message.ListFields()}
    return {name: list(value) if name in ("shape", "hidden", "gammas") else value for name, value in found.items()}
