"""DiffROAR: do the pixels with the largest input gradients tell more of the label than those with the smallest?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from torch import Tensor
from torch.func import grad, vmap

from relaxon.core import validation
from relaxon.neuromorphic.diagnostics.gradients import MAX_BYTES, Progress, slices
from relaxon.neuromorphic.diagnostics.scores import predictions
from relaxon.neuromorphic.diagnostics.snapshots import Build, SnapshotSettings, build_module, train_snapshots
from relaxon.neuromorphic.diagnostics.subjects import ModuleSubject, Subject, as_subject, checked_data

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Kept = Literal["top", "bottom", "random"]
KEPT: tuple[Kept, ...] = ("top", "bottom", "random")
COPIES = 8
"""A row and its derivatives are held about so many times over while input gradients are made."""
Retrain = Callable[[Array, NDArray[Any], int], Callable[[Array], NDArray[Any]]]
"""Trains on rows and labels by a seed; what it returns predicts labels of rows."""


@dataclass(frozen=True, slots=True)
class InputGradientRoar:
    """Accuracies, in [0, 1], of models trained anew on images of which a fraction of the pixels is left.

    `top`, `bottom` and `random` are `(fractions, repeats)`: with the pixels of each row that have the largest and the
    smallest absolute input gradient, and with as many drawn at random. `difference` is DiffROAR: above 0 where large
    gradients mark what tells the classes apart, below 0 where they mark what does not. `signal_share` is the part of
    the top pixels that lies in the signal, by fraction; NaN where no signal was given.
    """

    fractions: Array
    top: Array = field(repr=False)
    bottom: Array = field(repr=False)
    random: Array = field(repr=False)
    signal_share: Array = field(repr=False)
    signal_part: float
    """The signal's part of all pixels: what a blind ranking would have for a share."""

    @property
    def difference(self) -> Array:
        """Mean accuracy with the top pixels less that with the bottom ones, by fraction."""
        return np.asarray(self.top.mean(1) - self.bottom.mean(1))

    def plot(self) -> Figure:
        """Return a figure of the accuracies and of DiffROAR by fraction; needs matplotlib."""
        from relaxon.neuromorphic.diagnostics.pictures import draw_roar

        return draw_roar(self)


def input_gradients(
    model: Any, X: ArrayLike, y: ArrayLike, *, of: Literal["logit", "loss"] = "logit", max_bytes: int = MAX_BYTES
) -> Array:
    """Return the derivative by each input, in the shape of `X`, float64.

    `of` "logit" is that of the output of the row's class `y`, "loss" that of its loss; a network that relaxes has the
    latter only. A classifier of such a network standardises its columns: its gradients are by the standardised inputs.
    """
    subject = as_subject(model, "auto", y)
    if of not in ("logit", "loss"):
        raise ValueError(f"of must be 'logit' or 'loss', got {of!r}")
    x, target = checked_data(subject, X, y)
    return _input_gradients(subject, x, target, of, validation.positive_int("max_bytes", max_bytes))


def input_gradient_roar(
    model: Any,
    X: ArrayLike,
    y: ArrayLike,
    test_X: ArrayLike,
    test_y: ArrayLike,
    *,
    build: Build | None = None,
    settings: SnapshotSettings | None = None,
    fractions: Sequence[float] = (0.1, 0.25, 0.5),
    repeats: int = 3,
    of: Literal["logit", "loss"] = "logit",
    fill: float = 0.0,
    signal: ArrayLike | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> InputGradientRoar:
    """Return DiffROAR of a classifier's input gradients.

    Pixels are ranked in each row by the absolute derivative of the output of the class that the model predicts, so that
    no label of a test row takes part. Of the ranking, the top fraction is kept and the rest set to `fill`; a model is
    trained on the masked rows and scored on test rows masked alike. The same with the bottom fraction, and with pixels
    drawn at random.

    Parameters
    ----------
    model : the classifier whose gradients are examined. X, y, test_X, test_y : rows `(rows, …)` and labels.
    build, settings : make and train the new models where `model` is a module. An estimator is cloned and fitted anew.
    fractions : of the pixels kept, each in (0, 1). repeats : trainings for each, by seeds from `seed` on.
    of : as for `input_gradients`. fill : what stands in the place of a pixel that is left out.
    signal : boolean, in the shape of `test_X`: where the label can be told from (`block_digits`).
    progress : is called with trainings done and trainings in all.

    Source: Shah, Jain and Netrapalli, "Do Input Gradients Highlight Discriminative Features?", NeurIPS 2021, section 3;
    ranking by the predicted class and the random mask are ours. A retrained model may gain from the mask's shape
    itself, and blurry masks gain most ("On Pitfalls of RemOve-And-Retrain", 2023): the sign says more than the size.

    Raises
    ------
    TypeError, ValueError : naming the argument, before any work.
    """
    subject = as_subject(model, "auto", y)
    if not subject.classifies:
        raise ValueError(f"model must be a classifier, got one with the loss {subject.loss!r}")
    if of not in ("logit", "loss"):
        raise ValueError(f"of must be 'logit' or 'loss', got {of!r}")
    shares = _fractions(fractions)
    validation.positive_int("repeats", repeats)
    validation.whole_number("seed", seed)
    blank = validation.finite_float("fill", fill)
    checked_data(subject, X, y)
    checked_data(subject, test_X, test_y)
    train, test, labels, test_labels = (_array(given) for given in (X, test_X, y, test_y))
    train, test = train.astype(np.float64), test.astype(np.float64)
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(f"test_X must have rows of shape {train.shape[1:]} as X, got {test.shape[1:]}")
    marked = _signal(signal, test.shape)
    retrain = _retraining(model, build, settings)
    ranks = [_ranks(subject, rows, of) for rows in (train, test)]
    generator = np.random.default_rng(seed)
    orders = {"top": ranks, "bottom": [rank[:, ::-1] for rank in ranks]}
    found = {kept: np.empty((len(shares), repeats)) for kept in KEPT}
    inside = np.full(len(shares), np.nan)
    done = 0
    for place, share in enumerate(shares):
        for repeat in range(repeats):
            orders["random"] = [generator.permuted(rank, axis=1) for rank in ranks]
            for kept in KEPT:
                masked = [
                    _masked(rows, order, share, blank) for rows, order in zip((train, test), orders[kept], strict=True)
                ]
                predict = retrain(masked[0], labels, seed + repeat)
                found[kept][place, repeat] = float(np.mean(predict(masked[1]) == test_labels))
                done += 1
                if progress is not None:
                    progress(done, len(shares) * repeats * len(KEPT))
        if marked is not None:
            left = _kept(ranks[1], share)
            inside[place] = float(np.take_along_axis(marked, left, 1).mean())
    part = float("nan") if marked is None else float(marked.mean())
    return InputGradientRoar(np.array(shares), found["top"], found["bottom"], found["random"], inside, part)


def _array(given: ArrayLike) -> NDArray[Any]:
    return given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)


