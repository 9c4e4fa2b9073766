"""Plain training of torch modules with snapshots, for diagnostics over time and over initial weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from relaxon.core import validation
from relaxon.neuromorphic.diagnostics.losses import row_losses
from relaxon.neuromorphic.diagnostics.models import as_subject
from relaxon.neuromorphic.diagnostics.subjects import ModuleSubject, validate_rows
from relaxon.neuromorphic.parameters import check_real

Optimiser = Literal["adam", "sgd"]
Build = Callable[[int], nn.Module]
"""A function that builds a module from a seed, which also seeds torch's global generator during the call."""


@dataclass(frozen=True, slots=True)
class SnapshotSettings:
    """Settings of a training with snapshots.

    `batch` is the number of rows in a step, 0 for all rows. `rate` is the learning rate of `optimiser` ("adam" or
    "sgd"), `momentum` that of "sgd". Snapshots are taken at `every` "epoch" or "step", or at the "end" only. `seed`
    sets the order of the rows.

    Raises `TypeError` or `ValueError` naming the argument.
    """

    epochs: int = 10
    batch: int = 32
    rate: float = 3e-3
    optimiser: Optimiser = "adam"
    momentum: float = 0.0
    every: Literal["epoch", "step", "end"] = "epoch"
    seed: int = 0

    def __post_init__(self) -> None:
        validation.positive_int("epochs", self.epochs)
        if self.batch != 0:
            validation.positive_int("batch", self.batch)
        validation.positive_float("rate", self.rate)
        if self.optimiser not in get_args(Optimiser):
            raise ValueError(f"optimiser must be 'adam' or 'sgd', got {self.optimiser!r}")
        check_real("momentum", self.momentum, least=0.0, below=1.0)
        if self.every not in ("epoch", "step", "end"):
            raise ValueError(f"every must be 'epoch', 'step' or 'end', got {self.every!r}")
        validation.whole_number("seed", self.seed)


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Copies of a module during training, in evaluation mode.

    `models[t]` is the copy after `steps[t]` steps, of which each epoch has `steps_per_epoch`; `losses[t]` is its mean
    loss over all rows. The first copy is the initial module, unless only the end was requested.
    """

    models: tuple[nn.Module, ...] = field(repr=False)
    steps: NDArray[np.int64]
    losses: NDArray[np.float64]
    steps_per_epoch: int

    @property
    def epochs(self) -> NDArray[np.float64]:
        """Number of epochs before each copy."""
        return self.steps / self.steps_per_epoch

    @property
    def final(self) -> nn.Module:
        return self.models[-1]


def train_snapshots(
    module: nn.Module,
    X: ArrayLike,
    y: ArrayLike,
    settings: SnapshotSettings | None = None,
    *,
    loss: str = "auto",
    progress: Callable[[int, int], object] | None = None,
) -> Snapshots:
    """Train a copy of a module and return snapshots of it; `module` itself is not changed.

    The copy is trained in training mode, whatever the mode of `module`, on the mean loss of a batch. `progress` is
    called with the steps done and the total number of steps. The same module, data and settings give the same bits.

    Raises `TypeError` or `ValueError` naming the argument, before any work.

    >>> import numpy as np, torch
    >>> from relaxon.neuromorphic.diagnostics import SnapshotSettings, train_snapshots
    >>> x = np.random.default_rng(0).normal(size=(64, 3))
    >>> settings = SnapshotSettings(epochs=5, rate=0.1)
    >>> found = train_snapshots(torch.nn.Linear(3, 2), x, (x[:, 0] > 0).astype(int), settings)
    >>> len(found.models), bool(found.losses[-1] < found.losses[0])
    (6, True)
    """
    settings = settings or SnapshotSettings()
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch module, got {type(module).__name__}")
    # Batch normalisation and dropout are allowed in training; snapshots are in evaluation mode.
    trained = copy.deepcopy(module)
    subject = as_subject(trained.eval(), loss, y)
    if not isinstance(subject, ModuleSubject):
        raise TypeError(
            f"module must be called on rows, got a {type(module).__name__}, which relaxes and has its own trainer: "
            "relaxon.neuromorphic.equilibrium.train"
        )
    x, target = validate_rows(subject, X, y)
    rows = len(x) if settings.batch == 0 else min(settings.batch, len(x))
    steps_per_epoch = -(-len(x) // rows)
    optimiser = _build_optimiser(trained, settings)
    kept: list[tuple[int, float, nn.Module]] = []

    def keep(step: int) -> None:
        kept.append((step, _mean_loss(subject, x, target), copy.deepcopy(trained).eval()))

    if settings.every != "end":
        keep(0)
    step = 0
    with torch.random.fork_rng(devices=[]):  # for dropout
        torch.manual_seed(settings.seed)
        for batch in _yield_batches(len(x), rows, settings):
            _step(subject, x[batch], target[batch], optimiser)
            step += 1
            if settings.every == "step" or (settings.every == "epoch" and step % steps_per_epoch == 0):
                keep(step)
            if progress is not None:
                progress(step, steps_per_epoch * settings.epochs)
    if settings.every == "end":
        keep(step)
    steps, losses, models = zip(*kept, strict=True)
    for model in models:
        model.zero_grad()
    return Snapshots(models, np.array(steps, np.int64), np.array(losses), steps_per_epoch)


def train_starts(
    build: Build,
    X: ArrayLike,
    y: ArrayLike,
    settings: SnapshotSettings | None = None,
    *,
    starts: int = 10,
    loss: str = "auto",
    progress: Callable[[int, int], object] | None = None,
) -> tuple[nn.Module, ...]:
    """Return modules trained from different initial weights: `build(seed)` for `starts` seeds from `settings.seed` on.

    Each start has a different order of rows. `progress` is called with the starts done and the total number of starts.
    Paul, Ganguli and Dziugaite 2021 average their scores over 10 starts.
    """
    settings = settings or SnapshotSettings()
    made = []
    for number in range(validation.positive_int("starts", starts)):
        seed = settings.seed + number
        own = replace(settings, seed=seed, every="end")
        made.append(train_snapshots(build_module(build, seed), X, y, own, loss=loss).final)
        if progress is not None:
            progress(number + 1, starts)
    return tuple(made)


def build_module(build: Build, seed: int) -> nn.Module:
    """Return `build(seed)`, with torch's generator seeded for the call and restored afterwards."""
    if not callable(build):
        raise TypeError(f"build must be a function from a seed to a module, got {type(build).__name__}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build(seed)
    if not isinstance(module, nn.Module):
        raise TypeError(f"build must return a torch module, got {type(module).__name__}")
    return module


def _step(subject: ModuleSubject, x: Tensor, target: Tensor, optimiser: Any) -> None:
    subject.module.train()
    optimiser.zero_grad()
    with torch.enable_grad():
        outputs = subject.widen(subject.module(x))
        torch.autograd.backward(row_losses(subject.loss, outputs, target).mean())
    optimiser.step()
    subject.module.eval()


def _yield_batches(count: int, rows: int, settings: SnapshotSettings) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(settings.seed)
    for _ in range(settings.epochs):
        order = torch.randperm(count, generator=generator) if rows < count else torch.arange(count)
        yield from torch.split(order, rows)


def _build_optimiser(module: nn.Module, settings: SnapshotSettings) -> Any:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if settings.optimiser == "adam":
        return torch.optim.Adam(trained, lr=settings.rate)
    return torch.optim.SGD(trained, lr=settings.rate, momentum=settings.momentum)


def _mean_loss(subject: ModuleSubject, x: Tensor, target: Tensor) -> float:
    with torch.no_grad():
        return float(row_losses(subject.loss, subject.widen(subject.module(x.clone())), target).double().mean())
