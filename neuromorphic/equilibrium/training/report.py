"""The course of a training run: progress of a step, metrics of an epoch, report of the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from torch import Tensor

from relaxon.neuromorphic.equilibrium.estimators.result import Gradient, Verdict


class TrainingOutcome(Enum):
    """How a training run ended."""

    FINISHED = "finished"
    CANCELLED = "cancelled"
    NON_FINITE = "non_finite"


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """Metrics of an epoch; accuracies are in [0, 1], and None where there are no such data."""

    epoch: int
    loss: float
    """Mean over the epoch's batches at their free equilibria, each before its step."""
    accuracy: float | None
    """Accuracy on the training batches, each before its step."""
    test_accuracy: float | None
    test_loss: float | None
    free_steps: float
    nudged_steps: float
    """Mean numbers of relaxation steps over the batches."""
    verdicts: dict[str, int]
    """Number of batches with each verdict."""
    angle: float | None
    """Angle in degrees to the exact gradient on a probe batch after the epoch; None without `probe` or if not
    finite."""
    antisymmetry: float | None
    """Estimate of ‖A‖_F in the rates, the root mean square over the probe batch."""
    feedback_angles: list[float]
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """The argument of a watcher after each step; `metrics` are given after the last step of an epoch."""

    step: int
    steps: int
    epoch: int
    loss: float
    verdict: Verdict
    metrics: EpochMetrics | None = None


Watcher = Callable[[TrainingProgress], object]
"""A function called after each step; returning True writes a checkpoint and stops the run."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """The outcome of a training run."""

    ended: TrainingOutcome
    epochs: tuple[EpochMetrics, ...]
    steps: int
    seconds: float
    message: str = ""


@dataclass(slots=True)
class Sums:
    """Sums over the current epoch, which the checkpoint contains."""

    batches: int = 0
    samples: int = 0
    loss: float = 0.0
    correct: int = 0
    free_steps: int = 0
    nudged_steps: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, found: Gradient, target: Tensor, classes: int) -> None:
        self.batches += 1
        self.samples += len(target)
        self.loss += found.loss
        self.correct += int((found.scores.argmax(-1) == target).sum()) if classes else 0
        self.free_steps += found.free.steps
        self.nudged_steps += found.nudged.steps if found.nudged is not None else 0
        self.verdicts[found.verdict.value] = self.verdicts.get(found.verdict.value, 0) + 1
