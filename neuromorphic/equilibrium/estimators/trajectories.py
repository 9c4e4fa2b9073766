"""Equilibrium propagation for time-varying inputs: gradients of a cost of the trajectories of a Lagrangian system.

A trajectory q makes the action `A(q, θ) = ∫ L(q, q̇, x(t); θ) dt` stationary, where it is periodic or has both its ends
held. Let `q_β` make `A + βC` stationary for a cost `C = ∫ c(q, y(t)) dt`. As for an energy's equilibria, the two mixed
derivatives of `A(q_β) + βC(q_β)` are equal, so that `dC/dθ = d/dβ ∂A/∂θ(q_β)` at `β = 0`: no adjoint is integrated
backwards in time. With other conditions, such as a given initial velocity, terms of the boundary remain.

Time is discrete: `A = Σ_k h L(q_k, (q_{k+1} − q_k)/h, x_k)` (a variational integrator), for which this holds exactly.
Sources of the principle and of the boundaries: Massar 2025, "Equilibrium propagation for learning in Lagrangian
dynamical systems"; Pourcel, Basu, Ernoult and Gilra 2025, "Lagrangian-based equilibrium propagation".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from relaxon.core import validation
from relaxon.neuromorphic.equilibrium.networks.network import all_finite

MAX_UNKNOWNS = 4000
"""Steps times units: Newton's method takes the dense Hessian of the action."""
Cost = Callable[[Tensor, Tensor], Tensor]
"""The cost of each step, `(q (steps, units), target (steps, …)) → (steps,)`."""


@dataclass(frozen=True, slots=True)
class TrajectoryGradient:
    """The gradient of the cost by each parameter of the Lagrangian, and the free trajectory `(steps, units)`.

    `residual` is the largest entry of the action's gradient, divided by the time step, on the three trajectories;
    `converged` whether it is within the tolerance. Where it is not, there may be no such trajectory, or a degenerate
    one: one with a neighbour that is stationary too (resonance, conjugate points).
    """

    gradients: dict[str, Tensor]
    cost: float
    trajectory: Tensor
    residual: float
    converged: bool


@dataclass(frozen=True, slots=True)
class TrajectoryProblem:
    """A Lagrangian system on `len(drive)` steps of size `step`.

    Parameters
    ----------
    lagrangian : a module `(q, velocity, x) → (steps,)` of tensors `(steps, units)` and `(steps, …)`, in double
        precision.
    cost : see `Cost`.
    drive, target : the input x and the target y at each step.
    units : degrees of freedom.
    ends : None for periodic trajectories; otherwise the positions `(units,)` before the first and after the last step.

    >>> import torch
    >>> from relaxon.neuromorphic.equilibrium import TrajectoryProblem
    >>> class Oscillator(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.stiffness = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    ...     def forward(self, q, velocity, x):
    ...         return (0.5 * velocity.square() - 0.5 * self.stiffness * q.square() + x * q).sum(-1)
    >>> time = torch.arange(40, dtype=torch.float64)[:, None] * 0.25
    >>> problem = TrajectoryProblem(
    ...     Oscillator(), lambda q, y: 0.5 * (q - y).square().sum(-1),
    ...     torch.cos(0.2 * torch.pi * time), torch.zeros_like(time), units=1, step=0.25)
    >>> found = problem.gradient(beta=1e-3)
    >>> found.converged, sorted(found.gradients)
    (True, ['stiffness'])
    """

    lagrangian: nn.Module
    cost: Cost
    drive: Tensor
    target: Tensor
    units: int
    step: float
    ends: tuple[Tensor, Tensor] | None = None

    def __post_init__(self) -> None:
        validation.positive_int("units", self.units)
        validation.positive_float("step", self.step)
        for name in ("drive", "target"):
            value = getattr(self, name)
            if (
                value.ndim == 0
                or len(value) != len(self.drive)
                or value.dtype != torch.float64
                or not all_finite(value)
            ):
                raise ValueError(f"{name} must be finite float64 of {len(self.drive)} steps, got {tuple(value.shape)}")
        if not 2 <= len(self.drive) * self.units <= MAX_UNKNOWNS:
            raise ValueError(f"drive must have from 2 to {MAX_UNKNOWNS} steps times units, got {len(self.drive)} steps")
        for place, end in enumerate(self.ends or ()):
            if end.shape != (self.units,) or end.dtype != torch.float64 or not all_finite(end):
                raise ValueError(f"ends[{place}] must be finite float64 ({self.units},), got shape {tuple(end.shape)}")

    def action(self, q: Tensor) -> Tensor:
        """Return the action of a trajectory `(steps, units)`, without the cost."""
        if self.ends is None:
            return self.step * self._lagrangians(q, torch.roll(q, -1, 0), self.drive)
        first, last = self.ends
        before = self._lagrangians(first[None], q[:1], self.drive[:1])
        return self.step * (before + self._lagrangians(q, torch.cat([q[1:], last[None]]), self.drive))

    def _lagrangians(self, q: Tensor, after: Tensor, x: Tensor) -> Tensor:
        total: Tensor = self.lagrangian(q, (after - q) / self.step, x).sum()
        return total

    def total_cost(self, q: Tensor) -> Tensor:
        return self.step * self.cost(q, self.target).sum()

    def solve(
        self, beta: float = 0.0, start: Tensor | None = None, *, tolerance: float = 1e-10, iterations: int = 50
    ) -> tuple[Tensor, float]:
        """Return the trajectory that makes `A + βC` stationary, by Newton's method, and its residual."""

        def nudged(flat: Tensor) -> Tensor:
            q = flat.view(len(self.drive), self.units)
            return self.action(q) + (beta * self.total_cost(q) if beta else 0.0)

        q = self.drive.new_zeros(len(self.drive) * self.units) if start is None else start.flatten()
        for _ in range(iterations):
            slope = torch.func.grad(nudged)(q).detach()
            if not float(slope.abs().max()) > tolerance * self.step:
                break
            moved, failed = torch.linalg.solve_ex(torch.func.hessian(nudged)(q).detach(), slope)
            if failed or not all_finite(moved):
                break
            q = q - moved
        residual = float(torch.func.grad(nudged)(q).detach().abs().max()) / self.step
        return q.view(len(self.drive), self.units), residual

    def gradient(
        self, beta: float = 1e-3, *, start: Tensor | None = None, tolerance: float = 1e-10
    ) -> TrajectoryGradient:
        """Return `dC/dθ`, measured on the trajectories nudged by ±β; the error is of second order in β.

        `start` is where Newton's method starts, the zero trajectory by default.
        """
        validation.positive_float("beta", beta)
        validation.positive_float("tolerance", tolerance)
        named = {name: one for name, one in self.lagrangian.named_parameters() if one.requires_grad}
        if not named:
            raise ValueError("lagrangian must have parameters that require a gradient, got none")
        free, residual = self.solve(0.0, start, tolerance=tolerance)
        found, residuals = {name: torch.zeros_like(one) for name, one in named.items()}, [residual]
        for sign in (1.0, -1.0):
            q, residual = self.solve(sign * beta, free, tolerance=tolerance)
            residuals.append(residual)
            slopes = torch.autograd.grad(self.action(q), list(named.values()), allow_unused=True)
            for name, slope in zip(named, slopes, strict=True):
                if slope is not None:
                    found[name] += slope * (sign / (2 * beta))
        worst = math.nan if any(map(math.isnan, residuals)) else max(residuals)
        with torch.no_grad():
            cost = float(self.total_cost(free))
        return TrajectoryGradient(found, cost, free, worst, worst <= tolerance)
