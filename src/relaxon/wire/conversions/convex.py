"""Convex networks as they travel: settings, data, bounds of the optimum, stored models with their certificates."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import errors
from relaxon.proto import convex_pb2 as pb
from relaxon.wire import tensors
from relaxon.wire.conversions import labels
from relaxon.wire.conversions.engine import Engine
from relaxon.wire.conversions.supervised import Requests, Task, checked_task, filled
from relaxon.wire.conversions.tables import plain, sent, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
_OUTPUTS = {
    "predict": pb.CONVEX_OUTPUT_PREDICTION,
    "predict_proba": pb.CONVEX_OUTPUT_PROBABILITIES,
    "decision_function": pb.CONVEX_OUTPUT_DECISION,
}


@dataclass(frozen=True, slots=True)
class ConvexSettings:
    """The parameters of the estimators in `relaxon.neuromorphic.convex`; what is None has its value there."""

    n_patterns: int | None = None
    beta: float | None = None
    loss: Literal["squared", "logistic", "hinge"] | None = None
    program: Literal["patterns", "units"] | None = None
    refinements: int | None = None
    epsilon: float | None = None
    tol: float | None = None
    max_iter: int | None = None
    largest_factor: int | None = None
    certificate_draws: int | None = None
    random_state: int | None = None

    def message(self) -> pb.ConvexSettings:
        """As it is sent; TypeError or ValueError naming what cannot be."""
        message = pb.ConvexSettings()
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                setattr(message, field.name, plain(field.name, value, str(field.type)))
        return message


@dataclass(frozen=True, slots=True)
class BoundsProgress:
    """The best bounds of the optimum so far, every few iterations of a training."""

    report: int
    iteration: int
    primal: float
    dual: float
    relative_gap: float
    primal_residual: float
    dual_residual: float
    seconds: float


@dataclass(frozen=True, slots=True)
class OptimalityCertificate:
    """Bounds of the optimum of the *sampled* program, and how far the dual of all patterns is violated.

    Attributes
    ----------
    program : what was sampled: "sampled patterns" or "sampled units".
    primal : the objective of the network, an upper bound of the sampled program's optimum.
    dual : a lower bound of it.
    gap, relative_gap : primal − dual, and that divided by primal.
    sampled : patterns or units in the program.
    constraint_violation : the most by which a row leaves a pattern's cone, relative to the norms.
    drawn : patterns or units drawn anew after training, none of them in the program.
    drawn_violation : by how much the largest of their dual norms is above β, as a share of β.
    drawn_violating : share of them that violate the dual.
    drawn_dual : a lower bound of the optimum with sampled and drawn ones together.
    """

    program: str
    primal: float
    dual: float
    gap: float
    relative_gap: float
    sampled: int
    constraint_violation: float
    drawn: int
    drawn_violation: float
    drawn_violating: float
    drawn_dual: float


@dataclass(frozen=True, slots=True)
class BoundsHistory:
    """What was measured at each check, `(checks,)`: bounds are the best so far, residuals relative."""

    iteration: NDArray[np.int64]
    primal: Array
    dual: Array
    primal_residual: Array
    dual_residual: Array
    rho: Array


@dataclass(frozen=True, slots=True)
class ConvexModel:
    """A convex network that the server has stored."""

    name: str
    created: datetime
    task: Task
    n_features: int
    outputs: int
    """Of a regression; 0 for a classification."""
    class_count: int
    units: int
    iterations: int
    loss: str
    beta: float
    epsilon: float
    outcome: str
    """How training ended: "converged", "iteration_limit", "cancelled" or "non_finite"."""
    certificate: OptimalityCertificate
    classes: NDArray[Any] | None
    """From here on what `models` leaves empty."""
    history: BoundsHistory

    def plot(self) -> Figure:
        """A picture: both bounds and their gap at each check. Needs matplotlib.

        ValueError for a model of a list, which leaves the history out.
        """
        from relaxon.core.pictures import training_picture

        bounds = {"primal": self.history.primal, "dual": self.history.dual}
        gap = {"gap": self.history.primal - self.history.dual}
        return training_picture(
            self.name, "check", {"bounds of the optimum": bounds, "primal − dual": gap}, np.zeros(0)
        )

    def _repr_html_(self) -> str:
        from relaxon.core.html import table

        kind = f"{self.task}, {self.class_count or self.outputs} {'classes' if self.class_count else 'outputs'}"
        found = self.certificate
        rows = {
            "task": f"{kind}, {self.n_features} columns",
            "units": f"{self.units} of {found.sampled} {found.program}",
            "objective": f"{found.primal:.6g}, optimum at least {found.dual:.6g}: gap {found.relative_gap:.1e}",
            "newly drawn": f"{found.drawn}, of which {found.drawn_violating:.0%} violate the dual",
            "training": f"{self.outcome} after {self.iterations} iterations, {self.loss} loss, β = {self.beta:g}",
            "created": f"{self.created:%Y-%m-%d %H:%M} UTC",
        }
        return table(f"convex network {self.name!r}", rows)


def train_requests(
    X: ArrayLike,
    y: ArrayLike,
    task: str,
    settings: ConvexSettings | None,
    sample_weight: ArrayLike | None,
    model: str,
    request_id: str,
) -> Requests:
    """The messages that have a network trained; InvalidArgument where they can be refused here."""
    with errors.refusals():
        checked_task(task)
        if settings is not None and not isinstance(settings, ConvexSettings):
            raise TypeError(f"settings must be ConvexSettings, got {type(settings).__name__}")
        header = pb.TrainConvexHeader(settings=(settings or ConvexSettings()).message())
        return filled(header, pb.TrainConvexRequest, X, y, task, sample_weight, model, request_id)


def predict_requests(output: str, model: str | ConvexModel, X: ArrayLike) -> tuple[Requests, int]:
    """The messages that ask for a prediction, and the rows that it will have."""
    with errors.refusals():
        features = table("X", X, missing=False)
        header = pb.PredictConvexHeader(
            model=ENGINE.name_of(model), output=_OUTPUTS[output], features=tensors.header_of(features)
        )
    return partial(sent, pb.PredictConvexRequest, header, {"features": features}), len(features)


def model_of(message: pb.ConvexModel) -> ConvexModel:
    """A stored model from its message."""
    return ConvexModel(
        name=message.name,
        created=message.create_time.ToDatetime(UTC),
        task="classification" if message.classifier else "regression",
        n_features=message.n_features,
        outputs=message.outputs,
        class_count=message.class_count,
        units=message.units,
        iterations=message.iterations,
        loss=message.loss,
        beta=message.beta,
        epsilon=message.epsilon,
        outcome=pb.ConvexOutcome.Name(message.outcome).removeprefix("CONVEX_OUTCOME_").lower(),
        certificate=OptimalityCertificate(
            **{field.name: getattr(message.certificate, field.name) for field in fields(OptimalityCertificate)}
        ),
        classes=labels.decoded(message.classes),
        history=BoundsHistory(
            iteration=np.array(message.history.iteration, np.int64),
            primal=np.array(message.history.primal, np.float64),
            dual=np.array(message.history.dual, np.float64),
            primal_residual=np.array(message.history.primal_residual, np.float64),
            dual_residual=np.array(message.history.dual_residual, np.float64),
            rho=np.array(message.history.rho, np.float64),
        ),
    )


def step_of(message: pb.ConvexProgress) -> BoundsProgress:
    """A report from its message."""
    return BoundsProgress(**{field.name: getattr(message, field.name) for field in fields(BoundsProgress)})


ENGINE = Engine(
    watch=pb.WatchConvexRequest,
    get=pb.GetConvexModelRequest,
    list=pb.ListConvexModelsRequest,
    delete=pb.DeleteConvexModelRequest,
    message=pb.ConvexModel,
    model=ConvexModel,
    told=model_of,
    step=step_of,
)
