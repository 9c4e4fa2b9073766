"""The convex engine: two-layer ReLU networks with a certificate of optimality, trained on tables.

Imported on first use, for their weight: the estimators of `relaxon.neuromorphic.convex`.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from relaxon.proto import convex_pb2 as pb
from relaxon.server.gate import errors
from relaxon.server.jobs.model_files import read_safetensors
from relaxon.server.jobs.records import Json
from relaxon.server.jobs.worker import MODEL, Tell
from relaxon.server.training import stored_files
from relaxon.server.training.engine import TrainingEngine, TrainingPlan
from relaxon.server.training.limits import FLOAT_BYTES, MAX_COLUMNS, MAX_OUTPUTS, check_bytes, check_most
from relaxon.server.training.predictions import answer_rows, collect_supervised_fields
from relaxon.server.training.tables import AnnouncedRows, announce_rows, draw_seed, read_arrays
from relaxon.wire.conversions.convex import ENGINE as WIRE
from relaxon.wire.conversions.fields import collect_fields, read_settings

if TYPE_CHECKING:
    from relaxon.neuromorphic.convex import ConvexNetworkClassifier, ConvexNetworkRegressor, ConvexProgress
    from relaxon.server.config.settings import ServerSettings

TENSORS = WIRE.files[1]
MAX_REFINEMENTS = 1000
MAX_ITERATIONS = 1_000_000
"""Iterations of all programs of a job: every tenth is reported, and each report is kept in the database."""
HISTORY = [f"history_{name}" for name in pb.ConvexHistory.DESCRIPTOR.fields_by_name]
"""The stored arrays of what was measured during training."""
OUTCOMES = {
    "CONVERGED": pb.CONVEX_OUTCOME_CONVERGED,
    "ITERATION_LIMIT": pb.CONVEX_OUTCOME_ITERATION_LIMIT,
    "INTERRUPTED": pb.CONVEX_OUTCOME_CANCELLED,
    "NOT_FINITE": pb.CONVEX_OUTCOME_NON_FINITE,
}
"""By the names of the engine's outcomes."""


def plan(header: pb.TrainConvexHeader, settings: ServerSettings) -> TrainingPlan:
    """Return what a header asks for; see `TrainingEngine.plan`."""
    rows = announce_rows(header)
    request = {
        "kind": WIRE.kind,
        "parameters": {**read_settings(header.settings), "random_state": draw_seed(header.settings)},
        "classes": rows.classes,
    }
    with errors.refusing():
        estimator = build_estimator(request)
        estimator.check_parameters()
    _check_size(rows, estimator, settings)
    return TrainingPlan(rows.arrays, request, rows.check)


def train(folder: Path, request: Json, tell: Tell) -> None:
    """Train on the data of a job's folder; see `TrainingEngine.train`.

    There is no checkpoint: a run that was cut off starts again from its seed, repeats no report, and ends with the same
    bits.
    """
    estimator = build_estimator(request)
    arrays = read_arrays(folder, request)
    since, reports = time.perf_counter(), 0

    def watch(progress: ConvexProgress) -> bool:
        nonlocal reports
        reports += 1
        seconds = time.perf_counter() - since
        return tell(collect_fields(pb.ConvexProgress, progress, report=reports, seconds=seconds))

    estimator.fit(arrays["features"], arrays["target"], arrays.get("weights"), callback=watch)
    estimator.save(folder / MODEL)


def build_estimator(request: Json) -> Any:
    """Return the unfitted estimator of a request; ImportError where the server lacks what it needs."""
    from relaxon.neuromorphic.convex import ConvexNetworkClassifier, ConvexNetworkRegressor

    made: Any = ConvexNetworkRegressor() if request["classes"] is None else ConvexNetworkClassifier()
    return made.set_params(**request["parameters"])


def describe(model: ConvexNetworkRegressor | ConvexNetworkClassifier, whole: bool) -> pb.ConvexModel:
    """Return the message of a stored model; see `TrainingEngine.describe`."""
    message = pb.ConvexModel(
        **collect_supervised_fields(model, model.network_.output.shape[1], whole),
        units=model.n_units_,
        iterations=model.n_iter_,
        loss=model.loss,
        beta=model.beta,
        epsilon=model.epsilon,
        outcome=OUTCOMES[model.outcome_.name],
        certificate=pb.ConvexCertificate(**asdict(model.certificate_)),
    )
    if whole:
        history = {name: array.tolist() for name, array in asdict(model.history_).items()}
        message.history.CopyFrom(pb.ConvexHistory(**history))
    return message


