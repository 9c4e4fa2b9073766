"""One move of many chains at once: Hamiltonian (Langevin with one leapfrog step) with rejection, or plain Langevin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from relaxon.neuromorphic.energy.noise.distributions import standard_normal

Energy = Callable[[Tensor], Tensor]
"""`(n, …) → (n,)`; the log-density is its negative, up to a constant."""
DIVERGENT = 1000.0
"""A move whose total energy rises by more than this has left the true path (the bound that Stan uses)."""
CHUNK = 8192
"""Rows of which energies are computed at once where nothing is to be differentiated."""


@dataclass(frozen=True, slots=True)
class Box:
    """A bounded domain, `lower ≤ x ≤ upper` in every coordinate: numbers, or tensors of the event's shape."""

    lower: float | Tensor
    upper: float | Tensor

    def __post_init__(self) -> None:
        low, high = torch.as_tensor(self.lower), torch.as_tensor(self.upper)
        if not bool((low < high).all()):
            raise ValueError(f"lower must be below upper in every coordinate, got {self.lower!r} and {self.upper!r}")

    def holds(self, x: Tensor) -> Tensor:
        """`(n,)`: whether all of a row's coordinates are inside."""
        return ((x >= self.lower) & (x <= self.upper)).flatten(1).all(1)

    def reflected(self, x: Tensor) -> Tensor:
        """Rows that left, mirrored at the sides until they are inside."""
        low, high = torch.as_tensor(self.lower).to(x), torch.as_tensor(self.upper).to(x)
        width = high - low
        around = torch.remainder(x - low, 2 * width)
        inside = low + torch.where(around > width, 2 * width - around, around)
        return torch.minimum(torch.maximum(inside, low), high)


@dataclass(frozen=True, slots=True)
class State:
    """Where the chains are. An energy that is not finite is kept as +∞, its gradient as 0."""

    position: Tensor
    energy: Tensor
    gradient: Tensor
    empty: Tensor
    """Whether there is no density by right: outside the bounds, or where the energy itself is +∞."""


@dataclass(frozen=True, slots=True)
class Move:
    """A move of all chains: `acceptance` is each one's probability, `divergent` whether its path was lost."""

    state: State
    acceptance: Tensor
    divergent: Tensor


@dataclass(frozen=True, slots=True)
class Target:
    """The density `e^{−energy(x)}`, inside `bounds` where given."""

    energy: Energy
    bounds: Box | None = None

    def at(self, position: Tensor) -> State:
        """Energy and gradient; ValueError where the energy has not one value a row, or no gradient."""
        with torch.enable_grad():
            x = position.detach().requires_grad_()
            energy = validate_energies(self.energy(x), len(x))
            if not energy.requires_grad:
                raise ValueError("energy must be differentiable with respect to x, got values without a gradient")
            (gradient,) = torch.autograd.grad(energy.sum(), x, allow_unused=True)
        energy = energy.detach().to(position.dtype)
        gradient = torch.zeros_like(position) if gradient is None else gradient
        empty = torch.isposinf(energy) & torch.isfinite(position).flatten(1).all(1)
        if self.bounds is not None:
            empty = empty | ~self.bounds.holds(position)
        finite = torch.isfinite(energy) & torch.isfinite(gradient).flatten(1).all(1) & ~empty
        infinite = torch.full_like(energy, torch.inf)
        return State(
            position.detach(), torch.where(finite, energy, infinite), _select_rows(finite, gradient, 0.0), empty
        )


def validate_energies(energy: Tensor, rows: int) -> Tensor:
    """ValueError where an energy did not give one number a row."""
    if not isinstance(energy, Tensor) or energy.shape != (rows,):
        got = tuple(energy.shape) if isinstance(energy, Tensor) else type(energy).__name__
        raise ValueError(f"energy must give one number for each of {rows} rows, got {got}")
    return energy


def evaluate_energies(energy: Energy, x: Tensor) -> Tensor:
    """`(n,)`, without a gradient, some rows at a time."""
    with torch.no_grad():
        return torch.cat([validate_energies(energy(part), len(part)) for part in torch.split(x, CHUNK)])


def leapfrog(target: Target, state: State, step: Tensor, scale: Tensor, leaps: int, generator: torch.Generator) -> Move:
    """A Hamiltonian move of `leaps` steps with Metropolis' rejection; one leap is the Langevin move of MALA.

    `step` is each chain's, `(chains,)`; `scale` each coordinate's, of the event's shape: the square root of the inverse
    masses. Source: Neal 2011, §5.2 to 5.3.
    """
    wide = step.reshape(-1, *[1] * (state.position.ndim - 1))
    momentum = standard_normal(state.position.shape, generator, state.position)
    before = state.energy + _kinetic(momentum)
    there = state
    for _ in range(leaps):
        momentum = momentum - 0.5 * wide * scale * there.gradient
        there = target.at(there.position + wide * scale * momentum)
        momentum = momentum - 0.5 * wide * scale * there.gradient
    rise = there.energy + _kinetic(momentum) - before
    # From a place of no density anything with a density is better; between two such places nothing is known.
    acceptance = torch.nan_to_num(torch.exp(-rise.clamp(min=0.0)), nan=0.0)
    divergent = ~(rise <= DIVERGENT) & ~there.empty & torch.isfinite(before)
    threshold = torch.rand(len(step), generator=generator, dtype=torch.float64, device=generator.device)
    accepted = threshold.to(acceptance.device) < acceptance
    return Move(select_state(accepted, there, state), acceptance, divergent)


def langevin(target: Target, state: State, step: Tensor, scale: Tensor, generator: torch.Generator) -> Move:
    """`x ← x − (ε²/2) ∇E + ε ξ` without rejection, so biased by O(ε²); mirrored at the sides of a bounded domain.

    A chain that would come where the energy is not finite stays where it is, and is told of as divergent.
    """
    wide = step.reshape(-1, *[1] * (state.position.ndim - 1)) * scale
    noise = standard_normal(state.position.shape, generator, state.position)
    position = state.position - 0.5 * wide**2 * state.gradient + wide * noise
    if target.bounds is not None:
        position = target.bounds.reflected(position)
    there = target.at(position)
    sound = torch.isfinite(there.energy)
    return Move(select_state(sound, there, state), sound.to(state.energy.dtype), ~sound)


def _kinetic(momentum: Tensor) -> Tensor:
    return 0.5 * momentum.square().flatten(1).sum(1)


def select_state(first: Tensor, one: State, other: State) -> State:
    """Each chain's state: of `one` where `first`, else of `other`."""
    return State(
        _select_rows(first, one.position, other.position),
        torch.where(first, one.energy, other.energy),
        _select_rows(first, one.gradient, other.gradient),
        torch.where(first, one.empty, other.empty),
    )


def _select_rows(first: Tensor, one: Tensor, other: Tensor | float) -> Tensor:
    return torch.where(first.reshape(-1, *[1] * (one.ndim - 1)), one, other)
