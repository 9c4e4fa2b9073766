"""The training loop of an energy: mini-batches, records, bit-exact checkpoints, cancellation and a final verdict."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from relaxon.core.cached import cached_property
from relaxon.neuromorphic.checkpoints import check_hooks
from relaxon.neuromorphic.energy.energies.events import validate_energy, validate_events, validate_noise
from relaxon.neuromorphic.energy.objectives.noise_contrastive import Objective, StepReading
from relaxon.neuromorphic.energy.training.held_out import CHECK_EVERY, HoldOutJudge
from relaxon.neuromorphic.energy.training.settings import TrainingSettings, make_optimizer
from relaxon.neuromorphic.torch_runs import LOST_STEPS, CheckpointedRun, make_generator
from relaxon.neuromorphic.torch_runs import Ended as Ended

RUNAWAY = 1e8
"""Absolute loss above which a run has diverged."""
SCARCE = 5.0
"""Mean effective sample size over the last tenth of a run below which its result is doubtful."""
LOOKED_AT = 1000
"""Number of rows and of noise samples that are compared at the end of a run."""
MOST_OUTSIDE = 0.5
"""Share of rows outside of the noise samples above which the result is doubtful."""


@dataclass(frozen=True, slots=True)
class Record:
    """The record of one step, before its update of the weights; NaN for quantities that the objective does not have."""

    step: int
    loss: float
    log_partition: float
    """The objective's own log Z: `log u` of MECO, the constant of NCE."""
    true_log_partition: float
    """log Z by the `truth` that was passed to `train`."""
    effective_sample_size: float
    gamma: float
    gradient_norm: float
    seconds: float
    """Time since the start of the run, without that of the watcher."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress that a watcher receives after each step."""

    step: int
    steps: int
    record: Record
    weights: Callable[[], dict[str, Tensor]]
    """Returns copies of the energy's parameters as they would be if the run ended now, averaged if requested."""


Watcher = Callable[[Progress], object]
"""Called after each step; returning True stops the run after a checkpoint."""
Truth = Callable[[nn.Module], float]
"""Returns the true log Z of an energy."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The result of a run; `records` contains every `record_every`-th step and the last."""

    ended: Ended
    steps: int
    records: tuple[Record, ...]
    seconds: float
    trusted: bool
    """Whether the result is sufficiently supported by the noise; `reason` says why not."""
    reason: str = ""

    @property
    def log_partition(self) -> float:
        """The objective's last estimate of log Z."""
        return self.records[-1].log_partition if self.records else math.nan


