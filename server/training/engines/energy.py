"""The energy engine: energy-based densities, their log-densities, samples and estimates of log Z.

Imported on first use, for their weight: `relaxon.neuromorphic.energy` (torch), safetensors.
"""

from __future__ import annotations

import math
import warnings
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.checkpoints import Checkpoints
from relaxon.neuromorphic.energy.noise.rank import explain_table_rank_deficiency
from relaxon.proto import energy_pb2 as pb
from relaxon.server.gate import errors
from relaxon.server.jobs.folder import CHECKPOINT
from relaxon.server.jobs.model_files import check_count
from relaxon.server.jobs.records import Json
from relaxon.server.jobs.worker import MODEL, Tell
from relaxon.server.training import stored_files
from relaxon.server.training.engine import TrainingEngine, TrainingPlan, load_later
from relaxon.server.training.limits import MAX_COLUMNS, MAX_LAYERS, MAX_STEPS, check_bytes, check_most
from relaxon.server.training.predictions import write_output
from relaxon.server.training.tables import (
    announce_features,
    announce_table,
    check_finite,
    draw_seed,
    read_arrays,
)
from relaxon.wire import tensors
from relaxon.wire.conversions.energy import ENGINE as WIRE
from relaxon.wire.conversions.energy import estimate_message
from relaxon.wire.conversions.fields import collect_fields, read_settings

if TYPE_CHECKING:
    from relaxon.neuromorphic.energy import EnergyDensity, LogPartition
    from relaxon.neuromorphic.energy.partition.log_partition import Method
    from relaxon.server.config.settings import ServerSettings
    from relaxon.server.training.service import Context, TrainingService

TENSORS = WIRE.files[1]
FEWEST_ROWS = 2
MAX_DRAWS = 1_000_000
MAX_PATHS = 10_000
"""Paths of annealed importance sampling: each is a chain through hundreds of temperatures."""
CHAINS, WARM_UP = 16, 500
REPORT_EVERY = 10
"""Steps between two reports."""
DRAWN_AT_ONCE = 10_000
"""Samples between two checks whether the caller still waits."""
PAIRS = {"tilted": ("base", "tilt"), "defensive": ("inner", "wide")}
"""Stored energies and noise distributions that consist of two others."""
DENSITIES = {"gaussian": "", "student": "", "mixture": "components", "kernel": "points"}
"""The others, and the name of what each has a number of."""
MAX_POINTS = 2**20


def plan(header: pb.TrainEnergyHeader, settings: ServerSettings) -> TrainingPlan:
    """Return what a header asks for; see `TrainingEngine.plan`."""
    features = announce_table("features", header.features)
    rows, columns = features.shape
    if rows < FEWEST_ROWS:
        raise errors.invalid("features", f"features must have at least {FEWEST_ROWS} rows, got {rows}")
    parameters = {**read_settings(header.settings), "random_state": draw_seed(header.settings)}
    request = {"kind": WIRE.kind, "parameters": parameters}
    with errors.refusing():
        density = build_density(request)
        density.check_parameters()
    layers = list(density.hidden_sizes)
    octaves = 5 if density.octaves == "auto" else int(density.octaves)
    check_most("features", columns, MAX_COLUMNS)
    check_most("hidden_sizes", sum(layers), settings.max_units)
    check_most("steps", density.steps, MAX_STEPS)
    check_most("partition_draws", density.partition_draws, MAX_DRAWS)
    widest = max([columns * (1 + 2 * octaves), *layers])
    check_bytes(rows * columns, settings)
    check_bytes((density.batch_size + density.noise_batch_size) * widest, settings)
    check_bytes(density.partition_draws * columns, settings)
    # The covariances of the noise, and the weights between layers.
    check_bytes(columns**2 + sum(a * b for a, b in zip([widest, *layers], [*layers, 1], strict=True)), settings)
    kernels = parameters.get("noise") == "kernel"
    return TrainingPlan({"features": features}, request, lambda arrays: _check_rows(arrays["features"], kernels))


def _check_rows(features: NDArray[Any], kernels: bool) -> None:
    """Refuse rows that have no density; `kernels` says whether the noise is a sum of kernels."""
    check_finite("features", features)
    flat = [column for column in range(features.shape[1]) if not features[:, column].std() > 0]
    if flat:
        raise errors.invalid("features", f"features must vary in each column to have a density, {flat[:5]} do not")
    lacking = explain_table_rank_deficiency(features)
    # With kernels, and for the training rows alone, the model's verdict says it.
    if lacking and not kernels:
        raise errors.invalid("features", f"features must have a covariance of full rank to have a density; {lacking}")


