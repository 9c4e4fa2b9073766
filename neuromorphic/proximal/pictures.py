"""Figures of a learned proximal operator, its prior, and reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.pictures import new_figure
from relaxon.neuromorphic.proximal.classical import soft_threshold

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal.model import ProximalModel
    from relaxon.neuromorphic.proximal.training.recipes import Recipe

Array = NDArray[np.float64]
SHOWN = 6
REACH = 4.0
DPI = 100


def draw_model(path: Path, model: ProximalModel, recipe: Recipe) -> None:
    """Draw the effect of a model on its data, in the format of the file's suffix (requires matplotlib)."""
    if model.shape == (1,):
        figure = _draw_line(model, recipe.name)
    else:
        noisy = recipe.test[:SHOWN] + model.noise * np.random.default_rng(1).standard_normal(recipe.test[:SHOWN].shape)
        images = [recipe.test[:SHOWN], noisy, model.denoise(noisy)]
        if len(model.shape) == 2:
            figure = draw_rows(("sample", f"noise {model.noise:.2g}", "f(y)"), images)
        else:
            figure = _draw_profiles(images)
    figure.savefig(path, dpi=DPI)


def _draw_line(model: ProximalModel, name: str) -> Any:
    """Draw f and R, with soft thresholding and |x| where the prior is Laplacian."""
    figure = new_figure(9.0, 3.6)
    left, right = figure.subplots(1, 2)
    scale, offset = model.settings.scale, model.settings.offset
    y = offset + scale * np.linspace(-REACH, REACH, 401)
    left.plot(y, model.denoise(y[:, None])[:, 0], label="learned f(y)")
    x = offset + 0.75 * (y - offset)
    values = model.prior(x[:, None]).values
    right.plot(x, values - values.min(), label="learned R(x)")
    if name == "laplace":
        left.plot(y, soft_threshold(y, model.noise**2), "k--", linewidth=1, label="soft thresholding")
        right.plot(x, model.noise**2 * np.abs(x), "k--", linewidth=1, label="σ²|x|")
    left.set(xlabel="y", title="proximal operator")
    right.set(xlabel="x", title="regulariser")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.legend()
    return figure


def _draw_profiles(rows: list[Array]) -> Any:
    figure = new_figure(9.0, 3.6)
    for axis, *signals in zip(figure.subplots(1, 3), *(row[:3] for row in rows), strict=True):
        for signal, label in zip(signals, ("sample", "noisy", "f(y)"), strict=True):
            axis.plot(signal.ravel(), label=label)
        axis.grid(alpha=0.3)
    axis.legend()
    return figure


def draw_rows(titles: Sequence[str], rows: Sequence[Array], low: float = 0.0, high: float = 1.0) -> Any:
    """Return a figure with one row of images `(n, height, width)` for each title, on one grey scale."""
    count = len(rows[0])
    figure = new_figure(1.3 * count + 1.2, 1.35 * len(rows))
    for axes, title, images in zip(figure.subplots(len(rows), count, squeeze=False), titles, rows, strict=True):
        for axis, image in zip(axes, images, strict=True):
            axis.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        axes[0].set_ylabel(title, rotation=0, ha="right", va="center")
    return figure
