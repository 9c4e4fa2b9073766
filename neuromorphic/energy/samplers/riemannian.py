"""Hamiltonian Monte Carlo with a position-dependent metric (Girolami and Calderhead 2011)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relaxon.core import validation
from relaxon.neuromorphic.energy.noise.distributions import standard_normal
from relaxon.neuromorphic.energy.samplers.euclidean import HMC_ACCEPTANCE, AdaptiveSampler
from relaxon.neuromorphic.energy.samplers.transitions import DIVERGENT, Move, State, Target, select_state
from relaxon.neuromorphic.parameters import check_real

Metric = Callable[[Tensor], Tensor]
"""`(n, d) → (n, d, d)`, symmetric, positive definite and differentiable in x; each row depends on its own row only."""
REVERSED_WITHIN = 1e-3
"""Tolerance of the reversibility check, in standard deviations of the momentum, for float32 and float64. Unconverged
fixed points make a path irreversible, and its move is rejected."""


@dataclass(frozen=True)
class RiemannianHMC(AdaptiveSampler):
    """Hamiltonian Monte Carlo with the kinetic energy `½ pᵀG(x)⁻¹p + ½ log det G(x)`.

    `metric` is G; if it follows the curvature of the energy, steps are short where the density is narrow and long where
    it is wide. Paths follow the generalised leapfrog method, whose two implicit stages are iterated up to `iterations`
    times until they change by less than `tolerance`. A chain whose stages do not converge, or whose path is not
    reversible, stays where it is, so that the draws are exact. Each move has a random number of 1 to `leapfrog_steps`
    steps. The warm-up adapts the step size only; the metric provides the scales. Chains are `(chains, d)`, and `run`
    raises `ValueError` unless `metric` gives one matrix for each.

    >>> import torch
    >>> from relaxon.neuromorphic.energy import RiemannianHMC
    >>> generator = torch.Generator().manual_seed(0)
    >>> metric = lambda x: torch.diag_embed(1 + x.square())
    >>> chains = RiemannianHMC(metric).run(lambda x: x.square().sum(1) / 2, torch.zeros(4, 2), 20, generator)
    >>> chains.samples.shape
    torch.Size([20, 4, 2])
    """

    metric: Metric
    step_size: float = 0.1
    leapfrog_steps: int = 10
    target_acceptance: float = HMC_ACCEPTANCE
    iterations: int = 20
    tolerance: float = 1e-6
    adapts_scales: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not callable(self.metric):
            raise TypeError(f"metric must be callable, got {type(self.metric).__name__}")
        validation.positive_float("step_size", self.step_size)
        validation.positive_int("leapfrog_steps", self.leapfrog_steps)
        validation.positive_int("iterations", self.iterations)
        validation.positive_float("tolerance", self.tolerance)
        check_real("target_acceptance", self.target_acceptance, above=0.0, below=1.0)

    def move(self, target: Target, state: State, step: float, scale: Tensor, generator: torch.Generator) -> Move:
        """Move all chains once."""
        leaps = int(torch.randint(1, self.leapfrog_steps + 1, (), generator=generator, device=generator.device))
        x = state.position
        factor = self._factor(x)
        momentum = (factor @ standard_normal(tuple(x.shape), generator, x)[..., None])[..., 0]
        before = state.energy + self._kinetic(x, momentum)
        there, ends, settled = self._path(target, state, momentum, step, leaps)
        back, returned, settled_back = self._path(target, there, -ends, step, leaps)
        gap = torch.maximum((back.position - x).abs().amax(1), (returned + momentum).abs().amax(1))
        led_back = settled & settled_back & (gap <= REVERSED_WITHIN * (1 + momentum.abs().amax(1)))
        rise = there.energy + self._kinetic(there.position, ends) - before
        acceptance = torch.nan_to_num(torch.exp(-rise.clamp(min=0.0)), nan=0.0) * led_back
        divergent = ~(rise <= DIVERGENT) & ~there.empty & torch.isfinite(before)
        threshold = torch.rand(len(x), generator=generator, dtype=torch.float64, device=generator.device)
        accepted = threshold.to(acceptance.device) < acceptance
        return Move(select_state(accepted, there, state), acceptance, divergent)

    def _path(
        self, target: Target, state: State, momentum: Tensor, step: float, leaps: int
    ) -> tuple[State, Tensor, Tensor]:
        """Take generalised leapfrog steps; return the end state, its momentum, and whether every stage converged."""
        settled = torch.ones(len(momentum), dtype=torch.bool, device=momentum.device)
        for _ in range(leaps):
            half, done = self._settle(lambda p, s=state, p0=momentum: p0 - 0.5 * step * self._force(s, p), momentum)  # type: ignore[misc]
            velocity = self._velocity(state.position, half)
            x, found = self._settle(
                lambda y, s=state, v=velocity, p=half: s.position + 0.5 * step * (v + self._velocity(y, p)),  # type: ignore[misc]
                state.position + step * velocity,
            )
            state = target.at(x)
            momentum = half - 0.5 * step * self._force(state, half)
            settled = settled & done & found
        return state, momentum, settled

    def _settle(self, stage: Callable[[Tensor], Tensor], value: Tensor) -> tuple[Tensor, Tensor]:
        """Iterate a stage to its fixed point; return it, and for which chains it converged."""
        small = self.tolerance if value.dtype == torch.float64 else max(self.tolerance, 1e-5)
        change = torch.full_like(value[:, 0], math.inf)
        for _ in range(self.iterations):
            following = stage(value)
            change = (following - value).abs().amax(1) / (1 + following.abs().amax(1))
            value = following
            if bool((change <= small).all()):
                break
        return value, change <= small

    def _factor(self, x: Tensor) -> Tensor:
        """Return the Cholesky factor of the metric, NaN for a chain whose metric is not positive definite."""
        with torch.no_grad():
            factor, failed = torch.linalg.cholesky_ex(self.metric(x))
            return torch.where((failed == 0)[:, None, None], factor, torch.nan)

    def _velocity(self, x: Tensor, momentum: Tensor) -> Tensor:
        return torch.cholesky_solve(momentum[..., None], self._factor(x))[..., 0]

    def _kinetic(self, x: Tensor, momentum: Tensor) -> Tensor:
        factor = self._factor(x)
        white: Tensor = torch.linalg.solve_triangular(factor, momentum[..., None], upper=False)[..., 0]
        return 0.5 * white.square().sum(1) + factor.diagonal(dim1=1, dim2=2).log().sum(1)

    def _force(self, state: State, momentum: Tensor) -> Tensor:
        """Return `∂H/∂x`: the gradient of the energy plus `½ tr(G⁻¹∂G) − ½ vᵀ∂G v` with `v = G⁻¹p`."""
        factor = self._factor(state.position)
        velocity = torch.cholesky_solve(momentum[..., None], factor)
        inverse = torch.cholesky_inverse(torch.nan_to_num(factor, nan=1.0))
        pull = 0.5 * (inverse - velocity @ velocity.mT)
        with torch.enable_grad():
            x = state.position.detach().requires_grad_()
            metric = self.metric(x)
            if not metric.requires_grad:
                return state.gradient
            (found,) = torch.autograd.grad((metric * pull).sum(), x)
        return state.gradient + found

    def _check_start(self, start: Tensor) -> None:
        if not isinstance(start, Tensor):
            return  # refused with the other arguments
        if start.ndim != 2:
            raise ValueError(f"start must be (chains, d) for a metric, got shape {tuple(start.shape)}")
        metric = self.metric(start)
        n, d = start.shape
        if not isinstance(metric, Tensor) or metric.shape != (n, d, d):
            got = tuple(metric.shape) if isinstance(metric, Tensor) else type(metric).__name__
            raise ValueError(f"metric must give (n, d, d) for (n, d), here {(n, d, d)}, got {got}")
        if not bool(torch.isfinite(self._factor(start)).all()):
            raise ValueError("metric must be symmetric and positive definite, and is not at every point of start")
