"""The settings, progress and result of a boosting run."""

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
    """The residual is zero, so that further units cannot improve the fit."""
    STALLED = "stalled"
    """Ten consecutive stages, each drawn afresh, gained nothing; more units with these settings would not either."""
    NON_FINITE = "non_finite"
    """A published step divided by zero; the stages before it are kept."""


@dataclass(frozen=True, slots=True)
class StageProgress:
    """The progress that a callback receives after each stage."""

    stage: int
    units: int
    units_wanted: int
    loss: float
    """Loss on the training rows, in the unit of training; see `GradientBoostedNetworkRegressor`."""
    validation_loss: float | None
    seconds: float


Callback = Callable[[StageProgress], object]
"""Called after each stage; returning `True` ends training with `Outcome.CANCELLED` and keeps the stages so far."""


@dataclass(frozen=True, slots=True)
class StagewiseSettings:
    """The settings of a boosting run."""

    layers: tuple[int, ...]
    """Number of units of each hidden layer; a layer also sees the frozen units of the layers below."""
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
    """Number of stages without an improvement of the hold-out loss by `tolerance` after which training stops."""
    tolerance: float
    seed: int
    signs: bool = False
    """Whether units are signs of sums of signs instead of logistic ones."""
    monotone: tuple[int, ...] | None = None
    """Monotone direction of the output for each input: non-decreasing (1), non-increasing (−1) or free (0)."""


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Rows for training or hold-out: features (d, n), targets (K, n) and weights (n,) that sum to 1."""

    x: Array
    y: Array
    w: Array
    weight: float
    """Sum of the weights before normalisation, against which the ridge counts."""


@dataclass(slots=True)
class BoostingState:
    """The state of a boosting run: stages and losses so far; `boost` can continue from it."""

    initial: Array
    stages: list[Stage] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """Training loss before training and after each stage."""
    validation: list[float] = field(default_factory=list)
    attempts: int = 0
    """Number of stages tried, including rejected ones; it selects the random numbers of the next stage."""
    evaluations: int = 0
    refused: int = 0
    """Number of stages rejected because they gained nothing."""
    dead: int = 0
    """Number of units dropped from their stages because they contributed only a constant."""
    outcome: Outcome = Outcome.COMPLETED
    seconds: float = 0.0
    """Elapsed time."""
