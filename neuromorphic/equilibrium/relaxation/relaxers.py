"""Relaxers, which bring a state to rest, `G(u) = 0`: fixed steps, alternating layers, Anderson's acceleration."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor

from relaxon.core import validation

Field = Callable[[Tensor], Tensor]
"""The field `G`, `(batch, units) → (batch, units)`, real or complex."""
DEFAULT_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9, torch.complex64: 1e-4, torch.complex128: 1e-9}
RUNAWAY = 1e6
"""A residual above this counts as divergence."""


class Outcome(Enum):
    """How a relaxation ended. `NOISY`: the states carry noise, so the residual says nothing about convergence."""

    CONVERGED = "converged"
    MAX_STEPS = "max_steps"
    NON_FINITE = "non_finite"
    NOISY = "noisy"


@dataclass(frozen=True, slots=True)
class Relaxation:
    """The result of a relaxation: `residual` is `max |G|` over all units and samples, `tolerance` the bound for it."""

    state: Tensor
    residual: float
    tolerance: float
    steps: int
    outcome: Outcome
    average: Tensor | None = None
    """The mean state over the last steps, where the states carry noise."""
    rates: Tensor | None = None
    """The rates of the state, where the relaxation has computed them anyway."""

    @property
    def reading(self) -> Tensor:
        return self.state if self.average is None else self.average


@dataclass(frozen=True, slots=True)
class StateNoise:
    """Gaussian noise on the states at every step of a relaxation.

    A reading is the mean of the last `average` states. The noise is drawn on the CPU, so that a seed gives the same
    numbers on any device.
    """

    deviation: float
    generator: torch.Generator
    average: int = 1

    def draw(self, like: Tensor) -> Tensor:
        """Return real noise of the shape of `like`, on its device."""
        real = like.real if like.is_complex() else like
        noise = torch.randn(real.shape, generator=self.generator, dtype=real.dtype) * self.deviation
        return noise.to(like.device)


class Relaxer(Protocol):
    """`scale` multiplies the tolerance: a nudge of 0.01 wants states a hundred times as exact."""

    def relax(
        self, field: Field, start: Tensor, *, scale: float = 1.0, noise: StateNoise | None = None
    ) -> Relaxation: ...


@dataclass(frozen=True, slots=True)
class FixedStep:
    """The iteration `u ← u + step · G(u)`, at most `steps` times, until `max |G| ≤ tolerance`.

    The residual is computed every `check_every` steps and at the end; where `early_stop` is False, at the end only. A
    `tolerance` of None is that of the dtype: 1e-4 in single and 1e-9 in double precision.
    """

    steps: int = 500
    step: float = 1.0
    tolerance: float | None = None
    early_stop: bool = True
    check_every: int = 4

    def __post_init__(self) -> None:
        validation.positive_int("steps", self.steps)
        validation.positive_float("step", self.step)
        validation.positive_int("check_every", self.check_every)
        _check_tolerance(self.tolerance)

    def relax(self, field: Field, start: Tensor, *, scale: float = 1.0, noise: StateNoise | None = None) -> Relaxation:
        tolerance = (self.tolerance or DEFAULT_TOLERANCE[start.dtype]) * scale
        if noise is not None:
            return self._noisy(field, start, tolerance, noise)
        u, residual, taken = start, math.inf, 0
        while True:
            g = field(u)
            last = taken == self.steps
            if last or (self.early_stop and taken % self.check_every == 0):
                residual = largest(g)
                if last or residual <= tolerance or not residual < RUNAWAY:
                    return Relaxation(u, residual, tolerance, taken, judge_residual(residual, tolerance))
            u = u + (g if self.step == 1.0 else self.step * g)
            taken += 1

    def _noisy(self, field: Field, start: Tensor, tolerance: float, noise: StateNoise) -> Relaxation:
        u, total, counted = start, torch.zeros_like(start), min(noise.average, self.steps)
        for taken in range(self.steps):
            u = u + self.step * field(u) + noise.draw(u)
            if taken >= self.steps - counted:
                total = total + u
        residual = largest(field(u))
        finite = Outcome.NOISY if residual < RUNAWAY else Outcome.NON_FINITE
        return Relaxation(u, residual, tolerance, self.steps, finite, total / counted)


class Halves(Protocol):
    """A state in two halves, one of which follows the other exactly; see `ChainHalves`."""

    def follow(self) -> None: ...

    def propose(self) -> float: ...

    def accept(self, mixed: bool) -> None: ...

    def state(self) -> Tensor: ...

    def whole_rates(self) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Alternating:
    """Relaxation of alternating layers: every second one is set to rest, then the others (Gauss and Seidel).

    A step costs little more than a step of `FixedStep(step=1)` and reduces the residual as much as two of them or, with
    Anderson's mixing of depth one for each sample, as three or four. The step after one that increased the residual is
    unmixed: with tied weights such steps lower the network's energy, so they converge where simultaneous steps of all
    layers would oscillate forever.

    A state whose residual meets the tolerance has its next step computed already: that step is taken, and the followers
    follow, so that the state returned is more exact than `residual` says, by a factor of two to four on networks with a
    `contraction` of 0.9. For fields without halves (all but those of `LayeredNetwork`) and with noise on the
    states, this is `FixedStep` with twice as many steps.
    """

    steps: int = 250
    tolerance: float | None = None

    def __post_init__(self) -> None:
        validation.positive_int("steps", self.steps)
        _check_tolerance(self.tolerance)

    def relax(self, field: Field, start: Tensor, *, scale: float = 1.0, noise: StateNoise | None = None) -> Relaxation:
        halves = getattr(field, "halves", None)
        if halves is None or noise is not None:
            return FixedStep(2 * self.steps, tolerance=self.tolerance).relax(field, start, scale=scale, noise=noise)
        tolerance = (self.tolerance or DEFAULT_TOLERANCE[start.dtype]) * scale
        parts: Halves = halves(start)
        taken, before = 0, math.inf
        while True:
            parts.follow()
            residual = parts.propose()
            outcome = judge_residual(residual, tolerance)
            if outcome is Outcome.CONVERGED:
                parts.accept(mixed=residual < before)
                parts.follow()
            if outcome is not Outcome.MAX_STEPS or taken == self.steps:
                return Relaxation(parts.state(), residual, tolerance, taken, outcome, rates=parts.whole_rates())
            parts.accept(mixed=residual < before)
            before = residual
            taken += 1


@dataclass(frozen=True, slots=True)
class Anderson:
    """Anderson's acceleration of the fixed-step iteration, with a separate history for each sample.

    It takes fewer steps than `FixedStep` where convergence is slow, but each step costs more. With noise on the states
    it falls back to plain steps, since differences of noisy residuals carry no information. Source: Walker and Ni 2011.
    """

    steps: int = 200
    step: float = 1.0
    tolerance: float | None = None
    history: int = 5

    def __post_init__(self) -> None:
        validation.positive_int("steps", self.steps)
        validation.positive_float("step", self.step)
        validation.positive_int("history", self.history)
        _check_tolerance(self.tolerance)

    def relax(self, field: Field, start: Tensor, *, scale: float = 1.0, noise: StateNoise | None = None) -> Relaxation:
        if noise is not None:
            return FixedStep(self.steps, self.step, self.tolerance).relax(field, start, scale=scale, noise=noise)
        tolerance = (self.tolerance or DEFAULT_TOLERANCE[start.dtype]) * scale
        u, taken = start, 0
        states: list[Tensor] = []
        moves: list[Tensor] = []
        before: tuple[Tensor, Tensor] | None = None
        while True:
            g = field(u)
            residual = largest(g)
            if taken == self.steps or residual <= tolerance or not residual < RUNAWAY:
                return Relaxation(u, residual, tolerance, taken, judge_residual(residual, tolerance))
            move = self.step * g
            if before is not None:
                states = [*states, u - before[0]][-self.history :]
                moves = [*moves, move - before[1]][-self.history :]
            before = (u, move)
            u = u + move
            if moves:
                u = u - _mix(torch.stack(states), torch.stack(moves), move)
            taken += 1


def _check_tolerance(tolerance: float | None) -> None:
    if tolerance is not None:
        validation.positive_float("tolerance", tolerance)


def _mix(states: Tensor, moves: Tensor, move: Tensor) -> Tensor:
    """Return `Σ γ_w (Δu_w + Δf_w)` for each sample, where γ is the least-squares fit of `f` by the `Δf_w`."""
    gram = torch.einsum("wbn,vbn->bwv", moves.conj(), moves)
    side = torch.einsum("wbn,bn->bw", moves.conj(), move)
    eps = torch.finfo(move.dtype).eps
    trace = torch.diagonal(gram, dim1=-2, dim2=-1).real.sum(-1)
    ridge = (eps * trace + torch.finfo(move.dtype).tiny)[:, None, None]
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    gamma, singular = torch.linalg.solve_ex(gram + ridge * eye, side)
    # A sample whose moves are parallel to rounding is not mixed.
    gamma = torch.where(singular[:, None] > 0, 0, gamma)
    return torch.einsum("bw,wbn->bn", gamma, states + moves)


def largest(g: Tensor) -> float:
    """Return `max |G|` over real and imaginary parts; NaN where any entry is NaN."""
    return float(torch.view_as_real(g).abs().amax()) if g.is_complex() else float(g.abs().amax())


def judge_residual(residual: float, tolerance: float) -> Outcome:
    """Return whether a relaxation with this residual has converged, has not, or has diverged."""
    if residual <= tolerance:
        return Outcome.CONVERGED
    return Outcome.MAX_STEPS if residual < RUNAWAY else Outcome.NON_FINITE
