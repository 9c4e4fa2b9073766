"""Noise distributions with a known log-density: the protocol, the Gaussian, Student's t and the uniform box.

Each samples with the given generator, on the generator's device, and returns the samples on its own device, so that a
seed gives the same numbers on any device of the parameters.
"""

from __future__ import annotations

import math
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from relaxon.core import validation
from relaxon.neuromorphic.energy.energies.events import flatten_events, parse_event_shape, validate_events
from relaxon.neuromorphic.energy.noise.rank import explain_table_rank_deficiency

LEAST_SCALE = 1e-8
"""Minimum standard deviation along an axis of a fit, relative to the largest one."""


@runtime_checkable
class Noise(Protocol):
    """The interface of a noise distribution q; your own distributions need these three members only."""

    @property
    def event_shape(self) -> tuple[int, ...]: ...

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw samples, `(count, *event_shape)`, with the given generator only."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the normalised `log q(x)`, `(n,)`."""
        ...


class NoiseModule(torch.nn.Module):
    """Base class of the noise distributions here; parameters are buffers, so that torch handles dtype and storage."""

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.event_shape = parse_event_shape(shape)

    @property
    def features(self) -> int:
        return math.prod(self.event_shape)

    def config(self) -> dict[str, Any]:
        """Return JSON values from which `empty` builds an instance."""
        return {"event_shape": list(self.event_shape)}

    @classmethod
    def empty(cls, config: dict[str, Any]) -> Self:
        """Build an instance to be filled by `load_state_dict`."""
        shape = parse_event_shape(config["event_shape"])
        return cls(torch.zeros(shape), *cls.placeholders(shape))

    @staticmethod
    def placeholders(shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Return the arguments behind the first for `empty`."""
        return (torch.eye(math.prod(shape)),)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw samples, `(count, *event_shape)`."""
        count = validation.positive_int("count", count)
        if not isinstance(generator, torch.Generator):
            raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
        return self.flat_sample(count, generator).reshape(count, *self.event_shape)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return `log q(x)`, `(n,)`."""
        check_tensors(x=x)
        if tuple(x.shape[1:]) != self.event_shape:
            raise ValueError(f"x must be of shape (n, {', '.join(map(str, self.event_shape))}), got {tuple(x.shape)}")
        return self.flat_log_prob(flatten_events(x))

    def flat_sample(self, count: int, generator: torch.Generator) -> Tensor:
        raise NotImplementedError

    def flat_log_prob(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class GaussianNoise(NoiseModule):
    """`N(mean, covariance)`; `mean (*event_shape)`, `covariance (d, d)` of the flattened events.

    >>> import torch
    >>> noise = GaussianNoise(torch.zeros(2), torch.eye(2))
    >>> noise.log_prob(torch.zeros(1, 2))
    tensor([-1.8379])
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        check_tensors(mean=mean, covariance=covariance)
        super().__init__(mean.shape)
        d = self.features
        if tuple(covariance.shape) != (d, d):
            raise ValueError(f"covariance must be of shape ({d}, {d}), got {tuple(covariance.shape)}")
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if int(failed) or not bool(torch.isfinite(factor).all()):
            raise ValueError("covariance must be positive definite")
        self.register_buffer("mean", mean.detach().reshape(d).clone())
        self.register_buffer("factor", factor.detach().clone())

    @classmethod
    def fit(cls, data: Tensor, *, widen: float = 1.0) -> Self:
        """Fit mean and covariance to `data (n, *event_shape)`, with standard deviations `widen` times as large.

        Raises `ValueError` if a direction has no spread, as there is no density then.
        """
        data = validate_events("data", data, least=2)
        flat = flatten_events(data)
        mean, covariance = estimate_moments(flat)
        lacking = explain_table_rank_deficiency(flat.double().cpu().numpy())
        if lacking:
            raise ValueError(f"data must have a covariance of full rank; {lacking}")
        return cls(mean.reshape(data.shape[1:]), covariance * validation.positive_float("widen", widen) ** 2)

    def flat_sample(self, count: int, generator: torch.Generator) -> Tensor:
        return self.mean + standard_normal((count, self.features), generator, self.mean) @ self.factor.T

    def flat_log_prob(self, x: Tensor) -> Tensor:
        z = torch.linalg.solve_triangular(self.factor, (x - self.mean).T, upper=False)
        size = self.factor.diagonal().log().sum() + self.features / 2 * math.log(2 * math.pi)
        found: Tensor = -0.5 * z.square().sum(0) - size
        return found


class StudentNoise(NoiseModule):
    """Student's t in d dimensions, whose tails are heavier than those of any Gaussian.

    `freedom` is the number of degrees of freedom and `scale (d, d)` the scale matrix; the covariance is
    `freedom/(freedom − 2)` times the latter.
    """

    mean: Tensor
    factor: Tensor
    freedom: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, freedom: float = 5.0) -> None:
        check_tensors(mean=mean, scale=scale)
        super().__init__(mean.shape)
        gaussian = GaussianNoise(mean, scale)
        self.register_buffer("mean", gaussian.mean)
        self.register_buffer("factor", gaussian.factor)
        value = validation.positive_float("freedom", freedom)
        self.register_buffer("freedom", torch.tensor(value, dtype=mean.dtype, device=mean.device))

    @classmethod
    def fit(cls, data: Tensor, *, freedom: float = 5.0, widen: float = 1.0) -> Self:
        """Fit the mean of the data, and their covariance times `widen²` as the scale matrix."""
        gaussian = GaussianNoise.fit(data, widen=widen)
        return cls(gaussian.mean.reshape(gaussian.event_shape), gaussian.factor @ gaussian.factor.T, freedom)

    def flat_sample(self, count: int, generator: torch.Generator) -> Tensor:
        z = standard_normal((count, self.features), generator, self.mean)
        # χ²_ν as a gamma variate; torch's public sampler does not accept a generator, but this function does.
        half = (self.freedom / 2).to(generator.device).expand(count, 1).contiguous()
        chi = 2 * torch._standard_gamma(half, generator=generator).to(self.mean)
        return self.mean + (z * (self.freedom / chi).sqrt()) @ self.factor.T

    def flat_log_prob(self, x: Tensor) -> Tensor:
        nu, d = self.freedom, self.features
        z = torch.linalg.solve_triangular(self.factor, (x - self.mean).T, upper=False)
        constant = torch.lgamma((nu + d) / 2) - torch.lgamma(nu / 2) - d / 2 * (nu * math.pi).log()
        return constant - self.factor.diagonal().log().sum() - (nu + d) / 2 * torch.log1p(z.square().sum(0) / nu)


