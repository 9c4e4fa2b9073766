"""The choice of the noise distribution that a density starts from: by name, or by the likelihood of hold-out rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from torch import Tensor

from relaxon.neuromorphic.energy.noise.adaptive import DefensiveNoise
from relaxon.neuromorphic.energy.noise.distributions import GaussianNoise
from relaxon.neuromorphic.energy.noise.fitted import KernelDensityNoise, MixtureNoise
from relaxon.neuromorphic.energy.noise.flow import FlowNoise

NoiseName = Literal["auto", "gaussian", "mixture", "kernel", "flow"]
NOISES = ("auto", "gaussian", "mixture", "kernel", "flow")
WIDE, SHARE = 2.0, 0.05
"""Width (relative to the data) and share of the wide component that covers the tails."""


def fit_noise(name: str, rest: Tensor, held: Tensor, seed: int) -> Any:
    """Fit the named noise distribution to `rest` `(n, d)` in double precision and add a wide component.

    "auto" selects the one under which `held` is most likely.
    """
    fits: dict[str, Callable[[], Any]] = {
        "gaussian": lambda: GaussianNoise.fit(rest),
        "mixture": lambda: MixtureNoise.fit(rest, seed=seed),
        "kernel": lambda: KernelDensityNoise.fit(rest),
        "flow": lambda: FlowNoise.fit(rest, seed=seed),
    }
    if name != "auto":
        return add_wide_component(fits[name](), rest)
    # Without hold-out rows to judge by, the simplest is used.
    names = ("gaussian", "mixture", "kernel") if len(held) else ("gaussian",)
    found = [add_wide_component(fits[one](), rest) for one in names]
    scores = [float(one.log_prob(held).mean()) if len(held) else 0.0 for one in found]
    return found[int(np.argmax(scores))]


def add_wide_component(noise: Any, data: Tensor) -> DefensiveNoise:
    """Return a mixture of the noise with a wide component against too light tails: wide kernels for kernels."""
    if isinstance(noise, KernelDensityNoise):
        wide = KernelDensityNoise(noise.points, WIDE * noise.factor, noise.event_shape)
        return DefensiveNoise(noise, wide, SHARE)
    return DefensiveNoise.around(noise, data, share=SHARE, widen=WIDE)
