"""The noise distribution that a density starts from: one of those by name, or the one that rows held out speak for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from torch import Tensor

from relaxon.neuromorphic.energy.noise.adaptive import DefensiveNoise
from relaxon.neuromorphic.energy.noise.distributions import GaussianNoise
from relaxon.neuromorphic.energy.noise.fitted import KernelDensityNoise, MixtureNoise

NoiseName = Literal["auto", "gaussian", "mixture", "kernel", "flow"]
NOISES = ("auto", "gaussian", "mixture", "kernel", "flow")
WIDE, SHARE = 2.0, 0.05
"""Deviations and share of the Gaussian that guards the tails."""


def fit_noise(name: str, rest: Tensor, held: Tensor, seed: int) -> Any:
    """Fit the noise distribution of that name to `rest`, `(n, d)`, in double precision, with its tails defended; with
    "auto", the one under which `held` is likeliest."""
    fits: dict[str, Callable[[], Any]] = {
        "gaussian": lambda: GaussianNoise.fit(rest),
        "mixture": lambda: MixtureNoise.fit(rest, seed=seed),
        "kernel": lambda: KernelDensityNoise.fit(rest),
        "flow": lambda: _fit_flow(rest, seed),
    }
    if name != "auto":
        return add_wide_component(fits[name](), rest)
    # With too few rows to judge by, the plainest is taken.
    names = ("gaussian", "mixture", "kernel") if len(held) else ("gaussian",)
    found = [add_wide_component(fits[one](), rest) for one in names]
    scores = [float(one.log_prob(held).mean()) if len(held) else 0.0 for one in found]
    return found[int(np.argmax(scores))]


def add_wide_component(noise: Any, data: Tensor) -> DefensiveNoise:
    """With a wide component against tails that are too light; kernels get wide kernels, which know the data's form."""
    if isinstance(noise, KernelDensityNoise):
        wide = KernelDensityNoise(noise.points, WIDE * noise.factor, noise.event_shape)
        return DefensiveNoise(noise, wide, SHARE)
    return DefensiveNoise.around(noise, data, share=SHARE, widen=WIDE)


def _fit_flow(data: Tensor, seed: int) -> Any:
    from relaxon.neuromorphic.energy.noise.flow import FlowNoise

    return FlowNoise.fit(data, seed=seed)
