"""What a worker process does to train an energy-based density."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relaxon.neuromorphic.checkpoints import Checkpoints
from relaxon.server.jobs.records import Json
from relaxon.server.jobs.worker import CHECKPOINT, MODEL, Tell

if TYPE_CHECKING:
    from relaxon.neuromorphic.energy import EnergyDensity

KIND = "energy"
DATA = "data.safetensors"
REPORT_EVERY = 10
"""Steps between two reports."""


def run(folder: Path, request: Json, tell: Tell) -> None:
    """Train on the folder's data and save the model into the folder; a ValueError is a refusal of an argument."""
    from safetensors.numpy import load_file

    density = density_of(request)
    steps = density.steps

    def watch(progress: Any) -> bool:
        if progress.step % REPORT_EVERY and progress.step != steps:
            return tell(None)
        return tell(_report(progress, steps))

    with warnings.catch_warnings():
        # What is not to be trusted is told in the model.
        warnings.simplefilter("ignore")
        density.fit(
            load_file(folder / DATA)["features"],
            watcher=watch,
            checkpoints=Checkpoints(folder / CHECKPOINT, request["checkpoint_seconds"]),
        )
    density.save(folder / MODEL)


def density_of(request: Json) -> EnergyDensity:
    """The unfitted density; ImportError where the server lacks what it needs."""
    from relaxon.neuromorphic.energy import EnergyDensity

    parameters = dict(request["parameters"])
    if "hidden_sizes" in parameters:
        parameters["hidden_sizes"] = tuple(parameters["hidden_sizes"])
    made: EnergyDensity = EnergyDensity().set_params(**parameters)
    return made


def _report(progress: Any, steps: int) -> Json:
    record = progress.record
    return {
        "report": math.ceil(progress.step / REPORT_EVERY),
        "step": progress.step,
        "steps_wanted": steps,
        "loss": record.loss,
        "log_partition": _finite(record.log_partition),
        "effective_sample_size": _finite(record.effective_sample_size),
        "seconds": record.seconds,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
