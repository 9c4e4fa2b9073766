"""Samplers of `e^{−energy(x)}`: unadjusted and Metropolis-adjusted Langevin, and Hamiltonian Monte Carlo."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from relaxon.core import validation
from relaxon.neuromorphic.energy.energies.events import validate_events
from relaxon.neuromorphic.energy.samplers.adaptation import DualAveraging, RunningDeviation, find_first_step
from relaxon.neuromorphic.energy.samplers.chains import Chains
from relaxon.neuromorphic.energy.samplers.transitions import Box, Energy, Move, State, Target, langevin, leapfrog
from relaxon.neuromorphic.parameters import check_real

MALA_ACCEPTANCE = 0.574
"""The optimum in many dimensions (Roberts and Rosenthal 1998)."""
HMC_ACCEPTANCE = 0.9
"""Above the asymptotic optimum of 0.651, as the larger steps diverge in curved and stiff densities and give fewer
effective draws per gradient there."""
SCALE_WINDOWS = (0.1, 0.2, 0.4, 0.8)
"""Ends of the windows, as shares of the warm-up, whose spread sets the scales of the coordinates. Each is twice as long
as the last, so that very different scales are found iteratively. The first part is discarded as transient."""
SHORTEST_SCALED = 20
"""Number of warm-up steps below which no scales are learnt."""

Watcher = Callable[[int, int], object]
"""Called after each step with its number and the total number; returning True stops the chains."""


class Sampler(Protocol):
    """The interface of a sampler."""

    def run(
        self,
        energy: Energy,
        start: Tensor,
        steps: int,
        generator: torch.Generator,
        *,
        warm_up: int = 0,
        thin: int = 1,
        bounds: Box | None = None,
        watcher: Watcher | None = None,
    ) -> Chains: ...


class ChainSampler(ABC):
    """Base of the samplers here, which differ in their moves and in what their warm-up adapts."""

    __slots__ = ()

    @property
    @abstractmethod
    def step_size(self) -> float: ...

    @abstractmethod
    def move(self, target: Target, state: State, step: float, scale: Tensor, generator: torch.Generator) -> Move:
        """Move all chains once."""

    @abstractmethod
    def _draw(self, run: _ChainRun) -> Chains:
        """Warm up and draw."""

    def _check_start(self, start: Tensor) -> None:  # noqa: B027 - most moves take any start
        """Raise `ValueError` for a start that the moves cannot take, before anything else is checked."""

    def run(
        self,
        energy: Energy,
        start: Tensor,
        steps: int,
        generator: torch.Generator,
        *,
        warm_up: int = 0,
        thin: int = 1,
        bounds: Box | None = None,
        watcher: Watcher | None = None,
    ) -> Chains:
        """Move all chains `warm_up` times to adapt step size and scales, then `steps` times.

        Parameters
        ----------
        energy : `(chains, …) → (chains,)`, differentiable; each row must depend on its own row alone.
        start : `(chains, …)` floating point, one chain per row.
        steps : number of moves after the warm-up, of which every `thin`-th is kept.
        generator : source of all randomness; the same state gives the same draws.
        warm_up : number of discarded moves; 0 leaves `step_size` unchanged.
        bounds : domain outside of which there is no density.
        watcher : called after every move.

        Raises
        ------
        TypeError, ValueError : for an invalid argument, or an energy without one differentiable value per row. An
        energy may be non-finite somewhere: no chain moves there, and the result reports chains that started there.
        """
        self._check_start(start)
        return self._draw(_ChainRun(self, energy, start, steps, generator, warm_up, thin, bounds, watcher))


class AdaptiveSampler(ChainSampler):
    """Base of the samplers whose moves leave the density invariant and whose warm-up finds a step size.

    Their moves can be part of other methods, such as `AIS`.
    """

    __slots__ = ()
    adapts_scales: ClassVar[bool] = True
    """Whether the warm-up finds the coordinates' scales too."""

    @property
    @abstractmethod
    def target_acceptance(self) -> float: ...

    def _draw(self, run: _ChainRun) -> Chains:
        """Warm up and draw: the step size is adapted throughout, the scales at the end of each window."""
        scale = torch.ones_like(run.state.position[0])
        if not run.warm_up:
            return run.draw(self.step_size, scale)
        sizes = DualAveraging(run.find_step(self.step_size, scale), self.target_acceptance)
        spread = RunningDeviation()
        shares = SCALE_WINDOWS if run.warm_up >= SHORTEST_SCALED else (1.0,)
        windows = [round(share * run.warm_up) for share in shares]
        for index in range(run.warm_up):
            if run.stopped:
                break
            sizes.update(float(run.step(sizes.step, scale).acceptance.double().mean()))
            if index < windows[0] or not self.adapts_scales:
                continue
            spread.add(run.state.position)
            if index + 1 in windows[1:]:
                learnt, spread = spread.deviation(scale), RunningDeviation()
                # The first guess keeps the mean length of a leap.
                guess = sizes.settled * float((scale / learnt).double().log().mean().exp())
                scale = learnt
                sizes = DualAveraging(run.find_step(guess, scale), self.target_acceptance)
        return run.draw(sizes.settled, scale)


@dataclass(frozen=True, slots=True)
class ULA(ChainSampler):
    """Unadjusted Langevin, `x ← x − (ε²/2) ∇E(x) + ε ξ` with step size ε; without rejection, so biased by O(ε²).

    The warm-up is discarded and adapts nothing, as there are no rejections to adapt by.
    """

    step_size: float = 0.1

    def __post_init__(self) -> None:
        validation.positive_float("step_size", self.step_size)

    def move(self, target: Target, state: State, step: float, scale: Tensor, generator: torch.Generator) -> Move:
        """Move all chains once."""
        return langevin(target, state, _expand_step(step, state), scale, generator)

    def _draw(self, run: _ChainRun) -> Chains:
        return run.draw(self.step_size, torch.ones_like(run.state.position[0]), run.warm_up)


