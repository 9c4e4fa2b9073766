"""Convex networks as they travel: settings, data, bounds of the optimum, stored models with their certificates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from relaxon.core.html import table as html_table
from relaxon.core.pictures import draw_training
from relaxon.proto import convex_pb2 as pb
from relaxon.wire.conversions.engine import EngineMessages
from relaxon.wire.conversions.fields import SettingsMessage, read_fields, read_model
from relaxon.wire.conversions.tables import Task, task_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ConvexSettings(SettingsMessage):
    """The parameters of the estimators in `relaxon.neuromorphic.convex`; None keeps the default there."""

    _message: ClassVar[Any] = pb.ConvexSettings
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


@dataclass(frozen=True, slots=True)
class BoundsProgress:
    """The best bounds on the optimum so far, reported every few iterations."""

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
    """Bounds on the optimum of the *sampled* program, and by how much the dual of all patterns is violated.

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
    """What was measured at each check, arrays `(checks,)`: the best bounds so far, and relative residuals."""

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
    """The outputs of a regression; 0 for a classification."""
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
    """This field and the next one are empty in the lists of `models`."""
    history: BoundsHistory

    def plot(self) -> Figure:
        """Plot both bounds and their gap at each check. Needs matplotlib.

        ValueError for a model from a list, which has no history.
        """
        bounds = {"primal": self.history.primal, "dual": self.history.dual}
        gap = {"gap": self.history.primal - self.history.dual}
        return draw_training(self.name, "check", {"bounds of the optimum": bounds, "primal − dual": gap}, np.zeros(0))

    def _repr_html_(self) -> str:
        found = self.certificate
        rows = {
            "task": task_text(self),
            "units": f"{self.units} of {found.sampled} {found.program}",
            "objective": f"{found.primal:.6g}, optimum at least {found.dual:.6g}: gap {found.relative_gap:.1e}",
            "newly drawn": f"{found.drawn}, of which {found.drawn_violating:.0%} violate the dual",
            "training": f"{self.outcome} after {self.iterations} iterations, {self.loss} loss, β = {self.beta:g}",
            "created": f"{self.created:%Y-%m-%d %H:%M} UTC",
        }
        return html_table(f"convex network {self.name!r}", rows)


ENGINE = EngineMessages(
    kind="convex",
    service=pb.DESCRIPTOR.services_by_name["ConvexService"],
    files=("model.json", "network.safetensors"),
    model=ConvexModel,
    told=partial(read_model, ConvexModel),
    step=partial(read_fields, BoundsProgress),
)
