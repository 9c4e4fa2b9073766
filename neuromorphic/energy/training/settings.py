"""What a training run of an energy is: steps, batches, optimiser, and where its checkpoint is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from relaxon.core import validation
from relaxon.neuromorphic.optimizers import ADAPTIVE, build_optimizer
from relaxon.neuromorphic.parameters import check_real

Optimiser = Literal["sgd", "momentum", "adam", "diffgrad", "normalized"]
Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """What a training run is; the same settings on the same machine give the same weights, resumed or not.

    `optimiser` "momentum" is the dampened average `v ← (1−β) v + β g` of the paper with `β = 1 − momentum`; "sgd" is
    without; "diffgrad" and "normalized" are those of `relaxon.neuromorphic.optimizers`. `schedule` "cosine" lets the
    rate fall to zero. `clip` bounds the gradient's norm. `average` keeps an exponential average of the weights with
    that decay (corrected for its start), which is what the energy holds in the end. `noise_batch` None is as large as
    `batch`."""

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
    """Folder for the checkpoint; a run of the same settings found there is gone on with."""
    checkpoint_every: int = 500
    """Steps."""
    checkpoint_seconds: float | None = None
    """In place of those steps: a checkpoint after the step that ends so many seconds after the last one, less often
    where writing is slow; where 0, after every step."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "record_every", "checkpoint_every"):
            validation.positive_int(name, getattr(self, name))
        if self.checkpoint_seconds is not None:
            validation.non_negative_float("checkpoint_seconds", self.checkpoint_seconds)
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
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be an integer from 0 to 2³¹ − 1, got {self.seed!r}")
        try:
            torch.device(self.device)
        except RuntimeError as error:
            raise ValueError(f"device must be one that torch knows, got {self.device!r}") from error

    def describe(self) -> dict[str, Any]:
        """The settings that decide the outcome, as JSON values."""
        left_out = ("out", "checkpoint_every", "checkpoint_seconds")
        names = [name for name in self.__dataclass_fields__ if name not in left_out]
        return {name: getattr(self, name) for name in names}


def make_optimizer(settings: TrainingSettings, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser that the settings name."""
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
    """Refuse, under that argument's name, what cannot train an energy."""
    if value in ADAPTIVE:
        raise ValueError(
            f"{name} must not be {value!r}: energies are trained on batches of one size, whose loss is in general no "
            f"mean over samples"
        )
    if value not in get_args(Optimiser):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, get_args(Optimiser)))}, got {value!r}")
    if value == "normalized" and weight_decay:
        raise ValueError(f"weight_decay must be 0 for {name} 'normalized', got {weight_decay!r}")