@dataclass(frozen=True, slots=True)
class MALA(AdaptiveSampler):
    """Langevin moves `x − (ε²/2) ∇E(x) + ε ξ` with Metropolis rejection, so that the draws are exact.

    `step_size` is the initial step size of the warm-up, or the one used without a warm-up. Source: Roberts and Tweedie
    1996.
    """

    step_size: float = 0.1
    target_acceptance: float = MALA_ACCEPTANCE

    def __post_init__(self) -> None:
        validation.positive_float("step_size", self.step_size)
        check_real("target_acceptance", self.target_acceptance, above=0.0, below=1.0)

    def move(self, target: Target, state: State, step: float, scale: Tensor, generator: torch.Generator) -> Move:
        """Move all chains once."""
        return leapfrog(target, state, _expand_step(step, state), scale, 1, generator)


@dataclass(frozen=True, slots=True)
class HMC(AdaptiveSampler):
    """Hamiltonian Monte Carlo with a random number of 1 to `leapfrog_steps` steps per move.

    Paths of a fixed length can be periodic; random lengths avoid this (Neal 2011, §5.5.2). `step_size` is the initial
    step size of the warm-up, or the one used without a warm-up. Step sizes are adapted by dual averaging (Hoffman and
    Gelman 2014).

    >>> import torch
    >>> from relaxon.neuromorphic.energy import HMC
    >>> generator = torch.Generator().manual_seed(0)
    >>> chains = HMC().run(lambda x: x.square().sum(1) / 2, torch.zeros(8, 3), 500, generator, warm_up=200)
    >>> chains.samples.shape, chains.outcome
    (torch.Size([500, 8, 3]), <Mixing.MIXED: 'mixed'>)
    """

    step_size: float = 0.1
    leapfrog_steps: int = 10
    target_acceptance: float = HMC_ACCEPTANCE

    def __post_init__(self) -> None:
        validation.positive_float("step_size", self.step_size)
        validation.positive_int("leapfrog_steps", self.leapfrog_steps)
        check_real("target_acceptance", self.target_acceptance, above=0.0, below=1.0)

    def move(self, target: Target, state: State, step: float, scale: Tensor, generator: torch.Generator) -> Move:
        """Move all chains once."""
        leaps = int(torch.randint(1, self.leapfrog_steps + 1, (), generator=generator, device=generator.device))
        return leapfrog(target, state, _expand_step(step, state), scale, leaps, generator)


class _ChainRun:
    """The chains of one call."""

    def __init__(
        self,
        sampler: ChainSampler,
        energy: Energy,
        start: Tensor,
        steps: int,
        generator: torch.Generator,
        warm_up: int,
        thin: int,
        bounds: Box | None,
        watcher: Watcher | None,
    ) -> None:
        self.steps = validation.positive_int("steps", steps)
        self.warm_up = validation.positive_int("warm_up", warm_up) if warm_up else 0
        self.thin = validation.positive_int("thin", thin)
        if self.thin > self.steps:
            raise ValueError(f"thin must be at most steps = {self.steps}, got {thin!r}")
        if not isinstance(generator, torch.Generator):
            raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
        start = validate_events("start", start)
        self.sampler = sampler
        self.generator = generator
        self.target = Target(energy, bounds)
        if bounds is not None and not bool(bounds.holds(start).all()):
            raise ValueError("start must lie inside the bounds")
        self.state = self.target.at(start)
        self._watcher = watcher
        self._taken = 0
        self.stopped = False

    def step(self, size: float, scale: Tensor) -> Move:
        move = self.sampler.move(self.target, self.state, size, scale, self.generator)
        self.state = move.state
        self._taken += 1
        if self._watcher is not None and self._watcher(self._taken, self.warm_up + self.steps) is True:
            self.stopped = True
        return move

    def find_step(self, guess: float, scale: Tensor) -> float:
        """Return a step size near `guess`, from the mean acceptance of trial moves that are discarded."""

        def accept(size: float) -> float:
            move = self.sampler.move(self.target, self.state, size, scale, self.generator)
            return float(move.acceptance.double().mean())

        return find_first_step(accept, guess)

    def draw(self, size: float, scale: Tensor, warm_up: int = 0) -> Chains:
        for _ in range(warm_up):
            if not self.stopped:
                self.step(size, scale)
        samples, energies = [], []
        acceptance = torch.zeros(len(self.state.energy), dtype=torch.float64)
        divergences = made = 0
        for index in range(self.steps):
            if self.stopped:
                break
            move = self.step(size, scale)
            made += 1
            acceptance += move.acceptance.double().cpu()
            divergences += int(move.divergent.sum())
            if index % self.thin == self.thin - 1:
                samples.append(self.state.position)
                energies.append(self.state.energy)
        if not samples:
            samples, energies = [self.state.position], [self.state.energy]
        acceptance /= max(1, made)
        return Chains(
            torch.stack(samples),
            torch.stack(energies),
            float(acceptance.mean()),
            acceptance,
            size,
            scale,
            divergences,
            made * len(acceptance),
            int((~torch.isfinite(self.state.energy)).sum()),
            self.stopped,
        )


def _expand_step(step: float, state: State) -> Tensor:
    return torch.full_like(state.energy, step)
