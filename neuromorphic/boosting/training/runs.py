"""What a boosting run is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting.networks.merged import Stage

Array = NDArray[np.float64]


class Outcome(Enum):
    """How training ended."""

    COMPLETED = "completed"
    EARLY_STOPPED = "early_stopped"
    CANCELLED = "cancelled"
    FITTED = "fitted"
    """The residual is zero: no unit could add anything."""
    STALLED = "stalled"
    """Ten stages in a row, each drawn anew, had nothing to gain: more units under these settings would not either."""
    NON_FINITE = "non_finite"
    """A published step divided by zero; the stages before it are kept."""


@dataclass(frozen=True, slots=True)
class StageProgress:
    """What a callback sees after each stage."""

    stage: int
    units: int
    units_wanted: int
    loss: float
    """On the training rows, in the unit of training; see `GradientBoostedNetworkRegressor`."""
    validation_loss: float | None
    seconds: float


Callback = Callable[[StageProgress], object]
"""Called after each stage; a return value that is `True` ends training with `Outcome.CANCELLED`, the stages kept."""


@dataclass(frozen=True, slots=True)
class StagewiseSettings:
    """What a training run is."""

    layers: tuple[int, ...]
    """Units of each hidden layer; a later layer's units also see the units of the layers before, frozen."""
    units_per_stage: int
    learning_rate: float
    newton: Literal["guarded", "published"]
    subsample: float
    ridge: float
    stage_iterations: int
    stage_tolerance: float
    restarts: int
    candidates: int
    patience: int | None
    """Stages without an improvement of the validation loss by `tolerance` before training stops."""
    tolerance: float
    seed: int
    signs: bool = False
    """Units that are signs of sums of signs, in place of logistic ones."""
    monotone: tuple[int, ...] | None = None
    """For each input whether the output must not fall with it (1), not rise (−1) or may do either (0)."""


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Rows to train or validate on: features (d, n), targets (K, n), weights (n,) that sum to 1."""

    x: Array
    y: Array
    w: Array
    weight: float
    """The sum of the weights before: what a row's share of the ridge is measured against."""


@dataclass(slots=True)
class BoostingState:
    """The stages so far and how the losses went; given back to `boost`, it goes on from there."""

    initial: Array
    stages: list[Stage] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """Training loss at the start and after each stage."""
    validation: list[float] = field(default_factory=list)
    attempts: int = 0
    """Stages tried, those without a step included: the next one's random numbers."""
    evaluations: int = 0
    refused: int = 0
    """Stages drawn anew because they had nothing to gain."""
    dead: int = 0
    """Units left out of their stages because they add nothing but a constant."""
    outcome: Outcome = Outcome.COMPLETED
    seconds: float = 0.0
    """That it took."""
