"""A fitted density as a `torch.distributions.Distribution`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints


class EnergyDistribution(Distribution):
    """`log_prob` (differentiable in x) and `sample` of an `EnergyDensity`, in double precision.

    `sample` uses torch's global generator, as all torch distributions do.
    """

    def __init__(self, density: Any, validate_args: bool | None = None) -> None:
        self.density = density
        like = next(density.energy_.parameters())
        self._mean = torch.from_numpy(density.mean_).to(like)
        self._scale = torch.from_numpy(density.scale_).to(like)
        self._constant = float(density.log_partition_.value) + float(self._scale.log().sum())
        super().__init__(torch.Size(), torch.Size([len(self._mean)]), validate_args=validate_args)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        return {}

    @property
    def support(self) -> constraints.Constraint:
        return constraints.real_vector

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of values `(…, features)`."""
        if not isinstance(value, Tensor):
            raise TypeError(f"value must be a tensor, got {type(value).__name__}")
        if value.shape[-1:] != self.event_shape:
            raise ValueError(f"value must be of shape (…, {len(self._mean)}), got {tuple(value.shape)}")
        if self._validate_args:
            self._validate_sample(value)
        flat = value.to(self._mean).reshape(-1, len(self._mean))
        found: Tensor = -self.density.energy_((flat - self._mean) / self._scale) - self._constant
        return found.reshape(value.shape[:-1])

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw samples, `(*sample_shape, features)`."""
        shape = torch.Size(sample_shape)
        seed = int(torch.randint(2**31 - 1, ()))
        drawn = self.density.sample(max(1, shape.numel()), random_state=seed)
        return torch.from_numpy(drawn).to(self._mean)[: shape.numel()].reshape(*shape, len(self._mean))
