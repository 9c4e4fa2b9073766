"""Step sizes and coordinate scales found while chains warm up."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

SHRINKAGE, OFFSET, DECAY, HEAD_START = 0.05, 10.0, 0.75, 10.0
"""γ, t₀, κ and the factor in μ = log(10 ε₀) of Hoffman and Gelman 2014, §3.2.1, who recommend these values."""
DOUBLINGS = 40
CROSSING = 0.5
"""Acceptance that a first guess has to cross (their algorithm 4)."""
PRIOR_DRAWS, PRIOR_VARIANCE = 5.0, 1e-3
"""Stan's regularisation of a variance that is estimated from few draws."""


class DualAveraging:
    """Moves the logarithm of a step size until the mean acceptance is `target`; `settled` is the average to keep."""

    def __init__(self, step: float, target: float) -> None:
        self.step = step
        self._target = target
        self._anchor = math.log(HEAD_START * step)
        self._error = 0.0
        self._mean = math.log(step)
        self._count = 0

    def update(self, acceptance: float) -> None:
        """After a move that was accepted with this mean probability."""
        self._count += 1
        share = 1 / (self._count + OFFSET)
        self._error = (1 - share) * self._error + share * (self._target - acceptance)
        logarithm = self._anchor - math.sqrt(self._count) / SHRINKAGE * self._error
        weight = self._count**-DECAY
        self._mean = weight * logarithm + (1 - weight) * self._mean
        self.step = math.exp(logarithm)

    @property
    def settled(self) -> float:
        return math.exp(self._mean)


def find_first_step(acceptance: Callable[[float], float], start: float) -> float:
    """Doubled or halved from `start` until the acceptance of a trial move crosses one half."""
    step = start
    rising = acceptance(step) > CROSSING
    for _ in range(DOUBLINGS):
        following = step * 2 if rising else step / 2
        if (acceptance(following) > CROSSING) is not rising:
            return step if rising else following
        step = following
    return step


class RunningDeviation:
    """Each coordinate's standard deviation over the draws and chains that it is told of."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, position: Tensor) -> None:
        """Chan's update by one draw of all chains, `(chains, …)`."""
        rows = position.double()
        mean, squares = rows.mean(0), (rows - rows.mean(0)).square().sum(0)
        if self._mean is None or self._squares is None:
            self._count, self._mean, self._squares = len(rows), mean, squares
            return
        total = self._count + len(rows)
        gap = mean - self._mean
        self._squares = self._squares + squares + gap.square() * (self._count * len(rows) / total)
        self._mean = self._mean + gap * (len(rows) / total)
        self._count = total

    def deviation(self, like: Tensor) -> Tensor:
        """Regularised as in Stan; 1 where nothing was told of or nothing moves."""
        if self._squares is None or self._count < 2:
            return torch.ones_like(like)
        variance = self._squares / (self._count - 1)
        share = self._count / (self._count + PRIOR_DRAWS)
        found = torch.sqrt(share * variance + (1 - share) * PRIOR_VARIANCE)
        return torch.where(torch.isfinite(found) & (found > 0), found, 1.0).to(like)
