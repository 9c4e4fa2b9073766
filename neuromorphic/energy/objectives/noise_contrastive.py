"""Training objectives: the base class with its frozen settings and state, and those that need noise samples only.

These are noise-contrastive estimation (Gutmann and Hyvärinen 2010), its exponential loss (Liu, Rosenfeld, Ravikumar and
Risteski 2022) and the self-normalised likelihood.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from relaxon.core import validation
from relaxon.neuromorphic.energy.energies.families import TiltedEnergy


@dataclass(frozen=True, slots=True)
class StepReading:
    """The result of one step of an objective; NaN for quantities that it does not have."""

    loss: Tensor
    """The loss to differentiate; its value is the objective's, up to a constant, except for MECO."""
    log_partition: float = math.nan
    """The objective's own estimate of log Z: `log u` of MECO, the learned constant of NCE, or the exact value."""
    effective_sample_size: float = math.nan
    """Effective sample size of the noise samples by their importance weights."""
    value: float = math.nan
    """Value of the objective if the loss is a surrogate."""
    gamma: float = math.nan
    """Averaging weight of MECO."""


class ObjectiveState(nn.Module):
    """The state that an objective keeps between steps: its own parameters and buffers, part of each checkpoint."""

    def __init__(self, energy: nn.Module, noise: Any, settings: Any = None) -> None:
        super().__init__()
        self.settings = settings
        # Kept in a tuple, so that they are not submodules; the trainer stores them itself.
        self._held = (energy, noise)

    @property
    def energy(self) -> nn.Module:
        return self._held[0]

    @property
    def noise(self) -> Any:
        return self._held[1]

    def read(self, x: Tensor, generator: torch.Generator) -> StepReading:
        """Return the loss of a data batch, with a graph to the parameters of the energy and of this module."""
        raise NotImplementedError

    @property
    def tilt(self) -> nn.Module | None:
        """The tilt of a `TiltedEnergy` whose base is this noise, so that weights need no `log q`; otherwise None."""
        energy = self.energy
        return energy.tilt if isinstance(energy, TiltedEnergy) and energy.base is self.noise else None

    def log_probabilities(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return `log p⁰` of both in a single pass."""
        both = -self.energy(torch.cat([x, z]))
        return both[: len(x)], both[len(x) :]

    def log_ratios(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return `log p⁰/q` of both in a single pass, with a graph to the energy's parameters."""
        if self.tilt is not None:
            both = -self.tilt(torch.cat([x, z]))
            return both[: len(x)], both[len(x) :]
        with torch.no_grad():
            log_q_x, log_q_z = self.noise.log_prob(x), self.noise.log_prob(z)
        log_x, log_z = self.log_probabilities(x, z)
        return log_x - log_q_x, log_z - log_q_z

    def adapt(self, z: Tensor, log_weights: Tensor, x: Tensor) -> None:
        """Pass the step to a noise distribution that adapts."""
        observe = getattr(self.noise, "observe", None)
        if observe is not None:
            observe(z, log_weights.detach(), x)


class Objective(ABC):
    """Base class of the objectives, which hold settings only; `begin` creates the state of a run."""

    __slots__ = ()
    name: ClassVar[str]
    needs_noise: ClassVar[bool] = True
    normalised_gradient: bool = False
    """Whether the trainer divides the gradient by its norm."""

    @abstractmethod
    def begin(self, energy: nn.Module, noise: Any, data: Tensor, noise_batch: int, seed: int) -> ObjectiveState:
        """Return the state at the start of a run on all rows of `data`."""


@dataclass(frozen=True)
class NCE(Objective):
    """Noise-contrastive estimation: logistic regression of data against noise, with log Z as an additional parameter.

    `learn_partition=False` treats the energy as normalised. `start` is the initial log Z.
    """

    learn_partition: bool = True
    start: float = 0.0
    name: ClassVar[str] = "nce"

    def __post_init__(self) -> None:
        validation.finite_float("start", self.start)

    def begin(self, energy: nn.Module, noise: Any, data: Tensor, noise_batch: int, seed: int) -> ObjectiveState:
        return _Logistic(energy, noise, data, noise_batch, self.start, self.learn_partition)


@dataclass(frozen=True)
class ENCE(Objective):
    """The exponential loss `½E_p[√(q/p_θ)] + ½E_q[√(p_θ/q)]`, by normalised gradient descent with `normalise`.

    Its logarithm is minimised, which has the same direction of descent and cannot overflow.
    """

    normalise: bool = True
    start: float = 0.0
    name: ClassVar[str] = "ence"

    def __post_init__(self) -> None:
        validation.finite_float("start", self.start)

    @property
    def normalised_gradient(self) -> bool:  # type: ignore[override]
        return self.normalise

    def begin(self, energy: nn.Module, noise: Any, data: Tensor, noise_batch: int, seed: int) -> ObjectiveState:
        return _Exponential(energy, noise, data, noise_batch, self.start, True)


@dataclass(frozen=True)
class SNL(Objective):
    """Self-normalised likelihood: maximise `E_p[log p⁰] − b − E_q[p⁰ e^{−b}/q] + 1` over θ and b.

    At the optimum b = log Z. The weights are unbounded: they explode if the noise has lighter tails than the model.
    """

    start: float = 0.0
    name: ClassVar[str] = "snl"

    def __post_init__(self) -> None:
        validation.finite_float("start", self.start)

    def begin(self, energy: nn.Module, noise: Any, data: Tensor, noise_batch: int, seed: int) -> ObjectiveState:
        return _SelfNormalised(energy, noise, data, noise_batch, self.start, True)


class _Normalised(ObjectiveState):
    """State of the objectives that learn log Z as a parameter."""

    def __init__(
        self, energy: nn.Module, noise: Any, data: Tensor, noise_batch: int, start: float, learn: bool
    ) -> None:
        super().__init__(energy, noise)
        self.noise_batch = noise_batch
        self.log_z = nn.Parameter(torch.tensor(start, dtype=data.dtype, device=data.device), requires_grad=learn)

    def read(self, x: Tensor, generator: torch.Generator) -> StepReading:
        z = self.noise.sample(self.noise_batch, generator)
        ratio_x, ratio_z = self.log_ratios(x, z)
        loss = self.loss(ratio_x - self.log_z, ratio_z - self.log_z)
        weights = ratio_z.detach()
        self.adapt(z, weights, x)
        return StepReading(loss, float(self.log_z.detach()), effective_size(weights), float(loss.detach()))

    def loss(self, ratio_x: Tensor, ratio_z: Tensor) -> Tensor:
        """Return the loss from `log p_θ/q` of data and noise."""
        raise NotImplementedError


class _Logistic(_Normalised):
    def loss(self, ratio_x: Tensor, ratio_z: Tensor) -> Tensor:
        ratio = len(ratio_z) / len(ratio_x)
        log_ratio = math.log(ratio)
        # A data point where the noise has no density is classified with certainty.
        return softplus(-(ratio_x - log_ratio)).mean() + ratio * softplus(ratio_z - log_ratio).mean()


class _Exponential(_Normalised):
    def loss(self, ratio_x: Tensor, ratio_z: Tensor) -> Tensor:
        return torch.logaddexp(log_mean_exp(-0.5 * ratio_x), log_mean_exp(0.5 * ratio_z))


class _SelfNormalised(_Normalised):
    def read(self, x: Tensor, generator: torch.Generator) -> StepReading:
        # The data term does not involve the noise, so that data may lie where the noise has no density.
        z = self.noise.sample(self.noise_batch, generator)
        with torch.no_grad():
            log_q = self.noise.log_prob(z)
        log_x, log_z = self.log_probabilities(x, z)
        ratio = log_z - log_q
        loss = self.log_z - log_x.mean() + (ratio - self.log_z).exp().mean() - 1
        self.adapt(z, ratio.detach(), x)
        return StepReading(loss, float(self.log_z.detach()), effective_size(ratio), float(loss.detach()))


def log_mean_exp(values: Tensor) -> Tensor:
    """Return the logarithm of the mean exponential."""
    return torch.logsumexp(values, 0) - math.log(len(values))


@torch.no_grad()
def effective_size(log_weights: Tensor) -> float:
    """Return the effective sample size `(Σw)²/Σw²`; NaN if a weight is not finite."""
    w = log_weights.double()
    return float((2 * torch.logsumexp(w, 0) - torch.logsumexp(2 * w, 0)).exp())
