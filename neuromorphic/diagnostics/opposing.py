"""Opposing signals: the two groups of rows whose losses a step changes most in opposite directions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from relaxon.core import validation
from relaxon.neuromorphic.diagnostics.drawable import Drawable
from relaxon.neuromorphic.diagnostics.gradients import (
    FORWARD_ROWS,
    MAX_BYTES,
    Progress,
    measure_moments,
    pass_through,
    prepare_models,
    yield_slices,
)
from relaxon.neuromorphic.diagnostics.losses import row_losses
from relaxon.neuromorphic.diagnostics.subjects import Subject

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class OpposingSignals(Drawable):
    """Two groups of rows with opposite changes of loss.

    `losses` `(T, rows)` are those at each of T models. `rising[t]` and `falling[t]` `(group,)` are the rows whose loss
    increased and decreased most from model t to t + 1, the largest change first; `swings[t]` is the smaller magnitude
    of the two groups' mean changes. `step` is the t of the largest swing, and `gradient_cosine` the cosine of the angle
    between the groups' mean gradients there: near −1 they pull the parameters in opposite directions. It is NaN where a
    group's mean gradient is zero.
    """

    picture = "draw_opposing"

    losses: Array = field(repr=False)
    rising: Rows = field(repr=False)
    falling: Rows = field(repr=False)
    swings: Array = field(repr=False)
    step: int
    gradient_cosine: float

    @property
    def groups(self) -> tuple[Rows, Rows]:
        """The rising and the falling rows of the step with the largest swing."""
        return self.rising[self.step], self.falling[self.step]

    @property
    def changes(self) -> Array:
        """Change of each row's loss from one model to the next, `(T − 1, rows)`."""
        return np.diff(self.losses, axis=0)

    def share(self) -> float:
        """Return the two groups' fraction of all absolute changes at `step`."""
        sizes = np.abs(self.changes[self.step])
        total = float(sizes.sum())
        return float(sizes[np.concatenate(self.groups)].sum()) / total if total else 0.0


def opposing_signals(
    models: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    group: int = 10,
    loss: str = "auto",
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
) -> OpposingSignals:
    """Return the two groups of `group` rows whose losses diverge most from one model to the next.

    `models` are two or more consecutive states of one training, ideally one step apart
    (`train_snapshots(..., SnapshotSettings(every="step"))`); other arguments as for `grand`. Inspect the rows found:
    they tend to share a strong feature and to disagree on the label.

    Source: Rosenfeld and Risteski, "Outliers with Opposing Signals Have an Outsized Effect on Neural Network
    Optimization", 2023, for the groups. The choice of the step by the smaller of the two mean changes, and the cosine
    of the groups' gradients, are additions.

    Raises `TypeError` or `ValueError` naming the argument, before any work.
    """
    prepared = prepare_models(models, X, y, loss, max_bytes)
    if len(prepared) < 2:
        raise ValueError(f"models must have at least two states of a training, got {len(prepared)}")
    rows = len(prepared[0][1])
    if 2 * validation.positive_int("group", group) > rows:
        raise ValueError(f"group must be at most half of the {rows} rows, got {group}")
    found = np.stack([measure_losses(*model) for model in pass_through(prepared, progress)])
    changes = np.diff(found, axis=0)
    order = np.argsort(changes, axis=1, kind="stable")
    falling, rising = order[:, :group].copy(), order[:, ::-1][:, :group].copy()
    falls = -np.take_along_axis(changes, falling, 1).mean(1)
    rises = np.take_along_axis(changes, rising, 1).mean(1)
    swings = np.minimum(rises, falls)
    step = int(np.argmax(swings))
    subject, x, target = prepared[step]
    pulls = [_mean_gradient(subject, x[part], target[part], max_bytes) for part in (rising[step], falling[step])]
    lengths = [float(np.linalg.norm(pull)) for pull in pulls]
    cosine = float(pulls[0] @ pulls[1]) / (lengths[0] * lengths[1]) if min(lengths) > 0 else float("nan")
    return OpposingSignals(found, rising, falling, swings, step, cosine)


def measure_losses(subject: Subject, x: Tensor, target: Tensor) -> Array:
    """Return the loss of each row, `(rows,)`."""
    parts = [
        row_losses(subject.loss, subject.outputs(x[rows]).double(), target[rows].double())
        for rows in yield_slices(len(x), FORWARD_ROWS)
    ]
    return torch.cat(parts).cpu().numpy()


def _mean_gradient(subject: Subject, x: Tensor, target: Tensor, max_bytes: int) -> Array:
    means = measure_moments(subject, x, target, max_bytes).means
    return np.concatenate([mean.ravel() for mean in means.values()])
