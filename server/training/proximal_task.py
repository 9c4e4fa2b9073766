"""What a worker process does to train a proximal operator."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relaxon.server.jobs.records import Json
from relaxon.server.jobs.worker import CHECKPOINT, MODEL, Tell

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal import MatchingProgress, MatchingSettings, NetworkSettings

KIND = "proximal"
DATA = "data.safetensors"
FILES = ("model.json", "model.safetensors")
"""Of a stored model: what it is, and its weights."""


def run(folder: Path, request: Json, tell: Tell) -> None:
    """Train on the folder's data and save the model into the folder; a ValueError is a refusal of an argument."""
    from safetensors.numpy import load_file

    from relaxon.neuromorphic.proximal import train_proximal

    network, settings = settings_of(request)
    every = settings.record_every

    def watch(progress: MatchingProgress) -> bool:
        return tell(report(progress, every) if progress.step % every == 0 or progress.step == progress.steps else None)

    model = train_proximal(
        load_file(folder / DATA)["data"].reshape(-1, *network.shape),
        network,
        replace(settings, out=folder / CHECKPOINT, checkpoint_seconds=request["checkpoint_seconds"]),
        watcher=watch,
    )
    model.save(folder / MODEL)


def settings_of(request: Json) -> tuple[NetworkSettings, MatchingSettings]:
    """Return the network and the training of a request; ImportError where the server lacks what they need."""
    from relaxon.neuromorphic.proximal import MatchingSettings, NetworkSettings

    return NetworkSettings(**request["network"]), MatchingSettings(**request["settings"])


def report(progress: MatchingProgress, every: int) -> dict[str, Any]:
    """Return what the server is told after a step."""
    record = progress.record
    return {
        "report": math.ceil(progress.step / every),
        "step": progress.step,
        "steps_wanted": progress.steps,
        "stage": record.stage,
        "loss": record.loss,
        "mean_square": record.mean_square,
        "gradient_norm": record.gradient_norm,
        "seconds": record.seconds,
    }
