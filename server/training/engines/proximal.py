"""The proximal engine: learned proximal operators, their priors, and the inverse problems that they regularise.

Imported on first use, for their weight: `relaxon.neuromorphic.proximal` (torch), and `inverse_calls` with the solvers'
services, which no job's process needs.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from relaxon.proto import proximal_pb2 as pb
from relaxon.server.gate import errors
from relaxon.server.jobs.folder import CHECKPOINT
from relaxon.server.jobs.records import Json
from relaxon.server.jobs.worker import MODEL, Tell
from relaxon.server.training import proximal_limits, stored_files
from relaxon.server.training.engine import TrainingEngine, TrainingPlan, load_later
from relaxon.server.training.predictions import write_output
from relaxon.server.training.proximal_limits import announce_signals, announce_training_data
from relaxon.server.training.tables import check_finite, read_arrays
from relaxon.wire.conversions.fields import collect_fields, read_settings
from relaxon.wire.conversions.proximal import ENGINE as WIRE

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal import MatchingProgress, MatchingSettings, NetworkSettings, ProximalModel
    from relaxon.server.config.settings import ServerSettings
    from relaxon.server.training.service import Context, TrainingService


def plan(header: pb.TrainProximalHeader, settings: ServerSettings) -> TrainingPlan:
    """Return what a header asks for; see `TrainingEngine.plan`."""
    data, shape = announce_training_data(header)
    if not header.settings.HasField("noise"):
        raise errors.invalid("noise", "noise must be given: the standard deviation of the noise to train at")
    if not header.network.shape:
        raise errors.invalid("shape", "shape must be given: that of one signal")
    network, matching = read_settings(header.network), read_settings(header.settings)
    request = {"kind": WIRE.kind, "network": network, "settings": matching}
    with errors.refusing():
        form, training = build_settings(request)
    if shape[1:] != form.shape:
        sides = ", ".join(map(str, form.shape))
        raise errors.invalid("data", f"data must have shape (n, {sides}), got {shape}")
    proximal_limits.check_training(shape[0], form, training, settings)
    return TrainingPlan({"data": data}, request, lambda arrays: check_finite("data", arrays["data"]))


def train(folder: Path, request: Json, tell: Tell) -> None:
    """Train on the data of a job's folder; see `TrainingEngine.train`."""
    from relaxon.neuromorphic.proximal import train_proximal

    network, settings = build_settings(request)
    every = settings.record_every

    def watch(progress: MatchingProgress) -> bool:
        return tell(_report(progress, every) if progress.step % every == 0 or progress.step == progress.steps else None)

    model = train_proximal(
        read_arrays(folder, request)["data"].reshape(-1, *network.shape),
        network,
        replace(settings, out=folder / CHECKPOINT, checkpoint_seconds=request["checkpoint_seconds"]),
        watcher=watch,
    )
    model.save(folder / MODEL)


def build_settings(request: Json) -> tuple[NetworkSettings, MatchingSettings]:
    """Return the network and the training of a request; ImportError where the server lacks what they need."""
    from relaxon.neuromorphic.proximal import MatchingSettings, NetworkSettings

    return NetworkSettings(**request["network"]), MatchingSettings(**request["settings"])


def _report(progress: MatchingProgress, every: int) -> dict[str, Any]:
    numbers = {"report": math.ceil(progress.step / every), "steps_wanted": progress.steps}
    return collect_fields(pb.ProximalProgress, progress, progress.record, **numbers)


def describe(model: ProximalModel, whole: bool) -> pb.ProximalModel:
    """Return the message of a stored model; see `TrainingEngine.describe`."""
    training = model.training
    message = pb.ProximalModel(network=pb.ProximalNetwork(**model.settings.describe()), noise=model.noise)
    if training is not None:
        message.steps, message.outcome, message.message = training.steps, training.ended.value, training.reason
        if whole:
            message.train_loss.extend(record.loss for record in training.records)
            message.mean_square.extend(record.mean_square for record in training.records)
    return message


def check(folder: Path, settings: ServerSettings) -> None:
    """Refuse an uploaded model by what its files say; see `TrainingEngine.check`."""
    from relaxon.neuromorphic.proximal import NetworkSettings

    description, held = stored_files.read_described(folder, WIRE.files)
    if not isinstance(description, dict) or description.get("kind") != WIRE.kind:
        raise errors.invalid("description", "description must be that of a proximal operator")
    network = description.get("network")
    if not isinstance(network, dict):
        raise errors.invalid("network", "network must be an object")
    try:
        form = NetworkSettings(**network)
    except (TypeError, ValueError) as error:
        raise errors.invalid("network", f"network must be that of a proximal operator: {error}") from error
    proximal_limits.check_network(form, settings)
    # The network is built before its tensors are read into it, so it must be no larger than those.
    if proximal_limits.count_weights(form) != held.entries():
        raise errors.invalid("network", f"network must be that of the tensors, which have {held.entries()} entries")


async def denoise(service: TrainingService, request: Any, context: Context) -> None:
    """Answer a `Denoise` call."""
    upload = service.upload(context)
    header: pb.DenoiseHeader = await upload.header()
    with service.admitted():
        model = await service.run_beside(lambda: service.load(header.model))
        announced = announce_signals("y", header.y, header.shape, model, service.settings)
        y = await upload.array("y", announced.array)
        await upload.end()
        output = await service.run_beside(lambda: model.denoise(announced.read(y)))
        # The answer has the form in which the signals came.
        await write_output(service, context, output.reshape(announced.array.shape), "Denoise")


ENGINE = TrainingEngine(
    module=__name__,
    wire=WIRE,
    training=pb.ProximalTraining,
    needs=("torch", "numba", "scipy", "safetensors"),
    extra="neuromorphic",
    plan=plan,
    train=train,
    step="report",
    # The optimisers of torch import its compiler at their first step.
    imports=("relaxon.neuromorphic.proximal.training.matching", "torch._dynamo"),
    load=load_later("relaxon.neuromorphic.proximal", "load_proximal"),
    describe=describe,
    check=check,
    probe=lambda model: model.denoise(np.zeros((1, *model.shape))),
    calls={
        "Denoise": denoise,
        "Prior": load_later("relaxon.server.training.inverse_calls", "evaluate_prior"),
        "Solve": load_later("relaxon.server.training.inverse_calls", "solve"),
    },
)
