"""Noise with protected tails (a defensive mixture), and noise that follows the data or the model."""

from __future__ import annotations

import math
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from relaxon.core import validation
from relaxon.neuromorphic.energy.energies.events import flatten_events
from relaxon.neuromorphic.energy.noise.distributions import GaussianNoise, NoiseModule
from relaxon.neuromorphic.parameters import check_real

Source = Literal["model", "data"]
SCARCE = 4.0
"""Number of effective samples per feature at which new moments count as much as those they replace."""


class _Mixture(NoiseModule):
    """`(1 − share) main(x) + share other(x)`."""

    share: float

    def _components(self) -> tuple[Any, Any]:
        """Return the main distribution and the other."""
        raise NotImplementedError

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        count = validation.positive_int("count", count)
        u = torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)
        first, second = (part.sample(count, generator) for part in self._components())
        pick = (u < self.share).to(first.device).reshape(count, *[1] * (first.ndim - 1))
        return torch.where(pick, second, first)

    def log_prob(self, x: Tensor) -> Tensor:
        main, other = self._components()
        return torch.logaddexp(main.log_prob(x) + math.log1p(-self.share), other.log_prob(x) + math.log(self.share))


class DefensiveNoise(_Mixture):
    """`(1 − share) q(x) + share w(x)`: a noise distribution with a wide component for the tails.

    Importance weights against it are at most `1/share` times those against the wide component (Hesterberg 1995).
    """

    def __init__(self, inner: Any, wide: Any, share: float = 0.1) -> None:
        super().__init__(inner.event_shape)
        if tuple(wide.event_shape) != tuple(inner.event_shape):
            raise ValueError(f"wide must have the event_shape {inner.event_shape}, got {wide.event_shape}")
        check_real("share", share, above=0.0, below=1.0)
        self.share, self.inner, self.wide = float(share), inner, wide

    @classmethod
    def around(cls, inner: Any, data: Tensor, *, share: float = 0.1, widen: float = 3.0) -> Self:
        """Return the mixture with a Gaussian of the data's mean and `widen` times their standard deviation."""
        return cls(inner, GaussianNoise.fit(data, widen=widen), share)

    def _components(self) -> tuple[Any, Any]:
        return self.inner, self.wide


class AdaptiveNoise(_Mixture):
    """`(1 − share) N(m, widen² C) + share start(x)`, where m and C follow the model or the data.

    With `source="model"` they are moments of the model, estimated from the importance weights of the objective's own
    noise samples, so that the noise follows the model during training. With "data" they are moments of the batches.
    They are updated every `every` steps; `start` remains as the defensive component. The mean moves at once, and the
    covariance as far as the effective sample size supports it.
    """

    mean: Tensor
    covariance: Tensor
    weight: Tensor
    first: Tensor
    second: Tensor
    calls: Tensor

    def __init__(
        self,
        start: Any,
        mean: Tensor,
        covariance: Tensor,
        *,
        source: Source = "model",
        every: int = 1,
        share: float = 0.2,
        widen: float = 1.5,
    ) -> None:
        super().__init__(start.event_shape)
        if source not in get_args(Source):
            raise ValueError(f"source must be 'model' or 'data', got {source!r}")
        self.source = source
        self.every = validation.positive_int("every", every)
        check_real("share", share, above=0.0, below=1.0)
        self.share = float(share)
        self.widen = validation.positive_float("widen", widen)
        self.start = start
        gaussian = GaussianNoise(mean, covariance)
        self.register_buffer("mean", gaussian.mean)
        self.register_buffer("covariance", covariance.detach().clone())
        self.register_buffer("weight", torch.zeros((), dtype=mean.dtype, device=mean.device))
        self.register_buffer("first", torch.zeros_like(self.mean))
        self.register_buffer("second", torch.zeros_like(covariance))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64, device=mean.device))

    @classmethod
    def from_gaussian(cls, start: GaussianNoise, *, source: Source = "model", every: int = 1) -> Self:
        """Start from a Gaussian, which remains as the defensive component."""
        covariance = start.factor @ start.factor.T
        return cls(start, start.mean.reshape(start.event_shape), covariance, source=source, every=every)

    def observe(self, z: Tensor, log_weights: Tensor, x: Tensor) -> None:
        """Accumulate a step's noise samples with `log p⁰ − log q`, or its data batch `x`, and refit when due."""
        with torch.no_grad():
            if self.source == "data":
                points = flatten_events(x)
                share = torch.full_like(points[:, 0], 1 / len(points))
            else:
                points = flatten_events(z)
                share = torch.softmax(log_weights.double(), 0).to(points.dtype)
            if not bool(torch.isfinite(share).all()):
                return
            size = 1 / share.square().sum()
            mean = share @ points
            centred = points - self.mean
            self.weight += size
            self.first += size * mean
            self.second += size * (centred * share[:, None]).T @ centred
            self.calls += 1
            if int(self.calls) % self.every == 0:
                self._refit()

    def _refit(self) -> None:
        mean = self.first / self.weight
        away = mean - self.mean
        covariance = self.second / self.weight - torch.outer(away, away)
        trust = self.weight / (self.weight + SCARCE * self.features)
        blended = trust * covariance + (1 - trust) * self.covariance
        _, failed = torch.linalg.cholesky_ex(blended)
        if not int(failed) and bool(torch.isfinite(mean).all()):
            self.mean.copy_(mean)
            self.covariance.copy_(blended)
        for buffer in (self.weight, self.first, self.second):
            buffer.zero_()

    def _components(self) -> tuple[Any, Any]:
        return GaussianNoise(self.mean.reshape(self.event_shape), self.widen**2 * self.covariance), self.start