def train(folder: Path, request: Json, tell: Tell) -> None:
    """Train on the data of a job's folder; see `TrainingEngine.train`."""
    density = build_density(request)
    steps = density.steps

    def watch(progress: Any) -> bool:
        if progress.step % REPORT_EVERY and progress.step != steps:
            return tell(None)
        return tell(_report(progress, steps))

    with warnings.catch_warnings():
        # The stored model says whether it can be trusted.
        warnings.simplefilter("ignore")
        density.fit(
            read_arrays(folder, request)["features"],
            watcher=watch,
            checkpoints=Checkpoints(folder / CHECKPOINT, request["checkpoint_seconds"]),
        )
    density.save(folder / MODEL)


def build_density(request: Json) -> EnergyDensity:
    """Return the unfitted density of a request; ImportError where the server lacks what it needs."""
    from relaxon.neuromorphic.energy import EnergyDensity

    parameters = dict(request["parameters"])
    if "hidden_sizes" in parameters:
        parameters["hidden_sizes"] = tuple(parameters["hidden_sizes"])
    made: EnergyDensity = EnergyDensity().set_params(**parameters)
    return made


def _report(progress: Any, steps: int) -> Json:
    record, report = progress.record, math.ceil(progress.step / REPORT_EVERY)
    estimates = {"log_partition": record.log_partition, "effective_sample_size": record.effective_sample_size}
    finite = {name: value if math.isfinite(value) else None for name, value in estimates.items()}
    return collect_fields(pb.EnergyProgress, progress, record, report=report, steps_wanted=steps, **finite)