def load(folder: Path) -> Any:
    """Read a stored model and check its parameters, some of which predictions use."""
    from relaxon.neuromorphic.convex import load as load_estimator

    model = load_estimator(folder)
    model.check_parameters()
    return model


def check(folder: Path, settings: ServerSettings) -> None:
    """Refuse an uploaded model by what its files say; see `TrainingEngine.check`."""
    _, columns = stored_files.read_card(folder)
    held = read_safetensors(TENSORS, folder / TENSORS)
    flat = ["shift", "scale", "target_shift", "target_unit", *HISTORY]
    axes = {"hidden": 2, "output": 2} | dict.fromkeys(flat, 1)
    stored_files.check_tensors(TENSORS, held, axes, {"history_iteration": "I64"})
    units, width = held.tensors["hidden"][1]
    outputs = held.tensors["output"][1][1]
    if width != columns + 1:
        raise errors.invalid(TENSORS, f"{TENSORS} must hold hidden with {columns + 1} columns, got {width}")
    check_most("outputs", outputs, MAX_OUTPUTS)
    # Each output has units of its own, two for each pattern.
    check_most("units", units, 2 * outputs * settings.max_units)
    check_most("bytes", 8 * held.entries(), settings.max_table_bytes)
    if len({held.tensors[name][1] for name in HISTORY}) > 1:
        raise errors.invalid(TENSORS, f"{TENSORS} must hold a history whose arrays have one length")


def _check_size(rows: AnnouncedRows, estimator: Any, settings: ServerSettings) -> None:
    """Refuse a run that takes more memory, or reports on more steps, than this server gives to one job."""
    from relaxon.neuromorphic.convex.solving.refinement import DIRECTIONS

    count, columns = rows.features.shape
    outputs = rows.outputs
    rounds = estimator.refinements if estimator.program == "patterns" else 0
    patterns = estimator.n_patterns * (rounds + 1)
    everywhere = "in all rounds of refinement,"
    check_most("features", columns, MAX_COLUMNS, "features' columns")
    check_most("target", outputs, MAX_OUTPUTS, "target's outputs")
    check_most("refinements", rounds, MAX_REFINEMENTS)
    check_most("n_patterns", patterns, settings.max_units, f"n_patterns, {everywhere}")
    check_most("max_iter", estimator.max_iter * (rounds + 1), MAX_ITERATIONS, f"max_iter, {everywhere}")
    check_bytes(count * (columns + outputs + 1), settings)
    width = columns + 1 if estimator.program == "patterns" else 1
    side = min(count, patterns * width) if estimator.epsilon == 0.0 else patterns * width
    for name, entries in (
        ("n_patterns", max(patterns, DIRECTIONS * estimator.n_patterns if rounds else 0) * count),
        ("n_patterns", 2 * outputs * patterns * width),
        ("certificate_draws", estimator.certificate_draws * count),
        ("largest_factor", min(side, estimator.largest_factor) ** 2),
        ("epsilon", count * outputs * (columns + 2) if estimator.epsilon > 0.0 else 0),
    ):
        if FLOAT_BYTES * entries > settings.max_table_bytes:
            raise errors.exhausted(
                name,
                f"{name} must be such that no array of the training has more than {settings.max_table_bytes} bytes "
                f"here, got {FLOAT_BYTES * entries} with {getattr(estimator, name)}",
            )


ENGINE = TrainingEngine(
    module=__name__,
    wire=WIRE,
    training=pb.ConvexTraining,
    needs=("scipy", "numba", "sklearn", "safetensors"),
    extra="server",
    plan=plan,
    train=train,
    step="report",
    imports=("relaxon.neuromorphic.convex.classifier", "relaxon.neuromorphic.convex.regressor"),
    load=load,
    describe=describe,
    check=check,
    probe=lambda model: model.predict(np.zeros((1, model.n_features_in_))),
    calls={"Predict": answer_rows},
)