class UniformNoise(NoiseModule):
    """The uniform distribution on the box `low ≤ x ≤ high`, both `(*event_shape)`; `log_prob` is −∞ outside."""

    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor) -> None:
        check_tensors(low=low, high=high)
        super().__init__(low.shape)
        if low.shape != high.shape or low.dtype != high.dtype:
            raise ValueError(f"low and high must be alike, got {tuple(low.shape)} and {tuple(high.shape)}")
        if not bool((low < high).all() and torch.isfinite(high - low).all()):
            raise ValueError("low must be below high and both finite, in each feature")
        self.register_buffer("low", low.detach().reshape(self.features).clone())
        self.register_buffer("high", high.detach().reshape(self.features).clone())

    @classmethod
    def fit(cls, data: Tensor, *, margin: float = 0.1) -> Self:
        """Return the bounding box of the data, extended by `margin` times its side at each end."""
        data = validate_events("data", data, least=2)
        low, high = data.amin(0), data.amax(0)
        side = high - low
        if not bool((side > 0).all()):
            raise ValueError(f"data must vary in each feature, constant in {int((side <= 0).sum())} of {side.numel()}")
        reach = validation.non_negative_float("margin", margin) * side
        return cls(low - reach, high + reach)

    @staticmethod
    def placeholders(shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        return (torch.ones(shape),)

    def flat_sample(self, count: int, generator: torch.Generator) -> Tensor:
        u = torch.rand((count, self.features), generator=generator, device=generator.device, dtype=self.low.dtype)
        return self.low + (self.high - self.low) * u.to(self.low.device)

    def flat_log_prob(self, x: Tensor) -> Tensor:
        inside = ((x >= self.low) & (x <= self.high)).all(1)
        height = -(self.high - self.low).log().sum()
        return torch.where(inside, height, -torch.inf)


def check_tensors(**arguments: object) -> None:
    """Raise `TypeError` for the first argument that is not a tensor."""
    for name, value in arguments.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")


def standard_normal(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw standard normal numbers with the dtype and device of `like`."""
    return torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


def estimate_moments(flat: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return mean `(d,)` and covariance `(d, d)` of `flat (n, d)`, with optional weights that sum to 1.

    Raises `ValueError` if a feature has no spread.
    """
    share = (
        torch.full((len(flat),), 1 / len(flat), dtype=flat.dtype, device=flat.device) if weights is None else weights
    )
    mean = share @ flat
    centred = flat - mean
    covariance = (centred * share[:, None]).T @ centred
    deviation = covariance.diagonal().sqrt()
    floor = torch.finfo(flat.dtype).eps * mean.abs().clamp(min=torch.finfo(flat.dtype).tiny)
    flatness = deviation <= torch.maximum(floor, LEAST_SCALE * deviation.max())
    if bool(flatness.any()):
        which = flatness.nonzero()[:, 0].tolist()
        raise ValueError(f"data must vary in each feature, constant in {which[:5]}{'…' if len(which) > 5 else ''}")
    # Collinear features leave a direction without spread; a tiny ridge keeps the Cholesky factor defined.
    ridge = len(flat[0]) * torch.finfo(flat.dtype).eps * covariance.diagonal()
    return mean, covariance + torch.diag(ridge)
