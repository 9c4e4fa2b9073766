"""The settings of a training run of an energy: steps, batches, optimiser and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from relaxon.core import validation
from relaxon.neuromorphic.optimizers import ADAPTIVE, build_optimizer
from relaxon.neuromorphic.parameters import check_real
from relaxon.neuromorphic.torch_runs import check_run_settings, describe_settings

Optimiser = Literal["sgd", "momentum", "adam", "diffgrad", "normalized"]
Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """The settings of a training run; the same settings on the same machine give the same weights, resumed or not.

    `optimiser` "momentum" is the dampened average `v ← (1−β) v + β g` of the MECO paper with `β = 1 − momentum`, "sgd"
    has no momentum, and "diffgrad" and "normalized" are those of `relaxon.neuromorphic.optimizers`. `schedule="cosine"`
    lets the learning rate fall to zero. `clip` bounds the norm of the gradient. `average` is the decay of a
    bias-corrected exponential moving average of the weights, which the energy holds at the end. `noise_batch=None`
    means `batch`.
    """

    steps: int = 2000
    batch: int = 256
    noise_batch: int | None = None
    rate: float = 1e-3
    optimiser: Optimiser = "adam"
    momentum: float = 0.9
    schedule: Schedule = "cosine"
    weight_decay: float = 0.0
    clip: float | None = None
    average: float | None = None
    seed: int = 0
    record_every: int = 10
    device: str = "cpu"
    out: Path | None = None
    """Folder for the checkpoint; a run with the same settings found there is resumed."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    checkpoint_seconds: float | None = None
    """Seconds between checkpoints, instead of steps; less often if writing is slow, and after every step for 0."""

    def __post_init__(self) -> None:
        check_run_settings(self, ("steps", "batch"))
        if self.noise_batch is not None:
            validation.positive_int("noise_batch", self.noise_batch)
        validation.positive_float("rate", self.rate)
        validation.non_negative_float("weight_decay", self.weight_decay)
        check_optimizer("optimiser", self.optimiser, self.weight_decay)
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"schedule must be 'constant' or 'cosine', got {self.schedule!r}")
        for name, value in (("momentum", self.momentum), ("average", self.average)):
            if value is not None:
                check_real(name, value, least=0.0, below=1.0)
        if self.clip is not None:
            validation.positive_float("clip", self.clip)

    def describe(self) -> dict[str, Any]:
        """Return the settings that determine the outcome, as JSON values."""
        return describe_settings(self)


def make_optimizer(settings: TrainingSettings, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser of the settings."""
    decay = settings.weight_decay
    if settings.optimiser == "adam":
        return torch.optim.AdamW(parameters, lr=settings.rate, weight_decay=decay)
    if settings.optimiser == "momentum":
        keep = settings.momentum
        return torch.optim.SGD(parameters, lr=settings.rate, momentum=keep, dampening=keep, weight_decay=decay)
    if settings.optimiser in ("diffgrad", "normalized"):
        return build_optimizer(
            settings.optimiser,
            parameters,
            settings.rate,
            momentum=settings.momentum,
            batch=1,
            most=1,
            weight_decay=decay,
        )
    return torch.optim.SGD(parameters, lr=settings.rate, weight_decay=decay)


def check_optimizer(name: str, value: str, weight_decay: float) -> None:
    """Raise `ValueError` naming the argument for an optimiser that cannot train an energy."""
    if value in ADAPTIVE:
        raise ValueError(
            f"{name} must not be {value!r}: energies are trained on batches of a fixed size, whose loss is in general "
            f"not a mean over samples"
        )
    if value not in get_args(Optimiser):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, get_args(Optimiser)))}, got {value!r}")
    if value == "normalized" and weight_decay:
        raise ValueError(f"weight_decay must be 0 for {name} 'normalized', got {weight_decay!r}")
