"""The computations of `relaxon diagnose` on a stored model and its data."""

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
"""Number of hidden units of the reference networks, which give the early scores."""
WATCHED_EPOCHS = 10
"""Number of epochs over which one reference network is observed."""
STEPS = ("the stored model", "reference networks", "one reference network over its epochs")


@dataclass(frozen=True, slots=True)
class DiagnosisSettings:
    """Settings of a diagnosis: `starts` reference networks, trained for `epochs`; `group` is for `opposing_signals`."""

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
    """Scores of the rows by the stored model, early scores by reference networks, and results over their epochs.

    `accuracy` is the fraction of rows that the stored model predicts correctly, None where targets are not classes.
    `geometry` is that of the reference network; `hidden` is that of the stored model, None where its hidden layers have
    no names. `opposing` starts after the first epoch.
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
    """Return the diagnosis of a model's rows; `progress` is called with a step's name, the work done and the total.

    The early scores come from two-layer networks that are trained here on the same rows for a few epochs: a stored
    model has often fitted every row, including mislabelled ones, and Paul et al. found that scores transfer between
    architectures.

    Raises `TypeError` or `ValueError` naming the argument, before any work.
    """
    settings = settings or DiagnosisSettings()
    report = progress or (lambda name, done, total: None)
    error = el2n(model, X, y, progress=lambda done, total: report(STEPS[0], done, 2 * total))
    gradient = grand(
        model,
        X,
        y,
        max_bytes=settings.max_bytes,
        progress=lambda done, total: report(STEPS[0], total + done, 2 * total),
    )
    rows, targets = _standardise(X), _standardise(y) if error.given is None else error.given
    outputs = error.predicted.shape[1]
    if 2 * settings.group > len(rows):
        settings = replace(settings, group=max(1, len(rows) // 2))

    def build(seed: int) -> nn.Module:
        del seed
        return nn.Sequential(nn.Linear(rows.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs))

    plain = SnapshotSettings(epochs=settings.epochs, seed=settings.seed)
    starts = train_starts(
        build, rows, targets, plain, starts=settings.starts, progress=lambda done, total: report(STEPS[1], done, total)
    )
    early = replace(el2n(starts, rows, targets), classes=error.classes)
    watched = train_snapshots(
        build_module(build, settings.seed),
        rows,
        targets,
        replace(plain, epochs=WATCHED_EPOCHS),
        progress=lambda done, total: report(STEPS[2], done, total),
    )
    right = None if error.given is None else error.predicted.argmax(1) == error.given
    return Examined(
        None if right is None else float(right.mean()),
        float(np.sqrt(np.mean(error.scores**2))) if right is None else None,
        early,
        error,
        gradient,
        coherence(watched.models, rows, targets, max_bytes=settings.max_bytes),
        # The first epoch changes every row: opposing signals appear after it.
        opposing_signals(watched.models[1:], rows, targets, group=settings.group, max_bytes=settings.max_bytes),
        representation_geometry(watched.models, rows, targets),
        _measure_hidden(model, X, y),
    )


def _standardise(X: Array) -> Array:
    """Return rows as vectors whose columns have mean 0 and standard deviation 1; constant columns become 0."""
    flat = np.asarray(X, np.float64).reshape(len(X), -1)
    spread = flat.std(0)
    return np.asarray((flat - flat.mean(0)) / np.where(spread > 0, spread, 1.0))


def _measure_hidden(model: Any, X: Array, y: NDArray[Any]) -> RepresentationGeometry | None:
    try:
        return representation_geometry(model, X, y)
    except ValueError:  # no named hidden layer, or too many rows for a kernel
        return None


def use_one_thread() -> None:
    """Make torch use one thread: these networks are small, and more threads would only wait for each other."""
    torch.set_num_threads(1)
