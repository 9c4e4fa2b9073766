"""What an estimator gives back: the gradient of every parameter, and whether it can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from torch import Tensor

from relaxon.neuromorphic.equilibrium.relaxation.relaxers import Outcome, Relaxation


class Verdict(Enum):
    """Whether the conditions under which an estimator is valid were met.

    `OK` says that they were, not that a finite nudge is without bias: see `Gradient.truncation` for that.
    """

    OK = "ok"
    FREE_PHASE_UNCONVERGED = "free_phase_unconverged"
    """The free phase had not come to rest when the nudge began."""
    NUDGED_PHASE_UNCONVERGED = "nudged_phase_unconverged"
    """A nudged state (or the adjoint, for the reference methods) had not come to rest when it was read."""
    NOT_ANALYTIC = "not_analytic"
    """The nudged states do not look like values of an analytic function: the radius is too large."""
    NON_FINITE = "non_finite"
    """Some state ran away or is NaN; so may the gradient be."""
    NOISY = "noisy"
    """Noise on the states was asked for: what the residuals say is the noise."""


@dataclass(frozen=True, slots=True)
class Gradient:
    """Gradient of the mean loss of a batch, as an estimator sees it.

    `gradients` has an entry for each parameter that requires one, by its name in the network.
    """

    gradients: dict[str, Tensor]
    verdict: Verdict
    message: str
    """Which figure decided the verdict; empty where it is `OK`."""
    loss: float
    """Mean loss at the free equilibrium."""
    scores: Tensor = field(repr=False)
    """What the network says at the free equilibrium, `(batch, outputs)`."""
    free: Relaxation = field(repr=False)
    nudged: Relaxation | None = field(repr=False)
    """The nudged phase of an estimator that has one."""
    truncation: float | None
    """Estimate of the relative error that the finite number of contour points leaves, from the contour itself: its
    mean misses the free state by `c_N |β|^N`. None where there is no contour of two points or more."""
    asymmetry: float | None
    """`‖Jv − Jᵀv‖ / ‖Jv‖` of the coupling for a random v, where the estimator takes J for symmetric: what is far from 0
    here biases it at any radius and number of points. None where it does not matter."""
    evaluations: int
    """Evaluations of the vector field, in real samples: a complex state counts as two."""

    @property
    def ok(self) -> bool:
        return self.verdict is Verdict.OK

    def norm(self) -> float:
        """Length of the gradient over all parameters."""
        return math.sqrt(sum(float(g.double().square().sum()) for g in self.gradients.values()))


@dataclass(frozen=True, slots=True)
class AdjointReading:
    """What an estimator measured: δ with `dL/dθ = (∂F/∂θ)ᵀ δ` at the free state, and how."""

    adjoint: Tensor
    nudged: Relaxation | None
    truncation: float | None
    evaluations: int
    points: int = 1
    asymmetry: float | None = None


def verdict(
    free: Relaxation, nudged: Relaxation | None, truncation: float | None, points: int, finite: bool
) -> tuple[Verdict, str]:
    """The first condition that was not met."""
    phases = [("free", free)] + ([("nudged", nudged)] if nudged is not None else [])
    for name, phase in phases:
        if phase.outcome is Outcome.NON_FINITE:
            return (
                Verdict.NON_FINITE,
                f"the {name} phase ran away: residual {phase.residual:.1e} after {phase.steps} steps",
            )
    if not finite:
        return Verdict.NON_FINITE, "the gradient has NaN or infinite entries"
    if any(phase.outcome is Outcome.NOISY for _, phase in phases):
        return Verdict.NOISY, "the states carry noise"
    for (name, phase), found in zip(
        phases, (Verdict.FREE_PHASE_UNCONVERGED, Verdict.NUDGED_PHASE_UNCONVERGED), strict=False
    ):
        if phase.outcome is not Outcome.CONVERGED:
            why = f"residual {phase.residual:.1e} above {phase.tolerance:.1e} after {phase.steps} steps"
            return found, f"the {name} phase did not come to rest: {why}"
    largest = LARGEST_TRUNCATION_OF_TWO if points == 2 else LARGEST_TRUNCATION
    if truncation is not None and not truncation <= largest:
        return Verdict.NOT_ANALYTIC, (
            f"the contour's mean misses the free state by {truncation:.1e} of the first-order term (at most "
            f"{largest:g} is taken): the nudge is too large"
        )
    return Verdict.OK, ""


LARGEST_TRUNCATION, LARGEST_TRUNCATION_OF_TWO = 0.05, 0.2
"""At the edge of analyticity the terms `c_N |β|^N` no longer fall, however many points there are. With N = 2 the miss
is of second order and the error of third, about the square of the miss."""
