"""EL2N and GraNd: the distance of a row's prediction from its target, and the norm of the row's gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from relaxon.neuromorphic.diagnostics.drawable import Drawable
from relaxon.neuromorphic.diagnostics.gradients import (
    FORWARD_ROWS,
    MAX_BYTES,
    Prepared,
    Progress,
    measure_moments,
    prepare_models,
    yield_slices,
)
from relaxon.neuromorphic.diagnostics.losses import apply_link, differentiate_losses
from relaxon.neuromorphic.diagnostics.subjects import Subject

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RowScores(Drawable):
    """A score of each row, the mean over models.

    `scores` and `spread` are `(rows,)`: mean and standard deviation over the `models`. `predicted` is the mean
    prediction `(rows, outputs)`, probabilities for classes; `given` is each row's class index, None for targets that
    are not classes. `classes` are the labels of the class indices.
    """

    picture = "draw_scores"

    name: str
    scores: Array = field(repr=False)
    spread: Array = field(repr=False)
    models: int
    predicted: Array = field(repr=False)
    given: NDArray[np.int64] | None = field(repr=False)
    classes: NDArray[Any] | None = field(repr=False)

    def highest(self, count: int) -> NDArray[np.int64]:
        """Return the rows with the highest scores, the highest first."""
        return np.asarray(np.argsort(-self.scores, kind="stable")[:count])

    def keep(self, share: float) -> NDArray[np.int64]:
        """Return the rows of the fraction with the highest scores, in ascending order, which Paul et al. keep."""
        if not 0.0 < share <= 1.0:
            raise ValueError(f"share must be above 0 and at most 1, got {share!r}")
        return np.sort(self.highest(max(1, round(share * len(self.scores)))))

    def suspects(self) -> NDArray[np.int64]:
        """Return the rows whose mean prediction differs from their own class, the highest score first.

        ValueError where targets are not classes.
        """
        if self.given is None:
            raise ValueError(f"{self.name} must be scores of classes for suspect labels, got other targets")
        order = self.highest(len(self.scores))
        return np.asarray(order[self.predicted.argmax(1)[order] != self.given[order]])

    def label(self, number: int) -> Any:
        """Return the label of a class index."""
        return number if self.classes is None else self.classes[number]


def el2n(models: Any, X: ArrayLike, y: ArrayLike, *, loss: str = "auto", progress: Progress | None = None) -> RowScores:
    """Return the EL2N score of each row, `E ‖p(x) − y‖₂`, over the models given.

    Parameters
    ----------
    models : a model, or a list or tuple of models, as for `per_sample_gradients`. Use ten or more that were trained for
        a few epochs (`train_starts`): a model that has fitted every row says little about them.
    X : `(rows, …)`. y : labels `(rows,)`, or values; then the score is the length of the residual.
    loss : "auto", "cross-entropy" (p is the softmax), "squared" (p is the output) or "poisson" (p is the mean).
    progress : called with the rows done and the total number of rows, over all models.

    High scores indicate hard rows and wrong labels: `RowScores.keep` prunes a data set, and `RowScores.suspects` lists
    rows that look mislabelled.

    Source: Paul, Ganguli and Dziugaite, "Deep Learning on a Data Diet", NeurIPS 2021, definition of EL2N.

    Raises `TypeError` or `ValueError` naming the argument, before any work.

    >>> import torch
    >>> from relaxon.neuromorphic.diagnostics import el2n
    >>> model = torch.nn.Linear(1, 2)
    >>> with torch.no_grad():
    ...     _, _ = model.weight.copy_(torch.tensor([[-9.0], [9.0]])), model.bias.zero_()
    >>> el2n(model, [[1.0], [-1.0], [1.0]], [1, 0, 0]).scores.round(3)
    array([0.   , 0.   , 1.414])
    """

    def score(subject: Subject, x: Tensor, target: Tensor, report: Progress) -> Array:
        found = []
        for rows in yield_slices(len(x), FORWARD_ROWS):
            found.append(
                differentiate_losses(subject.loss, subject.outputs(x[rows]).double(), target[rows].double()).norm(dim=1)
            )
            report(min(rows.stop, len(x)), len(x))
        return torch.cat(found).cpu().numpy()

    return _score_rows("EL2N", prepare_models(models, X, y, loss), score, progress)


def grand(
    models: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: str = "auto",
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
) -> RowScores:
    """Return the GraNd score of each row, `E ‖∇_θ ℓ(x, y)‖₂` over all parameters, over the models given.

    Arguments as for `el2n`; `max_bytes` as for `per_sample_gradients`.

    At initialisation the score does not identify the rows that matter: Kirsch ("Does 'Deep Learning on a Data Diet'
    reproduce?", 2023) could not reproduce that claim and found that the score follows the norm of the input. See
    `docs/diagnostics.md` for measurements.

    Source: Paul, Ganguli and Dziugaite 2021, definition of GraNd.

    >>> import torch
    >>> from relaxon.neuromorphic.diagnostics import grand
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> with torch.no_grad():
    ...     _ = model.weight.zero_()
    >>> grand(model, [[3.0, 4.0], [1.0, 0.0]], [2.0, -1.0]).scores          # |residual| · ‖x‖
    array([10.,  1.])
    """

    def score(subject: Subject, x: Tensor, target: Tensor, report: Progress) -> Array:
        return measure_moments(subject, x, target, max_bytes, report).norms

    return _score_rows("GraNd", prepare_models(models, X, y, loss, max_bytes), score, progress)


def _score_rows(
    name: str,
    prepared: list[Prepared],
    score: Callable[[Subject, Tensor, Tensor, Progress], Array],
    progress: Progress | None,
) -> RowScores:
    subject, _, target = prepared[0]
    shapes = {tuple(target.shape) for _, _, target in prepared}
    if len(shapes) > 1:
        raise ValueError(f"models must have the same outputs, got {sorted(shape[1] for shape in shapes)}")
    each, predicted = [], np.zeros(tuple(target.shape))
    for number, model in enumerate(prepared):

        def report(done: int, rows: int, before: int = number) -> None:
            if progress is not None:
                progress(rows * before + done, rows * len(prepared))

        each.append(score(*model, report))
        predicted += predict_rows(*model[:2])
    given = target.argmax(1).cpu().numpy() if subject.classifies else None
    scores, spread, count = np.mean(each, axis=0), np.std(each, axis=0), len(prepared)
    return RowScores(name, scores, spread, count, predicted / count, given, subject.classes)


def predict_rows(subject: Subject, x: Tensor) -> Array:
    """Return the model's predictions, `(rows, outputs)`: probabilities of classes, values or means."""
    parts = [apply_link(subject.loss, subject.outputs(x[rows]).double()) for rows in yield_slices(len(x), FORWARD_ROWS)]
    return torch.cat(parts).cpu().numpy()
