"""The messages of `convex.proto` as arguments of the estimators, checked before the arrays are uploaded, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from relaxon.proto import convex_pb2 as pb
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors
from relaxon.server.jobs.operations_service import job_message, timestamp
from relaxon.server.jobs.records import Job, Json
from relaxon.server.training import labels as classes
from relaxon.server.training.boosting_messages import (
    FLOAT_BYTES,
    MAX_COLUMNS,
    MAX_OUTPUTS,
    AnnouncedRows,
    TrainPlan,
    announced,
    check_bytes,
    seed,
)
from relaxon.server.training.convex_task import KIND, estimator_of

if TYPE_CHECKING:
    from relaxon.neuromorphic.convex import ConvexNetworkClassifier, ConvexNetworkRegressor

MAX_REFINEMENTS = 1000
MAX_ITERATIONS = 1_000_000
"""Of all programs of a job: every tenth is reported, and each report is kept in the database."""
OUTCOMES = {
    "CONVERGED": pb.CONVEX_OUTCOME_CONVERGED,
    "ITERATION_LIMIT": pb.CONVEX_OUTCOME_ITERATION_LIMIT,
    "INTERRUPTED": pb.CONVEX_OUTCOME_CANCELLED,
    "NOT_FINITE": pb.CONVEX_OUTCOME_NON_FINITE,
}


def plan(header: pb.TrainConvexHeader, settings: ServerSettings) -> TrainPlan:
    """What a header asks for; INVALID_ARGUMENT naming the argument, RESOURCE_EXHAUSTED where it is too large."""
    rows = announced(header)
    given = {descriptor.name: value for descriptor, value in header.settings.ListFields()}
    request = {
        "kind": KIND,
        "parameters": {**given, "random_state": seed(header.settings)},
        "classes": rows.classes,
    }
    try:
        estimator = estimator_of(request)
        estimator.check_parameters()
    except (ValueError, TypeError) as error:
        raise errors.refused(error) from error
    _check_size(rows, estimator, settings)
    return TrainPlan(rows, request)


def model_message(
    name: str, created: float, model: ConvexNetworkRegressor | ConvexNetworkClassifier, whole: bool = True
) -> pb.ConvexModel:
    """A stored model; `whole` with the fields that can be long."""
    labels = getattr(model, "classes_", None)
    message = pb.ConvexModel(
        name=name,
        create_time=timestamp(created),
        classifier=labels is not None,
        n_features=model.n_features_in_,
        outputs=model.network_.output.shape[1] if labels is None else 0,
        class_count=0 if labels is None else len(labels),
        units=model.n_units_,
        iterations=model.n_iter_,
        loss=model.loss,
        beta=model.beta,
        epsilon=model.epsilon,
        outcome=OUTCOMES[model.outcome_.name],
        certificate=pb.ConvexCertificate(**asdict(model.certificate_)),
    )
    if whole:
        if labels is not None:
            message.classes.CopyFrom(classes.of(labels))
        history = {name: array.tolist() for name, array in asdict(model.history_).items()}
        message.history.CopyFrom(pb.ConvexHistory(**history))
    return message


def progress_message(progress: Json) -> pb.ConvexProgress:
    """What a worker process said of the bounds."""
    return pb.ConvexProgress(**progress)


def metadata(job: Job, newest: Json | None) -> pb.ConvexTraining:
    """The metadata of a job's operation."""
    return pb.ConvexTraining(job=job_message(job), progress=None if newest is None else progress_message(newest))


def _check_size(rows: AnnouncedRows, estimator: Any, settings: ServerSettings) -> None:
    """Refuse what takes more memory, or tells of more steps, than this server gives to one job."""
    from relaxon.neuromorphic.convex.solving.refinement import DIRECTIONS

    count, columns = rows.features.shape
    outputs = rows.outputs
    rounds = estimator.refinements if estimator.program == "patterns" else 0
    patterns = estimator.n_patterns * (rounds + 1)
    for name, value, most, what in (
        ("features", columns, MAX_COLUMNS, "features' columns"),
        ("target", outputs, MAX_OUTPUTS, "target's outputs"),
        ("refinements", rounds, MAX_REFINEMENTS, "refinements"),
        ("n_patterns", patterns, settings.max_units, "n_patterns, in all rounds of refinement,"),
        ("max_iter", estimator.max_iter * (rounds + 1), MAX_ITERATIONS, "max_iter, in all rounds of refinement,"),
    ):
        if value > most:
            raise errors.exhausted(name, f"{what} must be at most {most} here, got {value}")
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
