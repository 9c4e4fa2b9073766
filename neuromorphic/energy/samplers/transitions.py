"""Moves of many chains at once: Hamiltonian with rejection (Langevin for one leapfrog step), or unadjusted Langevin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from relaxon.neuromorphic.energy.noise.distributions import standard_normal

Energy = Callable[[Tensor], Tensor]
"""`(n, …) → (n,)`; the log-density is its negative, up to a constant."""
DIVERGENT = 1000.0
"""Rise of the total energy above which a move has diverged from the true path, as in Stan."""
CHUNK = 8192
"""Number of rows whose energies are computed at once if no gradient is needed."""


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
        """Return whether all coordinates of each row are inside, `(n,)`."""
        return ((x >= self.lower) & (x <= self.upper)).flatten(1).all(1)

    def reflected(self, x: Tensor) -> Tensor:
        """Return the rows with those outside reflected at the sides until they are inside."""
        low, high = torch.as_tensor(self.lower).to(x), torch.as_tensor(self.upper).to(x)
        width = high - low
        around = torch.remainder(x - low, 2 * width)
        inside = low + torch.where(around > width, 2 * width - around, around)
        return torch.minimum(torch.maximum(inside, low), high)


@dataclass(frozen=True, slots=True)
class State:
    """The state of the chains; a non-finite energy is stored as +∞ with a gradient of 0."""

    position: Tensor
    energy: Tensor
    gradient: Tensor
    empty: Tensor
    """Whether there is legitimately no density: outside the bounds, or where the energy itself is +∞."""


@dataclass(frozen=True, slots=True)
class Move:
    """A move of all chains, with the acceptance probability of each and whether its path diverged."""

    state: State
    acceptance: Tensor
    divergent: Tensor


@dataclass(frozen=True, slots=True)
class Target:
    """The density `e^{−energy(x)}`, inside `bounds` if given."""

    energy: Energy
    bounds: Box | None = None

    def at(self, position: Tensor) -> State:
        """Evaluate energy and gradient; raise `ValueError` unless the energy has one differentiable value per row."""
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
    """Return `energy`; raise `ValueError` unless it has one number per row."""
    if not isinstance(energy, Tensor) or energy.shape != (rows,):
        got = tuple(energy.shape) if isinstance(energy, Tensor) else type(energy).__name__
        raise ValueError(f"energy must give one number for each of {rows} rows, got {got}")
    return energy


def evaluate_energies(energy: Energy, x: Tensor) -> Tensor:
    """Return the energies, `(n,)`, without gradients, chunk by chunk."""
    with torch.no_grad():
        return torch.cat([validate_energies(energy(part), len(part)) for part in torch.split(x, CHUNK)])


def leapfrog(target: Target, state: State, step: Tensor, scale: Tensor, leaps: int, generator: torch.Generator) -> Move:
    """Make a Hamiltonian move of `leaps` steps with Metropolis rejection; a single leap is the Langevin move of MALA.

    `step` is the step size of each chain, `(chains,)`; `scale` is that of each coordinate, in the shape of an event,
    the square root of the inverse masses. Source: Neal 2011, §5.2 to 5.3.
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
    # A point without density is left for any point with one; a move between two such points is rejected.
    acceptance = torch.nan_to_num(torch.exp(-rise.clamp(min=0.0)), nan=0.0)
    divergent = ~(rise <= DIVERGENT) & ~there.empty & torch.isfinite(before)
    threshold = torch.rand(len(step), generator=generator, dtype=torch.float64, device=generator.device)
    accepted = threshold.to(acceptance.device) < acceptance
    return Move(select_state(accepted, there, state), acceptance, divergent)


def langevin(target: Target, state: State, step: Tensor, scale: Tensor, generator: torch.Generator) -> Move:
    """Make the move `x ← x − (ε²/2) ∇E + ε ξ` without rejection, which is biased by O(ε²); reflect it at the bounds.

    A chain that would reach a non-finite energy stays where it is and counts as divergent.
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
    """Select the state of each chain: that of `one` where `first` is true, otherwise that of `other`."""
    return State(
        _select_rows(first, one.position, other.position),
        torch.where(first, one.energy, other.energy),
        _select_rows(first, one.gradient, other.gradient),
        torch.where(first, one.empty, other.empty),
    )


def _select_rows(first: Tensor, one: Tensor, other: Tensor | float) -> Tensor:
    return torch.where(first.reshape(-1, *[1] * (one.ndim - 1)), one, other)
