"""What a sampler gives back: the draws, and whether its chains have mixed, as numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from relaxon.core.cached import cached_property
from relaxon.neuromorphic.energy.samplers.convergence import bulk_effective_sample_size, r_hat

LARGEST_R_HAT = 1.01
FEWEST_EFFECTIVE_DRAWS = 400.0
"""Both after Vehtari et al. 2021, §4: with fewer draws R-hat itself is not to be believed."""
MOST_DIVERGENT = 0.01
"""Share of moves; a few lost paths are of little weight, more say that a part of the space is never entered."""


class Mixing(Enum):
    """Whether the chains' draws stand for the density."""

    MIXED = "mixed"
    NOT_MIXED = "not_mixed"
    TOO_FEW_DRAWS = "too_few_draws"
    DIVERGENT = "divergent"
    NON_FINITE = "non_finite"
    STOPPED = "stopped"
    """By the watcher; the draws until then are there."""


@dataclass(frozen=True)
class Chains:
    """Draws of many chains after their warm-up."""

    samples: Tensor
    """`(draws, chains, …)`."""
    energies: Tensor
    """`(draws, chains)`, each draw's."""
    acceptance: float
    """Mean probability of a move; 1 less the share of lost moves for a sampler that rejects none."""
    chain_acceptance: Tensor
    """`(chains,)`."""
    step_size: float
    """After adaptation."""
    scale: Tensor
    """Each coordinate's factor of the step size, of the event's shape."""
    divergences: int
    """Moves after the warm-up whose path was lost."""
    moves: int
    """All moves after the warm-up, of all chains."""
    non_finite: int
    """Chains that end where the energy is not finite."""
    stopped: bool = False

    @property
    def flat(self) -> Tensor:
        """All draws of all chains, `(draws · chains, …)`."""
        return self.samples.flatten(0, 1)

    @cached_property
    def r_hat(self) -> NDArray[np.float64]:
        """Rank-normalised split R-hat of each coordinate, of the event's shape."""
        return r_hat(self.samples.detach().cpu().numpy())

    @cached_property
    def effective_sample_size(self) -> NDArray[np.float64]:
        """Bulk effective sample size of each coordinate, of the event's shape."""
        return bulk_effective_sample_size(self.samples.detach().cpu().numpy())

    @cached_property
    def _judged(self) -> tuple[Mixing, str]:
        if self.non_finite:
            return Mixing.NON_FINITE, f"{self.non_finite} of {len(self.chain_acceptance)} chains have no finite energy"
        if self.stopped:
            return Mixing.STOPPED, "the sampler was stopped"
        if self.divergences > MOST_DIVERGENT * self.moves:
            return Mixing.DIVERGENT, (
                f"{self.divergences} of {self.moves} moves diverged: a smaller step size or another scale is needed"
            )
        worst, fewest = float(self.r_hat.max()), float(self.effective_sample_size.min())
        if np.isnan(worst):
            return Mixing.TOO_FEW_DRAWS, "R-hat needs at least 8 draws of a chain, and chains that move"
        if worst > LARGEST_R_HAT:
            return Mixing.NOT_MIXED, f"R-hat is {worst:.3f} (at most {LARGEST_R_HAT:g} is taken): chains differ"
        if fewest < FEWEST_EFFECTIVE_DRAWS:
            return Mixing.TOO_FEW_DRAWS, (
                f"the effective sample size is {fewest:.0f} (at least {FEWEST_EFFECTIVE_DRAWS:.0f} is taken)"
            )
        return Mixing.MIXED, ""

    @property
    def outcome(self) -> Mixing:
        """The verdict over all coordinates."""
        return self._judged[0]

    @property
    def message(self) -> str:
        """Why it is not `MIXED`; empty where it is."""
        return self._judged[1]
