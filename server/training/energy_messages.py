"""The messages of `energy.proto` as arguments of the estimator, checked before the arrays are uploaded, and back."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from relaxon.core.tensor_files import write_tensors
from relaxon.neuromorphic.energy.noise.rank import explain_table_rank_deficiency
from relaxon.proto import energy_pb2 as pb
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors
from relaxon.server.gate.announced import AnnouncedArray
from relaxon.server.jobs.folder import REQUEST
from relaxon.server.jobs.operations_service import job_message, timestamp
from relaxon.server.jobs.records import Job, Json
from relaxon.server.training.boosting_messages import MAX_COLUMNS, check_bytes, check_finite, seed, table
from relaxon.server.training.energy_task import DATA, KIND, density_of

if TYPE_CHECKING:
    from relaxon.neuromorphic.energy import EnergyDensity, LogPartition
    from relaxon.neuromorphic.energy.partition.log_partition import Method

FEWEST_ROWS = 2
MAX_STEPS = 1_000_000
MAX_DRAWS = 1_000_000
MAX_PATHS = 10_000
"""Of annealed importance sampling: each is a chain through hundreds of temperatures."""
CHAINS, WARM_UP = 16, 500


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """A training run as its header describes it."""

    features: AnnouncedArray
    request: Json

    def check(self, features: NDArray[Any]) -> None:
        """Refuse data that have no density; INVALID_ARGUMENT."""
        check_finite("features", features)
        flat = [column for column in range(features.shape[1]) if not features[:, column].std() > 0]
        if flat:
            raise errors.invalid("features", f"features must vary in each column to have a density, {flat[:5]} do not")
        lacking = explain_table_rank_deficiency(features)
        # Under kernels, and of the training rows alone, the verdict says it.
        if lacking and self.request["parameters"].get("noise") != "kernel":
            raise errors.invalid(
                "features", f"features must have a covariance of full rank to have a density; {lacking}"
            )

    def write(self, folder: Path, features: NDArray[Any]) -> None:
        """Put the request and its data where the worker process reads them."""
        folder.mkdir()
        write_tensors(folder / DATA, {"features": features})
        (folder / REQUEST).write_text(json.dumps(self.request), encoding="utf-8")


def plan(header: pb.TrainEnergyHeader, settings: ServerSettings) -> TrainPlan:
    """What a header asks for; INVALID_ARGUMENT naming the argument, RESOURCE_EXHAUSTED where it is too large."""
    features = table("features", header.features)
    rows, columns = features.shape
    if rows < FEWEST_ROWS:
        raise errors.invalid("features", f"features must have at least {FEWEST_ROWS} rows, got {rows}")
    given = {descriptor.name: value for descriptor, value in header.settings.ListFields()}
    if "hidden_sizes" in given:
        given["hidden_sizes"] = list(given["hidden_sizes"])
    request = {"kind": KIND, "parameters": {**given, "random_state": seed(header.settings)}}
    try:
        density = density_of(request)
        density.check_parameters()
    except (ValueError, TypeError) as error:
        raise errors.refused(error) from error
    layers = list(density.hidden_sizes)
    octaves = 5 if density.octaves == "auto" else int(density.octaves)
    for name, value, most in (
        ("features", columns, MAX_COLUMNS),
        ("hidden_sizes", sum(layers), settings.max_units),
        ("steps", density.steps, MAX_STEPS),
        ("partition_draws", density.partition_draws, MAX_DRAWS),
    ):
        if value > most:
            raise errors.exhausted(name, f"{name} must be at most {most} here, got {value}")
    widest = max([columns * (1 + 2 * octaves), *layers])
    check_bytes(rows * columns, settings)
    check_bytes((density.batch_size + density.noise_batch_size) * widest, settings)
    check_bytes(density.partition_draws * columns, settings)
    # Covariances of the noise, and the weights between layers.
    check_bytes(columns**2 + sum(a * b for a, b in zip([widest, *layers], [*layers, 1], strict=True)), settings)
    return TrainPlan(features, request)


def rows_to_judge(header: pb.LogDensityHeader, columns: int, settings: ServerSettings) -> AnnouncedArray:
    """The announced rows; INVALID_ARGUMENT where they are not the model's, RESOURCE_EXHAUSTED where too many."""
    features = table("features", header.features)
    if features.shape[1] != columns:
        raise errors.invalid("features", f"features must have the model's {columns} columns, got {features.shape[1]}")
    check_bytes(math.prod(features.shape), settings)
    return features


def count_to_draw(count: int, columns: int, settings: ServerSettings) -> int:
    """So many samples, once they have been found to be few enough."""
    if count < 1:
        raise errors.invalid("count", f"count must be at least 1, got {count}")
    check_bytes(count * columns, settings)
    return count


def method_of(request: pb.LogPartitionRequest, density: EnergyDensity) -> Method:
    """The method that is asked for, over the model's own noise."""
    from relaxon.neuromorphic.energy import AIS, Bridge, ImportanceSampling

    noise: Any = density.noise_
    which = request.WhichOneof("method")
    if which == "annealed":
        return AIS(noise, _number("paths", request.annealed.paths, 1000, MAX_PATHS))
    if which == "bridge":
        draws = _number("draws", request.bridge.draws, 1000, MAX_DRAWS // CHAINS)
        try:
            return Bridge(noise, chains=CHAINS, draws=draws, warm_up=WARM_UP)
        except ValueError as error:
            raise errors.refused(error) from error
    return ImportanceSampling(noise, _number("draws", request.importance.draws, 10_000, MAX_DRAWS))


def _number(name: str, value: int, default: int, most: int) -> int:
    if value < 0:
        raise errors.invalid(name, f"{name} must not be negative, got {value}")
    if value > most:
        raise errors.exhausted(name, f"{name} must be at most {most} here, got {value}")
    return value or default


def estimate_message(found: LogPartition) -> pb.LogPartitionEstimate:
    """An estimate of log Z."""
    message = pb.LogPartitionEstimate(
        value=found.value,
        effective_sample_size=found.effective_sample_size,
        trusted=found.trusted,
        reason=found.reason,
        method=found.method,
        draws=found.draws,
    )
    optional = {
        "low": found.interval[0],
        "high": found.interval[1],
        "standard_error": found.standard_error,
        "pareto_k": found.pareto_k,
    }
    for name, value in optional.items():
        if math.isfinite(value):
            setattr(message, name, value)
    return message


def model_message(name: str, created: float, model: EnergyDensity, whole: bool = True) -> pb.EnergyModel:
    """A stored model; `whole` with the fields that can be long."""
    training = model.training_
    return pb.EnergyModel(
        name=name,
        create_time=timestamp(created),
        n_features=model.n_features_in_,
        objective=str(model.objective),
        noise=type(getattr(model.noise_, "inner", model.noise_)).__name__,
        steps=0 if training is None else training.steps,
        outcome="" if training is None else training.ended.value,
        log_partition=estimate_message(model.log_partition_),
        trusted=model.verdict_.trusted,
        reason=model.verdict_.reason,
        validation=model.validation_.tolist() if whole else (),
    )


def progress_message(progress: Json) -> pb.EnergyProgress:
    """What a worker process said in a report."""
    return pb.EnergyProgress(**progress)


def metadata(job: Job, newest: Json | None) -> pb.EnergyTraining:
    """The metadata of a job's operation."""
    return pb.EnergyTraining(job=job_message(job), progress=None if newest is None else progress_message(newest))
