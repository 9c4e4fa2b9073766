"""Reference gradients for the estimators, computed without nudges."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relaxon.core import validation
from relaxon.implicit import DerivativeVerdict, ImplicitOptions, implicit
from relaxon.neuromorphic.equilibrium.estimators.nudged import Estimator, FreePhase
from relaxon.neuromorphic.equilibrium.estimators.result import AdjointReading
from relaxon.neuromorphic.equilibrium.networks.network import Network, parameter_gradients
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import Relaxation, Relaxer, judge_residual, largest


@dataclass(frozen=True, slots=True)
class Implicit(Estimator):
    """The exact gradient: `Jᵀδ = −g`, solved by GMRES to a relative residual of `tolerance`.

    A `tolerance` of None is that of the dtype: 1e-5 in single and 1e-12 in double precision.
    """

    tolerance: float | None = None
    steps: int = 400
    name: ClassVar[str] = "implicit"

    def __post_init__(self) -> None:
        validation.positive_int("steps", self.steps)
        if self.tolerance is not None:
            validation.positive_float("tolerance", self.tolerance)

    @property
    def label(self) -> str:
        return "Implicit()"

    def read(self, free: FreePhase) -> AdjointReading:
        tolerance = self.tolerance or (1e-5 if free.rates.dtype == torch.float32 else 1e-12)
        verdicts: list[DerivativeVerdict] = []
        options = ImplicitOptions(
            method="gmres",
            rtol=tolerance,
            root_rtol=math.inf,  # the free phase is judge_residual by its own tolerance
            max_iterations=self.steps,
            error_estimate="none",
            on_unconverged="record",
        )
        at_rest = implicit(
            lambda state, *_: state,
            lambda state, push, network: network.field(state, free.drive) + push,
            options=options,
            constants=("network",),
            batch_dims=1,
            on_verdict=verdicts.append,
        )
        # δ is the derivative of the loss at the equilibrium with respect to a push on each unit.
        side = free.network.activation.derivative(free.state) * free.network.nudge(free.rates, free.target)
        with torch.enable_grad():
            push = torch.zeros_like(free.state, requires_grad=True)
            (delta,) = torch.autograd.grad(at_rest(free.state, push, free.network), push, side)
        (verdict,) = verdicts
        residual = verdict.linear_residual
        relaxed = Relaxation(delta, residual, tolerance, verdict.products, judge_residual(residual, tolerance))
        return AdjointReading(delta, relaxed, None, verdict.products * len(side))


@dataclass(frozen=True, slots=True)
class RecurrentBackprop(Estimator):
    """The adjoint, relaxed like a state by `δ ← δ + step (φ'(Jᵀδ + g))`; `relaxer` is the nudged phase's where None.

    Source: Almeida 1987, Pineda 1987.
    """

    relaxer: Relaxer | None = None
    name: ClassVar[str] = "recurrent-backprop"

    @property
    def label(self) -> str:
        return "RecurrentBackprop()"

    def read(self, free: FreePhase) -> AdjointReading:
        apply, side = adjoint_system(free)
        relaxer = self.relaxer or free.phases.nudge
        relaxed = relaxer.relax(lambda delta: side - apply(delta), torch.zeros_like(side))
        return AdjointReading(relaxed.state, relaxed, None, relaxed.steps * len(side))


@dataclass(frozen=True, slots=True)
class Unrolled(Estimator):
    """Backpropagation through time, over `steps` fixed steps of relaxation from the initial state.

    δ is not measured: automatic differentiation gives the whole gradient, which becomes exact as the steps grow.
    """

    steps: int = 60
    step: float = 1.0
    name: ClassVar[str] = "unrolled"

    def __post_init__(self) -> None:
        validation.positive_int("steps", self.steps)
        validation.positive_float("step", self.step)

    @property
    def label(self) -> str:
        return f"Unrolled({self.steps})"

    def read(self, free: FreePhase) -> AdjointReading:
        raise NotImplementedError("an unrolled gradient has no adjoint; see `unrolled_gradients`")

    def unrolled_gradients(self, network: Network, x: Tensor, target: Tensor) -> tuple[dict[str, Tensor], Relaxation]:
        """Return the gradient through the steps, and how close to rest their last state is."""
        drive = network.drive(x)
        u = network.start(drive)
        for _ in range(self.steps):
            u = u + self.step * network.field(u, drive)
        loss = network.loss(network.activation(u), target).mean()
        found = parameter_gradients(network, loss)
        with torch.no_grad():
            residual = largest(network.field(u, drive))
        tolerance = UNROLLED_TOLERANCE[u.dtype]
        return found, Relaxation(u.detach(), residual, tolerance, self.steps, judge_residual(residual, tolerance))


UNROLLED_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
"""Backpropagation through time does not require rest, but beyond this residual its gradient is that of another loss."""


def adjoint_system(free: FreePhase) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return K and the right-hand side of `K δ = φ'g`, the adjoint equation times φ', with `K = λ − φ' Pᵀ`."""
    network = free.network
    slope = network.activation.derivative(free.state)
    side = slope * network.nudge(free.rates, free.target)

    def apply(delta: Tensor) -> Tensor:
        return network.leak * delta - slope * network.couple_transpose(delta, free.rates, free.drive)

    return apply, side
