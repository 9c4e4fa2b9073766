"""A normalising flow as the noise distribution: neural splines of the package zuko, fitted by maximum likelihood.

Requires `pip install "relaxon[flows]"`.
"""
# Imported on first use, for their weight: zuko.

from __future__ import annotations

import copy
from typing import Any, Self

import torch
from torch import Tensor
from torch.distributions import Distribution

from relaxon.core import validation
from relaxon.core.extras import require
from relaxon.neuromorphic.energy.energies.events import flatten_events, parse_event_shape, validate_events
from relaxon.neuromorphic.energy.noise.distributions import NoiseModule, estimate_moments, standard_normal

WIDTH = 64
"""Default number of hidden units."""
HELD_OUT = 10
"""One row in so many is held out to select the weights."""
FEWEST_ROWS = 2 * HELD_OUT
"""Minimum number of rows that a flow is fitted to."""
CHECK_EVERY = 50
"""Steps between two evaluations on the hold-out rows."""


class FlowNoise(NoiseModule):
    """A neural spline flow (Durkan et al. 2019) over standardised features; build one with `fit`."""

    shift: Tensor
    scale: Tensor

    def __init__(
        self, shape: Any, *, transforms: int = 3, width: int = WIDTH, dtype: torch.dtype = torch.float32, seed: int = 0
    ) -> None:
        super().__init__(shape)
        # Importing zuko turns off the validation of all distributions of torch; the caller's choice is kept.
        validated = Distribution._validate_args
        require(("zuko",), "FlowNoise")
        from zuko.flows import NSF

        Distribution.set_default_validate_args(validated)
        self.transforms = validation.positive_int("transforms", transforms)
        self.width = validation.positive_int("width", width)
        # zuko initialises its weights with torch's global generator, whose state is restored.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.flow = NSF(self.features, transforms=transforms, hidden_features=(width, width)).to(dtype)
        self.register_buffer("shift", torch.zeros(self.features, dtype=dtype))
        self.register_buffer("scale", torch.ones(self.features, dtype=dtype))
        self.requires_grad_(False)

    @classmethod
    @torch.enable_grad()
    def fit(
        cls,
        data: Tensor,
        *,
        transforms: int = 3,
        width: int = WIDTH,
        steps: int = 1000,
        batch: int = 512,
        rate: float = 2e-3,
        seed: int = 0,
    ) -> Self:
        """Fit by maximum likelihood with Adam, and keep the weights with the smallest loss on a hold-out tenth."""
        data = validate_events("data", data, least=FEWEST_ROWS)
        for name, value in (("steps", steps), ("batch", batch)):
            validation.positive_int(name, value)
        flat = flatten_events(data)
        mean, covariance = estimate_moments(flat)
        noise = cls(data.shape[1:], transforms=transforms, width=width, dtype=data.dtype, seed=seed).to(data.device)
        noise.shift.copy_(mean)
        noise.scale.copy_(covariance.diagonal().sqrt())
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(flat), generator=generator).to(data.device)
        held, kept = flat[order[: len(flat) // HELD_OUT]], flat[order[len(flat) // HELD_OUT :]]
        noise.flow.requires_grad_(True)
        optimiser = torch.optim.Adam(noise.flow.parameters(), lr=validation.positive_float("rate", rate))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        best, weights = float("inf"), copy.deepcopy(noise.flow.state_dict())
        for step in range(1, steps + 1):
            chosen = torch.randint(len(kept), (min(batch, len(kept)),), generator=generator).to(data.device)
            optimiser.zero_grad()
            (-noise.flat_log_prob(kept[chosen]).mean()).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            if step % CHECK_EVERY == 0 or step == steps:
                with torch.no_grad():
                    loss = -float(noise.flat_log_prob(held).mean())
                if loss < best:
                    best, weights = loss, copy.deepcopy(noise.flow.state_dict())
        noise.flow.load_state_dict(weights)
        noise.flow.requires_grad_(False)
        return noise

    def config(self) -> dict[str, Any]:
        return super().config() | {"transforms": self.transforms, "width": self.width}

    @classmethod
    def empty(cls, config: dict[str, Any]) -> Self:
        return cls(parse_event_shape(config["event_shape"]), transforms=config["transforms"], width=config["width"])

    def flat_sample(self, count: int, generator: torch.Generator) -> Tensor:
        base = standard_normal((count, self.features), generator, self.shift)
        found: Tensor = self.shift + self.scale * self.flow().transform.inv(base)
        return found

    def flat_log_prob(self, x: Tensor) -> Tensor:
        found: Tensor = self.flow().log_prob((x - self.shift) / self.scale) - self.scale.log().sum()
        return found
