"""The result of an estimator: the gradient of every parameter, and whether it can be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from torch import Tensor

from relaxon.neuromorphic.equilibrium.relaxation.relaxers import Outcome, Relaxation


class Verdict(Enum):
    """Whether the conditions under which an estimator is valid were met.

    `OK` does not exclude the bias of a finite nudge, of which `Gradient.truncation` is an estimate.
    """

    OK = "ok"
    FREE_PHASE_UNCONVERGED = "free_phase_unconverged"
    """The free phase had not converged when the nudge began."""
    NUDGED_PHASE_UNCONVERGED = "nudged_phase_unconverged"
    """A nudged state (or the adjoint, for the reference methods) had not converged when it was read."""
    NOT_ANALYTIC = "not_analytic"
    """The nudged states are inconsistent with an analytic function: the radius is too large."""
    NON_FINITE = "non_finite"
    """A state diverged or is NaN; the gradient may be as well."""
    NOISY = "noisy"
    """The states carry noise, which dominates the residuals."""


@dataclass(frozen=True, slots=True)
class Gradient:
    """The gradient of a batch's mean loss, as an estimator measured it.

    `gradients` has an entry for each parameter that requires a gradient, by its name in the network.
    """

    gradients: dict[str, Tensor]
    verdict: Verdict
    message: str
    """The reason for the verdict; empty where it is `OK`."""
    loss: float
    """Mean loss at the free equilibrium."""
    scores: Tensor = field(repr=False)
    """The network's outputs at the free equilibrium, `(batch, outputs)`."""
    free: Relaxation = field(repr=False)
    nudged: Relaxation | None = field(repr=False)
    """The nudged phase of an estimator that has one."""
    truncation: float | None
    """An estimate of the relative error due to the finite number N of contour points: the mean over the contour differs
    from the free state by `c_N |β|^N`. None for fewer than two points."""
    asymmetry: float | None
    """`‖Jv − Jᵀv‖ / ‖Jv‖` of the coupling for a random v, for estimators that assume a symmetric J: a value far from 0
    means a bias at any radius and number of points. None for other estimators."""
    evaluations: int
    """Evaluations of the vector field, counted in real samples; a complex state counts as two."""

    @property
    def ok(self) -> bool:
        return self.verdict is Verdict.OK

    def norm(self) -> float:
        """Return the norm of the gradient over all parameters."""
        return math.sqrt(sum(float(g.double().square().sum()) for g in self.gradients.values()))


@dataclass(frozen=True, slots=True)
class AdjointReading:
    """The measured adjoint δ, with `dL/dθ = (∂F/∂θ)ᵀ δ` at the free state, and how it was measured."""

    adjoint: Tensor
    nudged: Relaxation | None
    truncation: float | None
    evaluations: int
    points: int = 1
    asymmetry: float | None = None


def judge(
    free: Relaxation, nudged: Relaxation | None, truncation: float | None, points: int, finite: bool
) -> tuple[Verdict, str]:
    """Return the verdict of the first condition that was not met, and the reason."""
    phases = [("free", free)] + ([("nudged", nudged)] if nudged is not None else [])
    for name, phase in phases:
        if phase.outcome is Outcome.NON_FINITE:
            return (
                Verdict.NON_FINITE,
                f"the {name} phase diverged: residual {phase.residual:.1e} after {phase.steps} steps",
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
            return found, f"the {name} phase did not converge: {why}"
    largest = LARGEST_TRUNCATION_OF_TWO if points == 2 else LARGEST_TRUNCATION
    if truncation is not None and not truncation <= largest:
        return Verdict.NOT_ANALYTIC, (
            f"the contour's mean differs from the free state by {truncation:.1e} of the first-order term (at most "
            f"{largest:g} is accepted): the nudge is too large"
        )
    return Verdict.OK, ""


LARGEST_TRUNCATION, LARGEST_TRUNCATION_OF_TWO = 0.05, 0.2
"""Largest accepted truncation. At the radius of analyticity the terms `c_N |β|^N` no longer decrease with N. With N = 2
the difference is of second order and the error of third, about the square of the difference."""
