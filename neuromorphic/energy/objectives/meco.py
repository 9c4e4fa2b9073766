"""Maximum likelihood by compositional optimisation: log Z is tracked by one number while its gradient is followed.

Source: Jiang, Qin, Wu, Chen, Yang and Zhang, "Learning unnormalized statistical models via compositional optimization",
ICML 2023. `log Z(θ) = log E_q[p⁰/q]` is a logarithm of an expectation: the gradient of a minibatch's logarithm is
biased. The tracker u of `E_q[p⁰/q]` is averaged over the steps, so the weights `p⁰/(q u)` of the gradient are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from relaxon.core import validation
from relaxon.implicit.modules import call_with
from relaxon.neuromorphic.energy.objectives.noise_contrastive import (
    Objective,
    ObjectiveState,
    StepReading,
    effective_size,
    log_mean_exp,
)

WARM_UP = 10
LEAST_GAMMA = 1e-2
"""Of the adaptive one: the tracker forgets in a hundred steps at the latest."""


@dataclass(frozen=True)
class MECO(Objective):
    """`u ← (1−γ) u + γ mean p⁰/q` in logarithms, and the gradient `−∇log p⁰(x) + p⁰/(q u) ∇log p⁰(z)`.

    `drift`: before the average, `log u` is moved by the change of `log mean p⁰/q` from the last step's parameters to
    these, on the same noise: the tracker follows a jump of θ at once. `gamma` is a number in (0, 1] or "adaptive": the
    gain of a Kalman filter for log Z, from the weights' own variance and that of the drift. `centred`: the data's
    gradient is multiplied by the mean weight w̄, which makes the expected gradient `Z/u` times the true one: an error
    of u then changes its length but not its direction, while without, it moves the optimum. `warm_up` noise batches
    make the first u. `MECO.published(γ)` is the form of the paper: neither drift correction nor centring, a fixed γ,
    one batch at first (take SGD with dampened momentum for its v).
    """

    gamma: float | Literal["adaptive"] = "adaptive"
    drift: bool = True
    centred: bool = True
    warm_up: int = WARM_UP
    name: ClassVar[str] = "meco"

    def __post_init__(self) -> None:
        if self.gamma != "adaptive":
            value = validation.positive_float("gamma", self.gamma)
            if value > 1:
                raise ValueError(f"gamma must be at most 1 or 'adaptive', got {self.gamma!r}")
        validation.positive_int("warm_up", self.warm_up)

    @classmethod
    def published(cls, gamma: float = 0.1) -> Self:
        return cls(gamma, drift=False, centred=False, warm_up=1)

    def begin(self, energy: nn.Module, noise: Any, data: Tensor, noise_batch: int, seed: int) -> ObjectiveState:
        return Tracker(energy, noise, data, noise_batch, self)


class Tracker(ObjectiveState):
    """`log u`, its variance, and the parameters of the step before."""

    log_u: Tensor
    variance: Tensor

    def __init__(self, energy: nn.Module, noise: Any, data: Tensor, noise_batch: int, settings: MECO) -> None:
        super().__init__(energy, noise)
        self.noise_batch, self.settings = noise_batch, settings
        # Double precision and −∞ for "not begun": a buffer, so that a resumed run goes on with it.
        self.register_buffer("log_u", torch.tensor(-math.inf, dtype=torch.float64, device=data.device))
        self.register_buffer("variance", torch.tensor(math.inf, dtype=torch.float64, device=data.device))
        # The energy before the step is needed for its change: by the drift correction and by the adaptive γ.
        self.names = [name for name, parameter in energy.named_parameters() if parameter.requires_grad]
        self.follows = settings.drift or settings.gamma == "adaptive"
        if self.follows:
            named = dict(energy.named_parameters())
            for index, name in enumerate(self.names):
                self.register_buffer(f"previous_{index}", named[name].detach().clone())

    def read(self, x: Tensor, generator: torch.Generator) -> StepReading:
        if not bool(torch.isfinite(self.log_u)):
            self._begin(generator)
        z = self.noise.sample(self.noise_batch, generator)
        if self.tilt is not None:
            # The noise's own part of the energy has no gradient, and falls out of the weights.
            log_q = torch.zeros((), dtype=z.dtype, device=z.device)
            log_x, log_z = self.log_ratios(x, z)
        else:
            log_q = self._log_noise(z)
            log_x, log_z = self.log_probabilities(x, z)
        log_w = log_z.detach().double() - log_q.double()
        gamma = self._track(z, log_q, log_w)
        w = (log_w - self.log_u).exp().to(log_z.dtype)
        pull = w.mean() if self.settings.centred else 1.0
        surrogate = -pull * log_x.mean() + (w * log_z).mean()
        self.adapt(z, log_w, x)
        log_u = float(self.log_u)
        base = 0.0 if self.tilt is None else float(self._log_noise(x).mean())
        return StepReading(surrogate, log_u, effective_size(log_w), log_u - float(log_x.detach().mean()) - base, gamma)

    @torch.no_grad()
    def _log_noise(self, points: Tensor) -> Tensor:
        found: Tensor = self.noise.log_prob(points)
        return found

    @torch.no_grad()
    def _begin(self, generator: torch.Generator) -> None:
        """The first u from several batches, so that not one lucky sample makes it."""
        batches = []
        for _ in range(self.settings.warm_up):
            z = self.noise.sample(self.noise_batch, generator)
            batches.append(self.log_ratios(z[:0], z)[1].double())
        weights = torch.cat(batches)
        self.log_u.copy_(log_mean_exp(weights))
        self.variance.fill_(relative_variance(weights))

    @torch.no_grad()
    def _track(self, z: Tensor, log_q: Tensor, log_w: Tensor) -> float:
        """Move `log u` with θ and towards the batch's mean; the γ it took."""
        settings = self.settings
        log_g = log_mean_exp(log_w)
        moved = spread = torch.zeros_like(log_g)
        if self.follows:
            buffers = dict(self.named_buffers())
            before = {name: buffers[f"previous_{index}"] for index, name in enumerate(self.names)}
            if self.tilt is not None:
                of_tilt = {name.removeprefix("tilt."): kept for name, kept in before.items()}
                log_before = -call_with(self.tilt, of_tilt, z).double()
            else:
                log_before = -call_with(self.energy, before, z).double() - log_q.double()
            moved = log_g - log_mean_exp(log_before)
            spread = (torch.softmax(log_w, 0) - torch.softmax(log_before, 0)).square().sum()
            named = dict(self.energy.named_parameters())
            for name, kept in before.items():
                kept.copy_(named[name])
        if settings.drift:
            self.log_u += moved
            self.variance += spread
        else:
            self.variance += moved.square() + spread
        if settings.gamma == "adaptive":
            noise = relative_variance(log_w)
            total = self.variance + noise
            gamma = float((self.variance / total).clamp(LEAST_GAMMA, 1)) if float(total) > 0 else 1.0
            self.variance *= 1 - gamma
            # With no doubt left in either there is nothing to weigh; the batch alone is exact then.
        else:
            gamma = float(settings.gamma)
        if gamma < 1:
            self.log_u.copy_(torch.logaddexp(self.log_u + math.log1p(-gamma), log_g + math.log(gamma)))
        else:
            self.log_u.copy_(log_g)
        return gamma


def relative_variance(log_weights: Tensor) -> float:
    """Of the mean of the weights, relative to its square: `1/ESS − 1/n`."""
    return max(0.0, 1 / effective_size(log_weights) - 1 / len(log_weights))
