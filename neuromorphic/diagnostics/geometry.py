"""Representation geometry: alignment of hidden layers' kernels with those of the inputs and of the targets."""

from __future__ import annotations

from collections.abc import Sequence
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
    pass_through,
    prepare_models,
    yield_slices,
)
from relaxon.neuromorphic.diagnostics.subjects import Subject

Array = NDArray[np.float64]
FLOAT = 8


@dataclass(frozen=True, slots=True)
class RepresentationGeometry(Drawable):
    """Alignments, in [0, 1], of the hidden layers of T models: `inputs` and `targets` are `(T, layers)`.

    `baseline` is the alignment of the inputs' kernel with the targets', which an identity layer would have. NaN where a
    layer has the same values for every row.
    """

    picture = "draw_geometry"

    layers: tuple[str, ...]
    inputs: Array = field(repr=False)
    targets: Array = field(repr=False)
    baseline: float


def representation_geometry(
    models: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    layers: Sequence[str] | None = None,
    loss: str = "auto",
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
) -> RepresentationGeometry:
    """Return how well hidden layers' kernels align with the inputs' and the targets' kernels, for each of the models.

    Parameters
    ----------
    models, X, y, loss, progress : as for `el2n`; use the models of `train_snapshots(...).models`.
    layers : names of layers (from `named_modules`; "layer 1", … for a network that relaxes). None means the activation
        modules or, without any, all layers without children except the last.
    max_bytes : bound on the bytes of a layer's values and of a kernel; ValueError where there are too many rows.

    Kernels are linear and centred: `A(K, L) = ⟨K, L⟩ / (‖K‖ ‖L‖)` with `K = H Hᵀ`, where H are the layer's values minus
    the columns' means, and L is the kernel of the inputs or of the targets (one-hot for classes).

    Source: Alleman, Lindsey and Fusi, "Task structure and nonlinearity jointly determine learned representational
    geometry", ICLR 2024: with one hidden layer, tanh approaches the targets' geometry and ReLU preserves more of the
    inputs'. The centred alignment is that of Cortes, Mohri and Rostamizadeh 2012.

    Raises `TypeError` or `ValueError` naming the argument, before any work.

    >>> import torch
    >>> from relaxon.neuromorphic.diagnostics import representation_geometry
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Identity(), torch.nn.Linear(2, 2))
    >>> with torch.no_grad():
    ...     _ = model[0].weight.copy_(torch.eye(2))
    >>> found = representation_geometry(model, [[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]], [0, 1, 1], layers=["0"])
    >>> round(float(found.inputs[0, 0]), 6), bool(abs(found.targets[0, 0] - found.baseline) < 1e-6)
    (1.0, True)
    """
    prepared = prepare_models(models, X, y, loss)
    bound = validation.positive_int("max_bytes", max_bytes)
    names = _choose_layers([subject for subject, _, _ in prepared], layers)
    _, x, target = prepared[0]
    if len(x) < 3:
        raise ValueError(f"X must have at least three rows for a geometry, got {len(x)}")
    inputs, targets = _centre("X", x, bound), _centre("y", target, bound)
    found = np.empty((2, len(prepared), len(names)))
    for number, (subject, own, _) in enumerate(pass_through(prepared, progress)):
        for place, name in enumerate(names):
            hidden = _read_hidden(subject, own, name, bound)
            found[:, number, place] = alignment(hidden, inputs, bound), alignment(hidden, targets, bound)
    return RepresentationGeometry(names, found[0], found[1], alignment(inputs, targets, bound))


def alignment(left: Array, right: Array, max_bytes: int = MAX_BYTES) -> float:
    """Return `⟨K, L⟩ / (‖K‖ ‖L‖)` of `K = left leftᵀ` and `L = right rightᵀ`, both `(rows, …)`; NaN where one is zero.

    Since `⟨K, L⟩ = ‖leftᵀ right‖²`, no kernel is computed where there are fewer columns than rows.
    """
    rows, wide = len(left), max(left.shape[1], right.shape[1])
    if min(rows, wide) ** 2 * FLOAT > max_bytes:
        raise ValueError(
            f"max_bytes must be at least {min(rows, wide) ** 2 * FLOAT} for a kernel of {rows} rows, got {max_bytes}: "
            "pass fewer rows"
        )
    if wide <= rows:
        products = [float(np.square(a.T @ b).sum()) for a, b in ((left, right), (left, left), (right, right))]
    else:
        kernels = [part @ part.T for part in (left, right)]
        products = [float((a * b).sum()) for a, b in (kernels, kernels[:1] * 2, kernels[1:] * 2)]
    scale = float(np.sqrt(products[1] * products[2]))
    return products[0] / scale if scale > 0 else float("nan")


def _choose_layers(subjects: Sequence[Subject], layers: Sequence[str] | None) -> tuple[str, ...]:
    names = subjects[0].default_layers() if layers is None else tuple(layers)
    if isinstance(layers, str) or not names:
        raise ValueError(f"layers must name at least one hidden layer, got {layers!r}")
    for subject in subjects:
        unknown = [name for name in names if name not in subject.layers]
        if unknown:
            known = ", ".join(subject.layers)
            raise ValueError(f"layers must be among those of the model ({known}), got {unknown[0]!r}")
    return names


def _read_hidden(subject: Subject, x: Tensor, name: str, max_bytes: int) -> Array:
    parts = []
    for rows in yield_slices(len(x), FORWARD_ROWS):
        parts.append(subject.activations(x[rows], [name])[name])
        _check_size(name, len(x) * parts[0].shape[1], max_bytes)
    return _centre(name, torch.cat(parts), max_bytes)


def _centre(name: str, values: Tensor, max_bytes: int) -> Array:
    _check_size(name, values.numel(), max_bytes)
    flat: Array = values.flatten(1).double().cpu().numpy()
    moved: Array = flat - flat.mean(0)
    # A column of equal values leaves rounding errors only.
    moved[:, np.abs(moved).max(0) <= 1e-12 * np.abs(flat).max(0)] = 0.0
    return moved


def _check_size(name: str, numbers: int, max_bytes: int) -> None:
    if numbers * FLOAT > max_bytes:
        raise ValueError(
            f"max_bytes must be at least {numbers * FLOAT} for the values of {name!r}, got {max_bytes}: pass fewer rows"
        )
