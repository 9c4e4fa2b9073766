"""What `relaxon diagnose` works out of a stored model and its data, before any of it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from relaxon.core import validation
from relaxon.neuromorphic.diagnostics.agreement import GradientCoherence, coherence
from relaxon.neuromorphic.diagnostics.geometry import RepresentationGeometry, representation_geometry
from relaxon.neuromorphic.diagnostics.gradients import MAX_BYTES
from relaxon.neuromorphic.diagnostics.opposing import OpposingSignals, opposing_signals
from relaxon.neuromorphic.diagnostics.scores import RowScores, el2n, grand
from relaxon.neuromorphic.diagnostics.snapshots import SnapshotSettings, build_module, train_snapshots, train_starts

Array = NDArray[np.float64]
HIDDEN = 64
"""Units of the reference networks, which the early scores come from."""
WATCHED_EPOCHS = 10
"""Epochs that one reference network is watched for."""
STEPS = ("the stored model", "reference networks", "one reference network over its epochs")


@dataclass(frozen=True, slots=True)
class DiagnosisSettings:
    """`starts` reference networks, trained for `epochs`, score the rows early; `group` is of `opposing_signals`."""

    starts: int = 10
    epochs: int = 5
    group: int = 10
    seed: int = 0
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        for name in ("starts", "epochs", "group", "max_bytes"):
            validation.positive_int(name, getattr(self, name))
        validation.whole_number("seed", self.seed)


@dataclass(frozen=True, slots=True)
class Examined:
    """Scores of the stored model's rows, early scores by reference networks, and what those show over their epochs.

    `accuracy` is the share of rows that the stored model predicts right, None where targets are no classes. `geometry`
    is the reference network's, `hidden` the stored model's own, None where its hidden layers have no names; `opposing`
    begins after the first epoch.
    """

    accuracy: float | None
    rmse: float | None
    early: RowScores = field(repr=False)
    error: RowScores = field(repr=False)
    gradient: RowScores = field(repr=False)
    coherence: GradientCoherence = field(repr=False)
    opposing: OpposingSignals = field(repr=False)
    geometry: RepresentationGeometry = field(repr=False)
    hidden: RepresentationGeometry | None = field(repr=False)


def examine(
    model: Any,
    X: Array,
    y: NDArray[Any],
    settings: DiagnosisSettings | None = None,
    progress: Callable[[str, int, int], object] | None = None,
) -> Examined:
    """Return what can be told of a model's rows; `progress` is called with the step's name and how far it is.

    The early scores come from two-layer networks of this module's own, trained on the same rows for few epochs: a
    stored model has often fitted every row, wrong ones too, and Paul et al. found scores to carry over from one
    architecture to another.

    Raises
    ------
    TypeError, ValueError : naming the argument, before any work.
    """
    settings = settings or DiagnosisSettings()
    tell = progress or (lambda name, done, total: None)
    error = el2n(model, X, y, progress=lambda done, total: tell(STEPS[0], done, 2 * total))
    gradient = grand(
        model, X, y, max_bytes=settings.max_bytes, progress=lambda done, total: tell(STEPS[0], total + done, 2 * total)
    )
    rows, targets = _standardise(X), _targets(error, y)
    outputs = error.predicted.shape[1]
    if 2 * settings.group > len(rows):
        settings = replace(settings, group=max(1, len(rows) // 2))

    def build(seed: int) -> nn.Module:
        del seed
        return nn.Sequential(nn.Linear(rows.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs))

    plain = SnapshotSettings(epochs=settings.epochs, seed=settings.seed)
    starts = train_starts(
        build, rows, targets, plain, starts=settings.starts, progress=lambda done, total: tell(STEPS[1], done, total)
    )
    early = replace(el2n(starts, rows, targets), classes=error.classes)
    watched = train_snapshots(
        build_module(build, settings.seed),
        rows,
        targets,
        replace(plain, epochs=WATCHED_EPOCHS),
        progress=lambda done, total: tell(STEPS[2], done, total),
    )
    right = None if error.given is None else error.predicted.argmax(1) == error.given
    return Examined(
        None if right is None else float(right.mean()),
        float(np.sqrt(np.mean(error.scores**2))) if right is None else None,
        early,
        error,
        gradient,
        coherence(watched.models, rows, targets, max_bytes=settings.max_bytes),
        # The first epoch moves every row: what pulls apart shows after it.
        opposing_signals(watched.models[1:], rows, targets, group=settings.group, max_bytes=settings.max_bytes),
        representation_geometry(watched.models, rows, targets),
        _hidden(model, X, y),
    )


def _standardise(X: Array) -> Array:
    """Return rows as vectors whose columns have mean 0 and standard deviation 1; constant columns become 0."""
    flat = np.asarray(X, np.float64).reshape(len(X), -1)
    spread = flat.std(0)
    return np.asarray((flat - flat.mean(0)) / np.where(spread > 0, spread, 1.0))


def _targets(error: RowScores, y: NDArray[Any]) -> NDArray[Any]:
    """Return class indices, or targets of mean 0 and standard deviation 1."""
    return _standardise(y) if error.given is None else error.given


def _hidden(model: Any, X: Array, y: NDArray[Any]) -> RepresentationGeometry | None:
    try:
        return representation_geometry(model, X, y)
    except ValueError:  # no hidden layer by name, or too many rows for a kernel
        return None


def use_one_thread() -> None:
    """Have torch use one thread: the networks here are small, and more only wait for one another."""
    torch.set_num_threads(1)
