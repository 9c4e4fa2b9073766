"""The picture of a contest: the system or its solution, the convergence of each run, and where the time went.

Imported on first use, for its weight: matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from relaxon.cli.contest import Order, Run
from relaxon.core.pictures import DECADES_BELOW, MARKED_POINTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from relaxon.cli.grid_system import GridSystem
    from relaxon.cli.matrix_system import FileMatrixSystem

FORMATS = (".png", ".svg", ".pdf")
# The palette of Okabe and Ito, for any colour vision; the named solver gets the first colour.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
WIDE_RATIO = 8
"""Ratio of iteration counts above which a linear axis would squeeze the short curves into its edge."""
FEWEST_ROWS = 4
"""Rows for which there is room at least: a single bar does not fill the whole height."""
PARTS = (("set-up", "setup_seconds", 0.45), ("solve", "solve_seconds", 1.0), ("transport", "transport_seconds", 0.2))
"""The parts of a bar: name, field of `Run`, and opacity."""


def draw(
    path: Path, system: GridSystem | FileMatrixSystem, runs: Sequence[Run], rtol: float, order: Order = None
) -> None:
    """Write the picture, in the format of the file's ending; `order` is that of the rows in the first run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [run for run in runs if run.x is not None]
    figure = Figure(figsize=(16.0, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.05, 1.2, 1.0))
    system.draw(figure, left, shown[0], order)
    draw_convergence(middle, shown, rtol)
    draw_seconds(right, shown)
    figure.suptitle(f"{system.describe()}, rtol {rtol:g}")
    figure.savefig(path, dpi=110)


def draw_convergence(axes: Axes, runs: Sequence[Run], rtol: float) -> None:
    """Draw the residual of each run over its iterations."""
    for number, run in enumerate(runs):
        # All runs start from zero, where the residual is b.
        relative = run.residuals / run.residuals[0] if len(run.residuals) and run.residuals[0] > 0 else run.residuals
        relative = np.where(relative > 0, relative, np.nan)
        axes.plot(
            np.arange(len(relative)),
            relative,
            color=_choose_colour(number),
            # The named solver's curve is broad and lies below the others, so that its edges stay visible.
            linewidth=4.0 if number == 0 else 1.5,
            marker="o" if len(relative) <= MARKED_POINTS else "",
            markersize=6 if number == 0 else 4,
            label=f"{run.solver}: {run.iterations} iteration{'s' * (run.iterations != 1)}",
            zorder=2 if number == 0 else 3,
        )
    axes.axhline(rtol, color="black", linestyle="--", linewidth=1, label=f"rtol {rtol:g}")
    axes.set_yscale("log")
    low, _ = axes.get_ylim()
    axes.set_ylim(bottom=max(low, rtol * 10.0**-DECADES_BELOW))
    counts = [run.iterations for run in runs if run.iterations > 1] or [1]  # a direct solver needs one
    if max(counts) > WIDE_RATIO * min(counts):
        axes.set_xscale("symlog", linthresh=min(counts))
    axes.set_xlim(left=0)
    axes.set(title="convergence", xlabel="iteration", ylabel="relative residual, as the solver holds it")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(loc="best")


def draw_seconds(axes: Axes, runs: Sequence[Run]) -> None:
    """Draw the time of each run, divided into its parts."""
    from matplotlib.patches import Patch

    rows = np.arange(len(runs))
    ends = np.zeros(len(runs))
    colours = [_choose_colour(number) for number in range(len(runs))]
    for _, field, alpha in PARTS:
        seconds = np.array([getattr(run, field) for run in runs])
        axes.barh(rows, seconds, left=ends, color=colours, alpha=alpha, edgecolor="white")
        ends += seconds
    for row, (run, end) in enumerate(zip(runs, ends, strict=True)):
        outcome = "" if run.converged else f"\n {run.result.replace('_', ' ')}"
        axes.annotate(f" {end:.3g} s{outcome}", (end, row), va="center")
    axes.set_yticks(rows, [run.solver for run in runs])
    # Room for the figures beside the bars, and above them for the legend.
    axes.set_xlim(0, 1.4 * max(float(ends.max()), 1e-9))
    axes.set_ylim(max(len(runs), FEWEST_ROWS) - 0.4, -1.1)
    axes.set(title="where the time went", xlabel="seconds")
    axes.spines[["top", "right"]].set_visible(False)
    handles = [Patch(facecolor="black", alpha=alpha, label=label) for label, _, alpha in PARTS]
    axes.legend(handles=handles, loc="upper center", ncols=len(PARTS), frameon=False)


def _choose_colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
