"""The result of a sampler: the draws, and a verdict on whether its chains have mixed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from relaxon.core.cached import cached_property
from relaxon.neuromorphic.energy.samplers.convergence import bulk_effective_sample_size, r_hat

LARGEST_R_HAT = 1.01
"""Largest R-hat of mixed chains (Vehtari et al. 2021, §4)."""
FEWEST_EFFECTIVE_DRAWS = 400.0
"""Minimum effective sample size, below which R-hat itself is unreliable (Vehtari et al. 2021, §4)."""
MOST_DIVERGENT = 0.01
"""Maximum share of divergent moves; more of them indicate a region that the chains never enter."""


class Mixing(Enum):
    """Whether the draws of the chains represent the density."""

    MIXED = "mixed"
    NOT_MIXED = "not_mixed"
    TOO_FEW_DRAWS = "too_few_draws"
    DIVERGENT = "divergent"
    NON_FINITE = "non_finite"
    STOPPED = "stopped"
    """Stopped by the watcher; the draws so far are kept."""


@dataclass(frozen=True)
class Chains:
    """Draws of many chains after their warm-up."""

    samples: Tensor
    """`(draws, chains, …)`."""
    energies: Tensor
    """Energy of each draw, `(draws, chains)`."""
    acceptance: float
    """Mean acceptance probability; for a sampler without rejection, 1 minus the share of divergent moves."""
    chain_acceptance: Tensor
    """Mean acceptance probability of each chain, `(chains,)`."""
    step_size: float
    """Step size after adaptation."""
    scale: Tensor
    """Factor of the step size for each coordinate, in the shape of an event."""
    divergences: int
    """Number of divergent moves after the warm-up."""
    moves: int
    """Number of moves after the warm-up, over all chains."""
    non_finite: int
    """Number of chains that end where the energy is not finite."""
    stopped: bool = False

    @property
    def flat(self) -> Tensor:
        """All draws of all chains, `(draws · chains, …)`."""
        return self.samples.flatten(0, 1)

    @cached_property
    def r_hat(self) -> NDArray[np.float64]:
        """Rank-normalised split R-hat of each coordinate, in the shape of an event."""
        return r_hat(self.samples.detach().cpu().numpy())

    @cached_property
    def effective_sample_size(self) -> NDArray[np.float64]:
        """Bulk effective sample size of each coordinate, in the shape of an event."""
        return bulk_effective_sample_size(self.samples.detach().cpu().numpy())

    @cached_property
    def _judged(self) -> tuple[Mixing, str]:
        if self.non_finite:
            return Mixing.NON_FINITE, f"{self.non_finite} of {len(self.chain_acceptance)} chains have no finite energy"
        if self.stopped:
            return Mixing.STOPPED, "the sampler was stopped"
        if self.divergences > MOST_DIVERGENT * self.moves:
            return Mixing.DIVERGENT, (
                f"{self.divergences} of {self.moves} moves diverged: use a smaller step size or another scale"
            )
        worst, fewest = float(self.r_hat.max()), float(self.effective_sample_size.min())
        if np.isnan(worst):
            return Mixing.TOO_FEW_DRAWS, "R-hat needs at least 8 draws per chain, and chains that move"
        if worst > LARGEST_R_HAT:
            return Mixing.NOT_MIXED, f"R-hat is {worst:.3f} (at most {LARGEST_R_HAT:g} is accepted): chains differ"
        if fewest < FEWEST_EFFECTIVE_DRAWS:
            return Mixing.TOO_FEW_DRAWS, (
                f"the effective sample size is {fewest:.0f} (at least {FEWEST_EFFECTIVE_DRAWS:.0f} is needed)"
            )
        return Mixing.MIXED, ""

    @property
    def outcome(self) -> Mixing:
        """The verdict over all coordinates."""
        return self._judged[0]

    @property
    def message(self) -> str:
        """Why the outcome is not `MIXED`; empty if it is."""
        return self._judged[1]
