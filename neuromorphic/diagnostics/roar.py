"""DiffROAR: a test of whether pixels with large input gradients are more informative than those with small ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from torch import Tensor
from torch.func import grad, vmap

from relaxon.core import validation
from relaxon.neuromorphic.diagnostics.drawable import Drawable
from relaxon.neuromorphic.diagnostics.gradients import MAX_BYTES, Progress, yield_slices
from relaxon.neuromorphic.diagnostics.models import as_subject
from relaxon.neuromorphic.diagnostics.scores import predict_rows
from relaxon.neuromorphic.diagnostics.snapshots import Build, SnapshotSettings, build_module, train_snapshots
from relaxon.neuromorphic.diagnostics.subjects import ModuleSubject, Subject, validate_rows

Array = NDArray[np.float64]
Kept = Literal["top", "bottom", "random"]
KEPT: tuple[Kept, ...] = ("top", "bottom", "random")
COPIES = 8
"""Approximate number of copies of a row during the computation of its input gradient."""
Retrain = Callable[[Array, NDArray[Any], int], Callable[[Array], NDArray[Any]]]
"""A function that trains on rows and labels with a seed, and returns a predictor of labels."""


@dataclass(frozen=True, slots=True)
class InputGradientRoar(Drawable):
    """Accuracies, in [0, 1], of models retrained on images with a fraction of their pixels.

    `top`, `bottom` and `random` are `(fractions, repeats)`: with the pixels of each row that have the largest and the
    smallest absolute input gradient, and with the same number of random pixels. `difference` is DiffROAR: positive
    where large gradients mark discriminative pixels, negative where they do not. `signal_share` is the fraction of the
    top pixels in the signal; NaN where no signal was given.
    """

    picture = "draw_roar"

    fractions: Array
    top: Array = field(repr=False)
    bottom: Array = field(repr=False)
    random: Array = field(repr=False)
    signal_share: Array = field(repr=False)
    signal_part: float
    """The signal's fraction of all pixels, which a random ranking would have as its share."""

    @property
    def difference(self) -> Array:
        """Mean accuracy with the top pixels minus that with the bottom pixels, by fraction."""
        return np.asarray(self.top.mean(1) - self.bottom.mean(1))