def describe(model: EnergyDensity, whole: bool) -> pb.EnergyModel:
    """Return the message of a stored model; see `TrainingEngine.describe`."""
    training = model.training_
    return pb.EnergyModel(
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


def check(folder: Path, settings: ServerSettings) -> None:
    """Refuse an uploaded model by what its files say; see `TrainingEngine.check`."""
    description, held = stored_files.read_described(folder, WIRE.files)
    card = description.get("card") if isinstance(description, dict) else None
    if not isinstance(card, dict) or card.get("estimator") != "EnergyDensity":
        raise errors.invalid("description", "description must be that of an energy-based density")
    stored_files.check_parameters_card(card.get("parameters"))
    stored_files.check_bits(TENSORS, held, None)
    modules = description.get("modules")
    if not isinstance(modules, dict) or set(modules) != {"energy"}:
        raise errors.invalid("modules", "modules must be one energy")
    check_most("bytes", 8 * held.entries(), settings.max_table_bytes)
    entries = _count_entries(modules["energy"])
    # The modules are built before their tensors are read into them, so they must be no larger than those.
    if entries > held.entries():
        raise errors.invalid("modules", f"modules must be those of the tensors, which have {held.entries()} entries")


def _count_entries(form: object) -> int:
    """Return how many numbers a described module has, or fewer; INVALID_ARGUMENT for one that no server stores."""
    if not isinstance(form, dict):
        raise errors.invalid("modules", "modules must be objects")
    kind = form.get("kind")
    if kind in PAIRS:
        return sum(_count_entries(form.get(part)) for part in PAIRS[kind])
    if kind == "mlp":
        features, hidden = check_count("features", form.get("features"), MAX_COLUMNS), form.get("hidden")
        octaves = form.get("fourier")
        if not isinstance(hidden, list) or len(hidden) > MAX_LAYERS or type(octaves) is not int or octaves < 0:
            raise errors.invalid("hidden", f"hidden must be at most {MAX_LAYERS} widths, fourier a number of octaves")
        widths = [features * (1 + 2 * octaves), *(check_count("hidden", width, MAX_COLUMNS) for width in hidden), 1]
        return sum(a * b for a, b in pairwise(widths))
    shape = form.get("event_shape")
    if kind not in DENSITIES or not isinstance(shape, list) or len(shape) != 1:
        raise errors.invalid("modules", "modules must be a perceptron that tilts Gaussians, mixtures or kernels")
    d = check_count("event_shape", shape[0], MAX_COLUMNS)
    count = check_count(DENSITIES[kind], form.get(DENSITIES[kind]), MAX_POINTS) if DENSITIES[kind] else 1
    return d * d * count if kind == "mixture" else d * d + d * count


async def log_density(service: TrainingService, request: Any, context: Context) -> None:
    """Answer a `LogDensity` call."""
    upload = service.upload(context)
    header: pb.LogDensityHeader = await upload.header()
    with service.admitted():
        model = await service.run_beside(lambda: service.load(header.model))
        announced = announce_features(header.features, model.n_features_in_, service.settings)
        features = await upload.array("features", announced)
        await upload.end()
        output = await service.run_beside(lambda: _score(model, features))
        verdict = model.verdict_
        await write_output(service, context, output, "LogDensity", trusted=verdict.trusted, reason=verdict.reason)


def _score(model: EnergyDensity, features: NDArray[Any]) -> NDArray[np.float64]:
    check_finite("features", features)
    with warnings.catch_warnings():
        # The verdict travels with the answer.
        warnings.simplefilter("ignore")
        return np.ascontiguousarray(model.score_samples(features), np.float64)


async def sample(service: TrainingService, request: pb.SampleEnergyRequest, context: Context) -> None:
    """Answer a `Sample` call."""
    with service.admitted():
        model = await service.run_beside(lambda: service.load(request.model))
        count, columns = request.count, model.n_features_in_
        if count < 1:
            raise errors.invalid("count", f"count must be at least 1, got {count}")
        check_bytes(count * columns, service.settings)
        seed = draw_seed(request)
        rows = np.empty((count, columns))
        header = pb.SampleEnergyReplyHeader(rows=tensors.describe_array(rows), random_state=seed)
        await context.write(pb.SampleEnergyReply(header=header))
        # In pieces, so that drawing ends when the caller has gone.
        for number, first in enumerate(range(0, count, DRAWN_AT_ONCE)):
            last = min(first + DRAWN_AT_ONCE, count)
            rows[first:last] = await service.run_beside(lambda n=number, k=last - first: _draw(model, k, seed, n))  # type: ignore[misc]
        for part in tensors.split_array(rows):
            await context.write(pb.SampleEnergyReply(rows=part))


def _draw(model: EnergyDensity, count: int, seed: int, number: int) -> NDArray[np.float64]:
    """Return the `number`-th piece of the samples of a seed; the first one is what the model itself would draw."""
    piece = seed if number == 0 else int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    return model.sample(count, random_state=piece)


async def log_partition(service: TrainingService, request: pb.LogPartitionRequest, _: Context) -> Any:
    """Answer a `LogPartition` call."""
    with service.admitted():
        model = await service.run_beside(lambda: service.load(request.model))
        seed = draw_seed(request)
        method = await service.run_beside(lambda: _method_of(request, model))

        def estimate() -> LogPartition:
            from relaxon.neuromorphic.energy import log_partition as estimate_log_partition

            return estimate_log_partition(model.energy_, method, seed)

        return estimate_message(await service.run_beside(estimate, service.engines))


def _method_of(request: pb.LogPartitionRequest, density: EnergyDensity) -> Method:
    """Return the method that is asked for, with the model's own noise."""
    from relaxon.neuromorphic.energy import AIS, Bridge, ImportanceSampling

    noise: Any = density.noise_
    which = request.WhichOneof("method")
    if which == "annealed":
        return AIS(noise, _size_of("paths", request.annealed.paths, 1000, MAX_PATHS))
    if which == "bridge":
        draws = _size_of("draws", request.bridge.draws, 1000, MAX_DRAWS // CHAINS)
        with errors.refusing():
            return Bridge(noise, chains=CHAINS, draws=draws, warm_up=WARM_UP)
    return ImportanceSampling(noise, _size_of("draws", request.importance.draws, 10_000, MAX_DRAWS))


def _size_of(name: str, value: int, default: int, most: int) -> int:
    if value < 0:
        raise errors.invalid(name, f"{name} must not be negative, got {value}")
    check_most(name, value, most)
    return value or default


ENGINE = TrainingEngine(
    module=__name__,
    wire=WIRE,
    training=pb.EnergyTraining,
    needs=("torch", "numba", "sklearn", "safetensors"),
    extra="neuromorphic",
    plan=plan,
    train=train,
    step="report",
    # The optimisers of torch import its compiler at their first step.
    imports=("relaxon.neuromorphic.energy.estimators.density", "torch._dynamo"),
    load=load_later("relaxon.neuromorphic.energy", "load_estimator"),
    describe=describe,
    check=check,
    probe=lambda model: model._evaluate_log_density(np.zeros((1, model.n_features_in_))),
    calls={"LogDensity": log_density, "Sample": sample, "LogPartition": log_partition},
)