class _RunState(nn.Module):
    """The full state of a run for checkpoints, as copies, because parts may share tensors (noise and base)."""

    def __init__(self, parts: dict[str, nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)

    def state_dict(self, *args: Any, **options: Any) -> Any:
        return {name: tensor.clone() for name, tensor in super().state_dict(*args, **options).items()}


def train(
    energy: nn.Module,
    data: Tensor,
    noise: Any,
    objective: Objective,
    settings: TrainingSettings | None = None,
    *,
    truth: Truth | None = None,
    watcher: Watcher | None = None,
    judge: HoldOutJudge | None = None,
) -> TrainingResult:
    """Train an energy in place on `data (n, *event_shape)`, in the precision of the energy, float32 or float64.

    `noise` may be None for an objective that needs none. A step with a non-finite gradient is skipped; twenty in a row
    end the run as `NON_FINITE`, and a loss beyond 1e8 ends it as `DIVERGED`. With `settings.out`, a checkpoint of the
    same settings and data is resumed and gives the same bits as an uninterrupted run. `truth` provides the true log Z
    for the records. `judge` evaluates the hold-out rows every 50 steps and may end the run as `CANCELLED`. Everything
    is moved to `settings.device`, where the energy remains.

    >>> import torch
    >>> from relaxon.neuromorphic.energy import MECO, GaussianNoise, QuadraticEnergy, TrainingSettings, train
    >>> data = 2 + torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    >>> energy, noise = QuadraticEnergy(1), GaussianNoise.fit(data)
    >>> result = train(energy, data, noise, MECO(), TrainingSettings(steps=300, rate=0.05))
    >>> result.ended.name, bool((energy.mean - data.mean()).abs() < 0.05)
    ('FINISHED', True)
    """
    settings = settings or TrainingSettings()
    if not isinstance(objective, Objective):
        raise TypeError(f"objective must be an Objective, got {type(objective).__name__}")
    if not isinstance(settings, TrainingSettings):
        raise TypeError(f"settings must be TrainingSettings, got {type(settings).__name__}")
    check_hooks(watcher, None)
    data = validate_events("data", data).to(settings.device)
    if isinstance(energy, nn.Module):
        energy.to(settings.device)
    validate_energy(energy, data)
    if objective.needs_noise:
        if isinstance(noise, nn.Module):
            noise.to(settings.device)
        validate_noise(noise, data)
    if not any(parameter.requires_grad for parameter in energy.parameters()):
        raise ValueError("energy must have a parameter that requires a gradient")
    result: TrainingResult = _EnergyRun(energy, data, noise, objective, settings, truth, judge).run(watcher)
    return result


class _EnergyRun(CheckpointedRun):
    record_type = Record
    kept = (*CheckpointedRun.kept, "sizes")

    def __init__(
        self,
        energy: nn.Module,
        data: Tensor,
        noise: Any,
        objective: Objective,
        settings: TrainingSettings,
        truth: Truth | None,
        judge: HoldOutJudge | None,
    ) -> None:
        self.energy, self.truth, self.judge, self.objective = energy, truth, judge, objective
        self.working = objective.begin(energy, noise, data, settings.noise_batch or settings.batch, settings.seed)
        learned = [*energy.parameters(), *self.working.parameters()]
        trained = [parameter for parameter in learned if parameter.requires_grad]
        own = [parameter for parameter in energy.parameters() if parameter.requires_grad]
        parts = {"energy": energy, "working": self.working}
        if isinstance(noise, nn.Module):
            parts["noise"] = noise
        if judge is not None:
            parts["judge"] = judge
        super().__init__(settings, data, _RunState(parts), trained, own, make_optimizer(settings, trained))
        self.sizes = list[float]()

    def _report(self, record: Record, watcher: Watcher | None) -> object:
        if self.judge is not None and self.step % CHECK_EVERY == 0:
            self.judge.look(self._weights())
        progress = Progress(self.step, self.settings.steps, record, self._weights)
        return watcher is not None and watcher(progress)

    def _conclude(self) -> TrainingResult:
        if self.step < self.settings.steps:
            return self._finish(Ended.CANCELLED, "the hold-out rows no longer gained")
        return self._finish(Ended.FINISHED, self._explain_doubt())

    def _is_done(self) -> bool:
        return self.judge is not None and self.judge.done

    def _find_failure(self, record: Record) -> tuple[Ended, str] | None:
        if abs(record.loss) > RUNAWAY and self.lost < LOST_STEPS:
            return Ended.DIVERGED, f"the loss reached {record.loss:.1e} at step {self.step}"
        return super()._find_failure(record)

    def _finish(self, ended: Ended, reason: str) -> TrainingResult:
        if self.averages and self.step:
            self.energy.load_state_dict(self._weights(), strict=False)
        return TrainingResult(ended, self.step, tuple(self.records), self.seconds, not reason, reason)

    def _weights(self) -> dict[str, Tensor]:
        named = {name: parameter for name, parameter in self.energy.named_parameters() if parameter.requires_grad}
        found = self._read_averages() or [parameter.detach().clone() for parameter in named.values()]
        return dict(zip(named, found, strict=True))

    def _explain_doubt(self) -> str:
        """Return why the result of a finished run is unreliable, or an empty string if it is reliable."""
        sizes = [size for size in self.sizes[-max(1, self.settings.steps // 10) :] if not math.isnan(size)]
        if sizes and sum(sizes) / len(sizes) < SCARCE:
            mean = sum(sizes) / len(sizes)
            return f"the noise hardly overlaps the model: {mean:.1f} effective samples per step at the end of the run"
        return self._explain_distance() if self.objective.needs_noise else ""

    @torch.no_grad()
    def _explain_distance(self) -> str:
        """Return why the noise does not cover the data, or an empty string if it does."""
        noise = self.working.noise
        own = noise.log_prob(noise.sample(LOOKED_AT, make_generator(self.settings.seed, 2, 0)))
        share = float((noise.log_prob(self.data[:LOOKED_AT]) < own.min()).double().mean())
        if share > MOST_OUTSIDE:
            return f"the noise hardly overlaps the data: {share:.0%} of the rows lie where none of its samples do"
        return ""

    def _take_step(self) -> Record:
        settings = self.settings
        began = time.perf_counter()
        reading = self.working.read(self._batch(), make_generator(settings.seed, 1, self.step))
        norm = self._apply(reading)
        self.step += 1
        self.sizes.append(reading.effective_sample_size)
        true = math.nan
        if self.truth is not None and (self.step % settings.record_every == 0 or self.step == settings.steps):
            true = float(self.truth(self.energy))
        loss = reading.value if not math.isnan(reading.value) else float(reading.loss.detach())
        seconds = self.seconds + time.perf_counter() - began
        return Record(
            self.step, loss, reading.log_partition, true, reading.effective_sample_size, reading.gamma, norm, seconds
        )

    def _apply(self, reading: StepReading) -> float:
        gradients, norm = self._differentiate(reading.loss)
        if self.lost:
            return norm
        shrink = 1.0
        if self.objective.normalised_gradient:
            shrink = 1 / norm if norm > 0 else 1.0
        elif self.settings.clip is not None and norm > self.settings.clip:
            shrink = self.settings.clip / norm
        if shrink != 1.0:
            for gradient in gradients:
                gradient.mul_(shrink)
        if self.settings.schedule == "cosine":
            self._set_rate(self.settings.rate * 0.5 * (1 + math.cos(math.pi * self.step / self.settings.steps)))
        self.optimiser.step()
        self._update_averages()
        return norm

    def _identify(self) -> dict[str, Any]:
        """Return what a checkpoint must match for the run to resume it."""
        settings = self.settings.describe()
        objective = f"{type(self.objective).__name__} {self.objective!r}"
        same = {"settings": settings, "objective": objective, "data": list(self.data.shape), "digest": self._digest}
        return same if self.judge is None else same | {"fit": self.judge.describe()}

    @cached_property
    def _digest(self) -> str:
        """Digest of the rows."""
        rows = self.data.detach().cpu().contiguous()
        return hashlib.blake2b(rows.numpy().tobytes(), digest_size=16).hexdigest()