def _input_gradients(subject: Subject, x: Tensor, target: Tensor, of: str, max_bytes: int) -> Array:
    if of == "logit" and not isinstance(subject, ModuleSubject):
        raise ValueError("of must be 'loss' for a network that relaxes, got 'logit'")
    parameters = subject.parameters()

    def loss(row: Tensor, aim: Tensor, *held: Tensor) -> Tensor:
        return subject.row_loss(parameters, row, aim, *held)

    def logit(row: Tensor, aim: Tensor) -> Tensor:
        assert isinstance(subject, ModuleSubject)
        return subject.row_output(row, aim)

    by_row: Callable[..., Tensor] = vmap(grad(loss if of == "loss" else logit))
    size = max(1, min(4096, max_bytes // (COPIES * x[0].numel() * x.element_size())))
    found = []
    for rows in slices(len(x), size):
        held = subject.constants(x[rows], target[rows]) if of == "loss" else ()
        found.append(by_row(x[rows], target[rows], *held))
    return torch.cat(found).double().cpu().numpy()


def _ranks(subject: Subject, rows: Array, of: str) -> NDArray[np.int64]:
    """Return the pixels of each row, `(rows, pixels)`, the largest absolute gradient first."""
    x = subject.rows(rows)
    likeliest = torch.from_numpy(predictions(subject, x).argmax(1)).to(x.device)
    outputs = subject.outputs(x[:1])
    aim = torch.zeros(len(x), outputs.shape[1], dtype=outputs.dtype, device=x.device)
    aim[torch.arange(len(x)), likeliest] = 1.0
    size = np.abs(_input_gradients(subject, x, aim, of, MAX_BYTES)).reshape(len(x), -1)
    return np.argsort(-size, axis=1, kind="stable")


def _kept(order: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    return order[:, : max(1, round(share * order.shape[1]))]


def _masked(rows: Array, order: NDArray[np.int64], share: float, fill: float) -> Array:
    flat = rows.reshape(len(rows), -1)
    out = np.full_like(flat, fill)
    left = _kept(order, share)
    np.put_along_axis(out, left, np.take_along_axis(flat, left, 1), 1)
    return out.reshape(rows.shape)


def _retraining(model: Any, build: Build | None, settings: SnapshotSettings | None) -> Retrain:
    if build is None and not isinstance(model, BaseEstimator):
        raise ValueError("build must be given for a model that is no estimator, got None")
    if build is not None:
        plain = replace(settings or SnapshotSettings(), every="end")
        made = build_module(build, plain.seed)
        if not any(True for _ in made.parameters()):
            raise ValueError("build must return a module with parameters, got one without any")

        def train_module(X: Array, y: NDArray[Any], seed: int) -> Callable[[Array], NDArray[Any]]:
            own = train_snapshots(build_module(build, seed), X, y, replace(plain, seed=seed)).final
            subject = as_subject(own, "cross-entropy")
            return lambda rows: predictions(subject, subject.rows(rows)).argmax(1)

        return train_module
    if settings is not None:
        raise ValueError("settings go with build, got settings alone")

    def fit_estimator(X: Array, y: NDArray[Any], seed: int) -> Callable[[Array], NDArray[Any]]:
        fresh: Any = clone(model)
        if "random_state" in fresh.get_params():
            fresh.set_params(random_state=seed)
        predict: Callable[[Array], NDArray[Any]] = fresh.fit(X, y).predict
        return predict

    return fit_estimator


def _fractions(fractions: Sequence[float]) -> list[float]:
    shares = [validation.finite_float(f"fractions[{i}]", share) for i, share in enumerate(fractions)]
    if not shares or not all(0.0 < share < 1.0 for share in shares):
        raise ValueError(f"fractions must be above 0 and below 1, got {list(fractions)}")
    return shares


def _signal(signal: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    if signal is None:
        return None
    marked = np.asarray(signal)
    if marked.dtype != bool or marked.shape != shape:
        raise ValueError(f"signal must be boolean of shape {shape} as test_X, got {marked.dtype} of {marked.shape}")
    return marked.reshape(len(marked), -1)
