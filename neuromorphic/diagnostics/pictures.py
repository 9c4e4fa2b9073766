"""Figures of the diagnostics' results. Needs matplotlib, loaded on the first call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.pictures import MARKED_POINTS, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from relaxon.neuromorphic.diagnostics.agreement import GradientCoherence
    from relaxon.neuromorphic.diagnostics.geometry import RepresentationGeometry
    from relaxon.neuromorphic.diagnostics.opposing import OpposingSignals
    from relaxon.neuromorphic.diagnostics.roar import InputGradientRoar
    from relaxon.neuromorphic.diagnostics.scores import RowScores

BINS = 50
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's palette, told apart with any colour vision."""


def draw_scores(found: RowScores) -> Figure:
    """The sorted scores with their spread, and their distribution, apart for rows predicted right and wrong."""
    figure, left, right = _make_panels()
    order = found.highest(len(found.scores))
    at = np.arange(len(order))
    score, spread = found.scores[order], found.spread[order]
    left.plot(at, score, color=COLOURS[0])
    if found.models > 1:
        left.fill_between(
            at, np.maximum(score - spread, 0.0), score + spread, color=COLOURS[0], alpha=0.25, linewidth=0
        )
    left.set(
        xlabel="rows, highest score first",
        ylabel=found.name,
        title=f"{found.name}, mean of {_count_models(found.models)}",
    )
    left.set_ylim(bottom=0.0)
    edges = np.linspace(0.0, max(float(found.scores.max()), 1e-12), BINS)
    if found.given is None:
        right.hist(found.scores, edges, color=COLOURS[0])
    else:
        wrong = found.predicted.argmax(1) != found.given
        parts = [found.scores[~wrong], found.scores[wrong]]
        names = ["predicted as labelled", "predicted otherwise"]
        right.hist(parts, edges, stacked=True, color=COLOURS[:2], label=names)
        right.legend()
    right.set(xlabel=found.name, ylabel="rows", title="distribution", yscale="symlog")
    return figure


def draw_coherence(found: GradientCoherence) -> Figure:
    """The coherence of all parameters and of each one, over the models."""
    figure, left, right = _make_panels()
    _draw_curve(left, found.values, "all parameters", 0)
    for number, (name, values) in enumerate(found.by_parameter.items()):
        left.plot(np.arange(len(values)), values, linewidth=0.8, alpha=0.7, color=COLOURS[1 + number % 5], label=name)
    left.axhline(1.0, color="0.4", linestyle=":", linewidth=1)
    left.set(xlabel="model", ylabel="m-coherence", title=f"m-coherence of {found.rows:,} rows", yscale="log")
    if len(found.by_parameter) <= len(COLOURS):
        left.legend(fontsize=8)
    _draw_curve(right, found.pair_alignment, "", 0)
    right.axhline(0.0, color="0.4", linestyle=":", linewidth=1)
    right.set(xlabel="model", ylabel="mean product / mean square", title="alignment of two different rows")
    return figure


def draw_opposing(found: OpposingSignals) -> Figure:
    """Mean losses of the two groups over the models, and the changes of all rows at the step with the largest swing."""
    figure, left, right = _make_panels()
    rising, falling = found.groups
    at = np.arange(len(found.losses))
    for number, (name, rows) in enumerate((("rising", rising), ("falling", falling))):
        left.plot(at, found.losses[:, rows].mean(1), color=COLOURS[1 - number], label=f"{name} at that step")
    left.plot(at, found.losses.mean(1), color="0.3", linewidth=1, label="all rows")
    left.axvspan(found.step, found.step + 1, color="0.85", zorder=0)
    left.set(xlabel="model", ylabel="mean loss", title=f"two groups of {len(rising)} rows")
    left.set_ylim(bottom=0.0)
    left.legend(fontsize=8)
    changes = np.sort(found.changes[found.step])
    right.plot(np.arange(len(changes)), changes, color="0.3")
    count = len(rising)
    right.plot(np.arange(count), changes[:count], ".", color=COLOURS[0])
    right.plot(np.arange(len(changes) - count, len(changes)), changes[-count:], ".", color=COLOURS[1])
    cosine = f"cosine of the groups' gradients {found.gradient_cosine:+.2f}"
    right.set(xlabel="rows, by change", ylabel="change of loss", title=f"step {found.step}: {cosine}")
    return figure


def draw_geometry(found: RepresentationGeometry) -> Figure:
    """Alignment with the inputs and with the targets over the models, a line for each layer."""
    figure, *panels = _make_panels(sharey=True)
    for axes, values, name in zip(panels, (found.inputs, found.targets), ("inputs", "targets"), strict=True):
        for number, layer in enumerate(found.layers):
            _draw_curve(axes, values[:, number], layer, number)
        axes.set(xlabel="model", title=f"alignment with the {name}", ylim=(0.0, 1.02))
        panels[1].axhline(found.baseline, color="0.4", linestyle=":", linewidth=1, label="inputs with targets")
    panels[0].set_ylabel("centred kernel alignment")
    panels[1].legend(fontsize=8)
    return figure


def draw_roar(found: InputGradientRoar) -> Figure:
    """Accuracies with the top, the bottom and random pixels by the fraction kept, and their difference."""
    figure, left, right = _make_panels()
    for number, (name, values) in enumerate((("top", found.top), ("bottom", found.bottom), ("random", found.random))):
        _draw_spread(left, found.fractions, 100.0 * values, f"{name} pixels", number)
    left.set(xlabel="fraction of the pixels kept", ylabel="accuracy, %", title="trained anew on masked rows")
    left.legend(fontsize=8)
    right.plot(found.fractions, 100.0 * found.difference, "o-", color=COLOURS[0], label="DiffROAR, points")
    if np.isfinite(found.signal_share).all():
        right.plot(
            found.fractions, 100.0 * found.signal_share, "s--", color=COLOURS[2], label="top pixels in the signal, %"
        )
        right.axhline(
            100.0 * found.signal_part, color=COLOURS[2], linestyle=":", linewidth=1, label="signal of all pixels, %"
        )
    right.axhline(0.0, color="0.4", linewidth=1)
    right.set(xlabel="fraction of the pixels kept", title="top less bottom")
    right.legend(fontsize=8)
    return figure


def _make_panels(sharey: bool = False) -> tuple[Figure, Any, Any]:
    figure = new_figure(9.5, 3.6)
    left, right = figure.subplots(1, 2, sharey=sharey)
    left.grid(alpha=0.3)
    right.grid(alpha=0.3)
    return figure, left, right


def _draw_curve(axes: Axes, values: NDArray[np.float64], name: str, number: int) -> None:
    mark = "o" if len(values) <= MARKED_POINTS else ""
    colour = COLOURS[number % len(COLOURS)]
    axes.plot(np.arange(len(values)), values, marker=mark, markersize=4, linewidth=2, color=colour, label=name or None)


def _draw_spread(axes: Axes, x: NDArray[np.float64], values: NDArray[np.float64], name: str, number: int) -> None:
    colour = COLOURS[number]
    axes.plot(x, values.mean(1), "o-", color=colour, label=name)
    axes.fill_between(x, values.min(1), values.max(1), color=colour, alpha=0.2, linewidth=0)


def _count_models(count: int) -> str:
    return "one model" if count == 1 else f"{count} models"
