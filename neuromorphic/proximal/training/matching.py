"""Training by proximal matching, which learns the proximal operator of the log-prior of samples.

Fang, Buchanan and Sulam (2024): `ℓ(x, f(y)) = 1 − exp(−‖f(y) − x‖²/γ²)` up to a constant factor, with `y = x + σ v`,
v standard normal. As γ → 0, its minimiser tends to the mode of the posterior, `prox_{−σ² log p}(y)`. The loss is flat
far from its minimum, so training starts with the mean absolute error and decreases γ in stages.

The mode estimated from few samples is uncertain: for one entry, the error is of order `1/√(N γ³)`. "posterior" pairs
average exactly over the samples from which a noisy signal may have come, `Σ_i w_i(y) ℓ(x_i, f(y))` over all samples
with `w_i ∝ e^{−‖y − x_i‖²/2σ²}`: the same expectation without that noise. In many dimensions w_i is 1 for one sample,
so there is no gain.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from relaxon.core import validation
from relaxon.neuromorphic.proximal.model import MatchingRecord, MatchingResult, ProximalModel
from relaxon.neuromorphic.proximal.potentials import NetworkSettings, build_potential
from relaxon.neuromorphic.torch_runs import (
    LOST_STEPS,
    CheckpointedRun,
    Ended,
    check_run_settings,
    describe_settings,
    make_generator,
)

Pairing = Literal["drawn", "posterior"]
LARGEST_PAIRS = 1 << 24
"""Largest number of entries of all differences in a step with "posterior" pairs."""
ASTRAY = 2.0
"""Root mean square error, in multiples of the noise, from which the flat loss of a matching stage cannot recover;
`LOST_STEPS` consecutive steps above it end a run."""
FALL = 0.1
"""Final learning rate of a phase, as a fraction of its initial one."""


@dataclass(frozen=True, slots=True)
class MatchingSettings:
    """Settings of a training by proximal matching; the same settings on the same machine give the same weights.

    Parameters
    ----------
    noise : σ, the standard deviation of the noise in the units of the data; the regulariser is `−σ² log p`.
    start_steps : number of steps with the mean absolute error, at the learning rate `rate`.
    gammas : decreasing widths of the matching loss, one for each stage, in units of `noise` and per entry of the
        signal: the loss is `1 − exp(−‖r‖²/(n (γσ)²))` for n entries (the paper's γ is this one times `σ√n`).
    stage_steps : number of steps of each stage, at the learning rate `matching_rate`.
    rate, matching_rate : initial learning rates of Adam, which decay to a tenth along a cosine in each phase.
    batch : number of samples in a step, drawn without replacement until all have been used.
    pairing : "drawn" compares f(y) with the sample from which y was made; "posterior" compares it with all samples,
        weighted by their probability given y, for few samples in few dimensions.
    average : decay of the exponential average of the weights that the model finally has; None for the last weights.
    seed : seed of the order of samples and of the noise.
    record_every : steps between two records.
    device : torch device.
    out : folder for the checkpoint; a run with the same settings and data resumes from a checkpoint found there.
    checkpoint_every : steps between two checkpoints.
    checkpoint_seconds : seconds between two checkpoints, in place of steps: written at the end of a step, less often
        where writing is slow, and after every step where 0.

    Raises `TypeError` or `ValueError` naming the argument.
    """

    noise: float
    start_steps: int = 2000
    gammas: tuple[float, ...] = (1.0, 0.5)
    stage_steps: int = 1000
    rate: float = 1e-3
    matching_rate: float = 3e-4
    batch: int = 128
    pairing: Pairing = "drawn"
    average: float | None = 0.99
    seed: int = 0
    record_every: int = 10
    device: str = "cpu"
    out: Path | None = None
    checkpoint_every: int = 500
    checkpoint_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("noise", "rate", "matching_rate"):
            validation.positive_float(name, getattr(self, name))
        check_run_settings(self, ("start_steps", "stage_steps", "batch"))
        object.__setattr__(self, "gammas", check_gammas(self.gammas))
        if self.pairing not in get_args(Pairing):
            raise ValueError(f"pairing must be 'drawn' or 'posterior', got {self.pairing!r}")
        if self.average is not None and not 0 <= validation.finite_float("average", self.average) < 1:
            raise ValueError(f"average must be at least 0 and below 1, got {self.average!r}")

    @property
    def steps(self) -> int:
        """Number of steps of the whole run."""
        return self.start_steps + len(self.gammas) * self.stage_steps

    def describe(self) -> dict[str, Any]:
        """Return the settings that determine the result, as JSON values."""
        return describe_settings(self)


@dataclass(frozen=True, slots=True)
class MatchingProgress:
    """The argument of a watcher after each step."""

    step: int
    steps: int
    record: MatchingRecord


MatchingWatcher = Callable[[MatchingProgress], object]
"""A function called after each step; returning True writes a checkpoint and stops the run."""


LARGEST_SAMPLE = 1e15
"""Largest magnitude of training data: its square, summed over an image, is finite in float32."""


def train_proximal(
    data: ArrayLike | Tensor,
    network: NetworkSettings,
    settings: MatchingSettings,
    *,
    watcher: MatchingWatcher | None = None,
) -> ProximalModel:
    """Train a proximal operator on samples of the prior, and return the model with the outcome of the training.

    Steps whose gradient is not finite are skipped; twenty in a row end the run as `NON_FINITE`. Twenty consecutive
    steps of matching with f(y) twice as far from x as y end it as `DIVERGED`: the γ is too small for the errors. With
    `settings.out`, a run with the same data and settings resumes from its checkpoint and gives the same bits as an
    uninterrupted run.

    Parameters
    ----------
    data : samples `(n, *network.shape)`, finite.
    network, settings : the form of the network, and how it is trained.
    watcher : called after each step; returning True ends the run as `CANCELLED` with the current weights.

    Raises `TypeError` or `ValueError` naming the argument, before any work.

    >>> import numpy as np
    >>> from relaxon.neuromorphic.proximal import MatchingSettings, NetworkSettings, train_proximal
    >>> data = np.random.default_rng(0).laplace(size=(500, 1))
    >>> settings = MatchingSettings(noise=1.0, start_steps=20, gammas=(0.5,), stage_steps=10)
    >>> model = train_proximal(data, NetworkSettings((1,), hidden=(8,)), settings)
    >>> model.training.ended.name, model.denoise(np.zeros(1)).shape
    ('FINISHED', (1,))
    """
    if not isinstance(network, NetworkSettings):
        raise TypeError(f"network must be NetworkSettings, got {type(network).__name__}")
    if not isinstance(settings, MatchingSettings):
        raise TypeError(f"settings must be MatchingSettings, got {type(settings).__name__}")
    array = validation.real_array("data", data.detach().cpu().numpy() if isinstance(data, Tensor) else data)
    if array.shape[1:] != network.shape or not len(array):
        shape = ", ".join(map(str, network.shape))
        raise ValueError(f"data must have shape (n, {shape}) with n ≥ 1, got {array.shape}")
    if settings.pairing == "posterior" and settings.batch * array.size > LARGEST_PAIRS:
        raise ValueError(
            f"pairing must be 'drawn' where batch × entries of data exceed {LARGEST_PAIRS}, got {settings.batch} × "
            f"{array.size}"
        )
    largest = float(np.abs(array).max())
    if largest > LARGEST_SAMPLE:
        raise ValueError(f"data must be at most {LARGEST_SAMPLE:g} in size, as training is in float32, got {largest:g}")
    model: ProximalModel = _MatchingRun(torch.from_numpy(np.array(array, np.float32)), network, settings).run(watcher)
    return model


class _MatchingRun(CheckpointedRun):
    record_type = MatchingRecord
    kept = (*CheckpointedRun.kept, "astray")

    def __init__(self, data: Tensor, network: NetworkSettings, settings: MatchingSettings) -> None:
        self.network, self.astray = network, 0
        self.digest = hashlib.sha256(data.numpy().tobytes()).hexdigest()
        self.potential = build_potential(network).to(settings.device)
        trained = list(self.potential.parameters())
        optimiser = torch.optim.Adam(trained, lr=settings.rate)
        super().__init__(settings, data.to(settings.device), self.potential, trained, trained, optimiser)

    def _report(self, record: MatchingRecord, watcher: MatchingWatcher | None) -> object:
        return watcher is not None and watcher(MatchingProgress(self.step, self.settings.steps, record))

    def _find_failure(self, record: MatchingRecord) -> tuple[Ended, str] | None:
        if self.astray >= LOST_STEPS and self.lost < LOST_STEPS:
            return Ended.DIVERGED, (
                f"f(y) was {math.sqrt(record.mean_square) / self.settings.noise:.1f} times as far from x as the noise "
                f"at step {self.step}: start with a larger γ, or with more steps"
            )
        return super()._find_failure(record)

    def _phase(self) -> tuple[int, float]:
        """Return the stage of the next step and the completed fraction of that stage."""
        done = self.step - self.settings.start_steps
        if done < 0:
            return 0, self.step / self.settings.start_steps
        stage, place = divmod(done, self.settings.stage_steps)
        return stage + 1, place / self.settings.stage_steps

    def _take_step(self) -> MatchingRecord:
        settings = self.settings
        began = time.perf_counter()
        stage, done = self._phase()
        clean = self._batch()
        noise = torch.randn(clean.shape, generator=make_generator(settings.seed, 1, self.step)).to(clean.device)
        noisy = (clean + settings.noise * noise).requires_grad_()
        found = self.potential.proximal(noisy, differentiable=True)
        gamma = settings.gammas[stage - 1] * settings.noise if stage else None
        loss = self._compare(found, clean, noisy.detach(), gamma)
        squares = (found.detach() - clean).flatten(1).square().mean(1)
        norm = self._apply(loss, stage, done)
        self.step += 1
        far = stage > 0 and float(squares.mean()) > (ASTRAY * settings.noise) ** 2
        self.astray = self.astray + 1 if far else 0
        seconds = self.seconds + time.perf_counter() - began
        return MatchingRecord(self.step, stage, float(loss.detach()), float(squares.mean()), norm, seconds)

    def _compare(self, found: Tensor, clean: Tensor, noisy: Tensor, gamma: float | None) -> Tensor:
        """Return the loss of a step; the mean absolute error where `gamma` is None."""
        if self.settings.pairing == "drawn":
            error = (found - clean).flatten(1)
            return error.abs().mean() if gamma is None else matching_loss(error.square().mean(1), gamma).mean()
        samples, noisy = self.data.flatten(1), noisy.flatten(1)
        distances = (noisy[:, None] - samples[None]).square().sum(2)
        weights = torch.softmax(-0.5 * distances / self.settings.noise**2, 1)
        error = found.flatten(1)[:, None] - samples[None]
        each = error.abs().mean(2) if gamma is None else matching_loss(error.square().mean(2), gamma)
        return (weights * each).sum(1).mean()

    def _apply(self, loss: Tensor, stage: int, done: float) -> float:
        _, norm = self._differentiate(loss)
        if self.lost:
            return norm
        first = self.settings.matching_rate if stage else self.settings.rate
        self._set_rate(first * (FALL + (1 - FALL) * 0.5 * (1 + math.cos(math.pi * done))))
        self.optimiser.step()
        self.potential.project()
        self._update_averages()
        return norm

    @torch.no_grad()
    def _finish(self, ended: Ended, reason: str) -> ProximalModel:
        for parameter, average in zip(self.averaged, self._read_averages(), strict=False):
            parameter.copy_(average)
        result = MatchingResult(ended, self.step, tuple(self.records), self.seconds, reason)
        return ProximalModel(self.potential.cpu(), self.settings.noise, result)

    def _identify(self) -> dict[str, Any]:
        """Return what must be the same for a run to resume from a checkpoint."""
        data = {"shape": list(self.data.shape), "sha256": self.digest}
        return {"settings": self.settings.describe(), "architecture": self.network.describe(), "data": data}


def check_gammas(gammas: Iterable[float]) -> tuple[float, ...]:
    """Return the widths of the matching loss as a tuple; TypeError or ValueError where they do not decrease."""
    if isinstance(gammas, str) or not hasattr(gammas, "__iter__"):
        raise TypeError(f"gammas must be numbers, got {type(gammas).__name__}")
    values = tuple(validation.positive_float("gammas", gamma) for gamma in gammas)
    if any(after >= before for before, after in pairwise(values)):
        raise ValueError(f"gammas must decrease from one stage to the next, got {values}")
    return values


def matching_loss(squares: Tensor, gamma: float) -> Tensor:
    """Return `1 − exp(−s/γ²)` for mean square errors s, of any shape."""
    return -torch.expm1(-squares / gamma**2)
