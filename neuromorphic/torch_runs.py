"""A training run of a torch module: mini-batches, records, averaged weights, bit-exact checkpoints and cancellation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from relaxon.core import validation
from relaxon.neuromorphic.checkpoints import Pace
from relaxon.neuromorphic.torch_checkpoints import read_record, restore_checkpoint, write_checkpoint

LOST_STEPS = 20
"""Number of consecutive steps without a finite gradient that ends a run."""


class Ended(Enum):
    """How a training run ended."""

    FINISHED = "finished"
    CANCELLED = "cancelled"
    NON_FINITE = "non_finite"
    DIVERGED = "diverged"


class CheckpointedRun:
    """The state of a run, which a checkpoint holds entirely, and its loop; subclasses take the steps.

    `settings` have `steps`, `batch`, `average`, `seed`, `record_every` and the three settings of checkpoints. `module`
    is what a checkpoint stores, `trained` are the parameters that `optimiser` changes, and `averaged` those of which an
    exponential moving average is kept if `settings.average` is given.

    A subclass has `_take_step`, which changes the weights once, increases `step` and returns its record; `_report`,
    which passes a record to the watcher and returns its answer; `_finish`, which returns the result of a run with its
    final weights in place; and `_identify`, the JSON values that a checkpoint must match for the run to resume it.
    """

    _take_step: Callable[[], Any]
    _report: Callable[[Any, Any], object]
    _finish: Callable[[Ended, str], Any]
    _identify: Callable[[], dict[str, Any]]

    record_type: ClassVar[type]
    kept: ClassVar[tuple[str, ...]] = ("step", "lost", "seconds")
    """Attributes that a checkpoint stores besides tensors and records."""

    def __init__(
        self,
        settings: Any,
        data: Tensor,
        module: nn.Module,
        trained: Sequence[nn.Parameter],
        averaged: Sequence[nn.Parameter],
        optimiser: torch.optim.Optimizer,
    ) -> None:
        self.settings, self.data, self.module, self.optimiser = settings, data, module, optimiser
        self.parameters = list(trained)
        self.averaged = list(averaged) if settings.average is not None else []
        self.averages = [parameter.detach().clone() for parameter in self.averaged]
        self.per_epoch = math.ceil(len(data) / settings.batch)
        self.order, self.order_of = torch.empty(0, dtype=torch.int64), -1
        self.step, self.lost, self.seconds = 0, 0, 0.0
        self.records = list[Any]()
        self.pace = Pace(settings.checkpoint_seconds or 0.0)

    def run(self, watcher: Callable[[Any], object] | None) -> Any:
        """Resume from a checkpoint where there is one, train, and return the result."""
        self._resume()
        settings = self.settings
        while self.step < settings.steps and not self._is_done():
            began = time.perf_counter()
            record = self._take_step()
            last = self.step == settings.steps
            failure = self._find_failure(record)
            if self.step % settings.record_every == 0 or last or failure:
                self.records.append(record)
            self.seconds += time.perf_counter() - began
            if failure:
                return self._finish(*failure)
            stopped = self._report(record, watcher) is True
            if self._is_checkpoint_due() or stopped or last or self._is_done():
                self._save()
            if stopped and not last:
                return self._finish(Ended.CANCELLED, "the watcher stopped the run")
        return self._conclude()

    def _conclude(self) -> Any:
        return self._finish(Ended.FINISHED, "")

    def _is_done(self) -> bool:
        """Return whether the run ends before its last step."""
        return False

    def _find_failure(self, record: Any) -> tuple[Ended, str] | None:
        """Return how and why the run ends after a step, if it cannot go on."""
        del record
        if self.lost < LOST_STEPS:
            return None
        return Ended.NON_FINITE, f"{self.lost} consecutive gradients were not finite"

    def _is_checkpoint_due(self) -> bool:
        if self.settings.checkpoint_seconds is not None:
            return self.pace.due
        return bool(self.step % self.settings.checkpoint_every == 0)

    def _batch(self) -> Tensor:
        epoch, place = divmod(self.step, self.per_epoch)
        if epoch != self.order_of:
            # Drawn from the seed and the epoch, so that a resumed run does not need the state of a generator.
            order = torch.randperm(len(self.data), generator=make_generator(self.settings.seed, 0, epoch))
            self.order, self.order_of = order.to(self.data.device), epoch
        return self.data[self.order[place * self.settings.batch : (place + 1) * self.settings.batch]]

    def _differentiate(self, loss: Tensor) -> tuple[list[Tensor], float]:
        """Return the gradients of the loss and their norm; `lost` counts the steps at which they are not finite."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = float(torch.stack([gradient.detach().norm() for gradient in gradients]).norm())
        sound = math.isfinite(norm) and math.isfinite(float(loss.detach()))
        self.lost = 0 if sound else self.lost + 1
        return gradients, norm

    def _set_rate(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    @torch.no_grad()
    def _update_averages(self) -> None:
        decay = self.settings.average
        for average, parameter in zip(self.averages, self.averaged, strict=True):
            # Averages start from 0 at the first step and are divided by 1 − decay^step when they are read.
            average.mul_(decay if self.step else 0.0).add_(parameter, alpha=1 - decay)

    def _read_averages(self) -> list[Tensor]:
        """Return the averages without the bias of their start; none before the first step."""
        return [average / (1 - self.settings.average**self.step) for average in self.averages] if self.step else []

    def _save(self) -> None:
        if self.settings.out is not None:
            record = self._identify() | {name: getattr(self, name) for name in self.kept}
            record["records"] = [asdict(one) for one in self.records]
            with self.pace.writing():
                write_checkpoint(self.settings.out, self.module, self.optimiser, self.averages, record)

    def _resume(self) -> None:
        out = self.settings.out
        if out is None:
            return
        same, before = self._identify(), read_record(out)
        if before is not None and "digest" not in before:  # written before checkpoints contained a digest
            same.pop("digest", None)
        record = restore_checkpoint(out, self.module, self.optimiser, self.averages, same)
        if record is not None:
            for name in self.kept:
                setattr(self, name, record[name])
            self.records = [self.record_type(**one) for one in record["records"]]


def make_generator(seed: int, stream: int, index: int) -> torch.Generator:
    """Return a separate generator for each use (`stream`) and step (`index`) of a run."""
    # The numbers are hashed first, because torch's generator uses only the last 32 bits of a seed.
    mixed = np.random.SeedSequence((seed, stream, index)).generate_state(1)
    return torch.Generator().manual_seed(int(mixed[0]))


def check_run_settings(settings: Any, counts: Sequence[str]) -> None:
    """Check what the settings of all runs share: numbers above 0, seed, device, and checkpoints.

    Raises `TypeError` or `ValueError` naming the argument.
    """
    for name in (*counts, "record_every", "checkpoint_every"):
        validation.positive_int(name, getattr(settings, name))
    if settings.checkpoint_seconds is not None:
        validation.non_negative_float("checkpoint_seconds", settings.checkpoint_seconds)
    check_seed(settings.seed)
    if settings.out is not None:
        object.__setattr__(settings, "out", Path(settings.out))
    try:
        torch.empty(0, device=torch.device(settings.device))
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        why = str(error).partition("\n")[0]
        raise ValueError(f"device must be a torch device of this machine, got {settings.device!r}: {why}") from error


def check_seed(seed: object) -> None:
    """Raise `ValueError` for a seed that the trainings do not take."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise ValueError(f"seed must be an integer from 0 to 2³¹ − 1, got {seed!r}")


def describe_settings(settings: Any) -> dict[str, Any]:
    """Return the settings that determine the outcome of a run, as JSON values."""
    names = [name for name in settings.__dataclass_fields__ if name != "out" and not name.startswith("checkpoint")]
    values = {name: getattr(settings, name) for name in names}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
