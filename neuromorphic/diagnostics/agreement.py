"""m-coherence: the average number of rows that benefit from a step along one row's gradient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.neuromorphic.diagnostics.drawable import Drawable
from relaxon.neuromorphic.diagnostics.gradients import (
    MAX_BYTES,
    GradientMoments,
    Progress,
    measure_moments,
    pass_through,
    prepare_models,
)

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GradientCoherence(Drawable):
    """The m-coherence of m rows for each of T models, between 0 and m: 1 for orthogonal gradients, m for equal ones.

    `values` `(T,)` is over all parameters and `by_parameter[name]` `(T,)` for a single one; NaN where all gradients are
    zero. `pair_alignment` `(T,)` is the mean inner product of two different rows' gradients, divided by the mean
    squared norm: 0 for orthogonal gradients and 1 for equal ones, for any m.
    """

    picture = "draw_coherence"

    rows: int
    values: Array
    pair_alignment: Array
    by_parameter: dict[str, Array] = field(repr=False)
    mean_squared_norms: Array = field(repr=False)


def coherence(
    models: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: str = "auto",
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
) -> GradientCoherence:
    """Return the m-coherence `m ‖E g‖² / E ‖g‖²` of the rows' gradients for each of the models.

    Arguments as for `grand`; use the models of `train_snapshots(...).models`. In the first epochs it is high with real
    labels and much lower with random labels. The m rows are the sample: every row's gradient agrees with itself, which
    `pair_alignment` excludes.

    Source: Chatterjee and Zielinski, "Making Coherence Out of Nothing At All", 2020.

    Raises `TypeError` or `ValueError` naming the argument, before any work.

    >>> import torch
    >>> from relaxon.neuromorphic.diagnostics import coherence
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> x = [[1.0, 0.0], [0.0, 1.0]]
    >>> with torch.no_grad():
    ...     _ = model.weight.zero_()
    >>> float(coherence(model, x, [1.0, 1.0]).values[0])                       # orthogonal gradients
    1.0
    >>> float(coherence(model, [x[0], x[0]], [1.0, 1.0]).values[0])            # equal ones
    2.0
    """
    prepared = prepare_models(models, X, y, loss, max_bytes)
    rows = len(prepared[0][1])
    if rows < 2:
        raise ValueError(f"X must have at least two rows for a comparison of gradients, got {rows}")
    names, found = list(prepared[0][0].parameters()), []
    for number, (subject, x, target) in enumerate(pass_through(prepared, progress)):
        if list(subject.parameters()) != names:
            raise ValueError(f"models must have the same parameters, got different ones for models[{number}]")
        moments = measure_moments(subject, x, target, max_bytes)
        found.append([_measure_coherence(moments, part) for part in (names, *([name] for name in names))])
    values, pairs, norms = np.array(found).transpose(2, 1, 0)
    return GradientCoherence(rows, values[0], pairs[0], dict(zip(names, values[1:], strict=True)), norms[0])


def _measure_coherence(found: GradientMoments, names: list[str]) -> tuple[float, float, float]:
    """Return coherence, pair alignment and mean squared norm over the given parameters."""
    mean_square = float(sum(found.squares[name].mean() for name in names))
    square_mean = float(sum(np.square(found.means[name]).sum() for name in names))
    if mean_square == 0.0:
        return float("nan"), float("nan"), 0.0
    rows = len(found.squares[names[0]])
    value = rows * square_mean / mean_square
    return value, (value - 1.0) / (rows - 1), mean_square