def input_gradients(
    model: Any, X: ArrayLike, y: ArrayLike, *, of: Literal["logit", "loss"] = "logit", max_bytes: int = MAX_BYTES
) -> Array:
    """Return the derivative with respect to each input, in the shape of `X`, float64.

    With `of="logit"` it is the derivative of the output of the row's class `y`, with `of="loss"` that of its loss, the
    only one available for networks that relax. A classifier of such a network standardises its columns: its gradients
    are with respect to the standardised inputs.
    """
    subject = as_subject(model, "auto", y)
    if of not in ("logit", "loss"):
        raise ValueError(f"of must be 'logit' or 'loss', got {of!r}")
    x, target = validate_rows(subject, X, y)
    return _differentiate_inputs(subject, x, target, of, validation.positive_int("max_bytes", max_bytes))


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

    In each row, pixels are ranked by the absolute derivative of the output of the predicted class, so the labels of
    test rows are not used. The top fraction of the ranking is kept and the rest is set to `fill`; a model is trained on
    the masked rows and evaluated on test rows masked in the same way. This is repeated with the bottom fraction and
    with random pixels.

    Parameters
    ----------
    model : the classifier whose gradients are examined. X, y, test_X, test_y : rows `(rows, …)` and labels.
    build, settings : how new models are built and trained where `model` is a module; an estimator is cloned and fitted.
    fractions : fractions of the pixels to keep, each in (0, 1). repeats : trainings for each, with seeds from `seed`
        on.
    of : as for `input_gradients`. fill : value of the pixels that are not kept.
    signal : boolean, in the shape of `test_X`: the informative pixels (see `block_digits`).
    progress : called with the trainings done and the total number of trainings.

    Source: Shah, Jain and Netrapalli, "Do Input Gradients Highlight Discriminative Features?", NeurIPS 2021, section 3;
    ranking by the predicted class and the random mask are additions. A retrained model may benefit from the mask's
    shape itself, most from blurry masks ("On Pitfalls of RemOve-And-Retrain", 2023): the sign is more reliable than the
    size.

    Raises `TypeError` or `ValueError` naming the argument, before any work.
    """
    subject = as_subject(model, "auto", y)
    if not subject.classifies:
        raise ValueError(f"model must be a classifier, got one with the loss {subject.loss!r}")
    if of not in ("logit", "loss"):
        raise ValueError(f"of must be 'logit' or 'loss', got {of!r}")
    shares = _check_fractions(fractions)
    validation.positive_int("repeats", repeats)
    validation.whole_number("seed", seed)
    blank = validation.finite_float("fill", fill)
    validate_rows(subject, X, y)
    validate_rows(subject, test_X, test_y)
    train, test, labels, test_labels = (_read_array(given) for given in (X, test_X, y, test_y))
    train, test = train.astype(np.float64), test.astype(np.float64)
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(f"test_X must have rows of shape {train.shape[1:]} as X, got {test.shape[1:]}")
    marked = _check_signal(signal, test.shape)
    retrain = _choose_training(model, build, settings)
    ranks = [_rank_pixels(subject, rows, of) for rows in (train, test)]
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
                    _mask(rows, order, share, blank) for rows, order in zip((train, test), orders[kept], strict=True)
                ]
                predict = retrain(masked[0], labels, seed + repeat)
                found[kept][place, repeat] = float(np.mean(predict(masked[1]) == test_labels))
                done += 1
                if progress is not None:
                    progress(done, len(shares) * repeats * len(KEPT))
        if marked is not None:
            left = _select(ranks[1], share)
            inside[place] = float(np.take_along_axis(marked, left, 1).mean())
    part = float("nan") if marked is None else float(marked.mean())
    return InputGradientRoar(np.array(shares), found["top"], found["bottom"], found["random"], inside, part)


def _read_array(given: ArrayLike) -> NDArray[Any]:
    return given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)


def _differentiate_inputs(subject: Subject, x: Tensor, target: Tensor, of: str, max_bytes: int) -> Array:
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
    for rows in yield_slices(len(x), size):
        held = subject.constants(x[rows], target[rows]) if of == "loss" else ()
        found.append(by_row(x[rows], target[rows], *held))
    return torch.cat(found).double().cpu().numpy()


def _rank_pixels(subject: Subject, rows: Array, of: str) -> NDArray[np.int64]:
    """Return the pixels of each row, `(rows, pixels)`, the largest absolute gradient first."""
    x = subject.rows(rows)
    likeliest = torch.from_numpy(predict_rows(subject, x).argmax(1)).to(x.device)
    outputs = subject.outputs(x[:1])
    aim = torch.zeros(len(x), outputs.shape[1], dtype=outputs.dtype, device=x.device)
    aim[torch.arange(len(x)), likeliest] = 1.0
    size = np.abs(_differentiate_inputs(subject, x, aim, of, MAX_BYTES)).reshape(len(x), -1)
    return np.argsort(-size, axis=1, kind="stable")


def _select(order: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    return order[:, : max(1, round(share * order.shape[1]))]


def _mask(rows: Array, order: NDArray[np.int64], share: float, fill: float) -> Array:
    flat = rows.reshape(len(rows), -1)
    out = np.full_like(flat, fill)
    left = _select(order, share)
    np.put_along_axis(out, left, np.take_along_axis(flat, left, 1), 1)
    return out.reshape(rows.shape)


def _choose_training(model: Any, build: Build | None, settings: SnapshotSettings | None) -> Retrain:
    if build is None and not isinstance(model, BaseEstimator):
        raise ValueError("build must be given for a model that is not an estimator, got None")
    if build is not None:
        plain = replace(settings or SnapshotSettings(), every="end")
        made = build_module(build, plain.seed)
        if not any(True for _ in made.parameters()):
            raise ValueError("build must return a module with parameters, got one without any")

        def train_module(X: Array, y: NDArray[Any], seed: int) -> Callable[[Array], NDArray[Any]]:
            own = train_snapshots(build_module(build, seed), X, y, replace(plain, seed=seed)).final
            subject = as_subject(own, "cross-entropy")
            return lambda rows: predict_rows(subject, subject.rows(rows)).argmax(1)

        return train_module
    if settings is not None:
        raise ValueError("settings must be None where build is None")

    def fit_estimator(X: Array, y: NDArray[Any], seed: int) -> Callable[[Array], NDArray[Any]]:
        fresh: Any = clone(model)
        if "random_state" in fresh.get_params():
            fresh.set_params(random_state=seed)
        predict: Callable[[Array], NDArray[Any]] = fresh.fit(X, y).predict
        return predict

    return fit_estimator


def _check_fractions(fractions: Sequence[float]) -> list[float]:
    shares = [validation.finite_float(f"fractions[{i}]", share) for i, share in enumerate(fractions)]
    if not shares or not all(0.0 < share < 1.0 for share in shares):
        raise ValueError(f"fractions must be above 0 and below 1, got {list(fractions)}")
    return shares


def _check_signal(signal: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    if signal is None:
        return None
    marked = np.asarray(signal)
    if marked.dtype != bool or marked.shape != shape:
        raise ValueError(f"signal must be boolean of shape {shape} as test_X, got {marked.dtype} of {marked.shape}")
    return marked.reshape(len(marked), -1)
