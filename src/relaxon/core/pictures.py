"""Pictures of results: a slice of a solution, a convergence curve, the curves of a training.

Imported on first use, for its weight: matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.cell_types import CellType
from relaxon.core.extras import explain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from relaxon.core.solution import Solution

# Greys that occur in neither colour map of the solution.
SOLID_COLOUR, AIR_COLOUR = "#3d3d3d", "#c4c4c4"
MARKED_POINTS = 60
"""Curves of at most this many points have a marker at each."""
MOST_BARS = 20
"""Bars of a picture at most: more labels cannot be read."""
DECADES_BELOW = 3
"""Decades below the tolerance that are drawn: the rounding of a direct solver would take most of the height."""


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches for a notebook; ModuleNotFoundError says what to install."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise explain(error, "plot()") from error

    class Picture(Figure):
        """A figure without a window: a notebook displays it as the value of a cell."""

        def _repr_png_(self) -> bytes:
            from io import BytesIO

            file = BytesIO()
            self.savefig(file, format="png", dpi=110)
            return file.getvalue()

    figure = Picture(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_solution(solution: Solution, cells: NDArray[np.uint8] | None) -> Figure:
    """Draw the convergence of a solve and, if `x` has the grid's shape, a slice of it."""
    if cells is not None and cells.shape != solution.x.shape:
        raise ValueError(f"cells must have the solution's shape {solution.x.shape}, got {cells.shape}")
    full = solution.x.ndim in (2, 3)
    figure = new_figure(9.5 if full else 5.0, 4.0)
    panels = figure.subplots(1, 1 + full, squeeze=False)[0]
    said = solution.result.value.replace("_", " ")
    draw_residuals(panels[0], solution.residuals, solution.tolerance, f"{solution.solver}: {said}")
    if full:
        shown = np.zeros(solution.x.shape, np.uint8) if cells is None else cells
        draw_slice(figure, panels[1], shown, solution.x, "solution")
    return figure


def draw_residuals(axes: Axes, residuals: NDArray[np.float64], tolerance: float, title: str) -> None:
    """Draw ‖r‖ over the iterations, and the tolerance."""
    heights = np.where(residuals > 0, residuals, np.nan)
    axes.plot(np.arange(len(heights)), heights, marker="o" if len(heights) <= MARKED_POINTS else "", markersize=4)
    if tolerance > 0:
        axes.axhline(tolerance, color="black", linestyle="--", linewidth=1, label=f"tolerance {tolerance:.1e}")
        axes.legend(loc="best")
    axes.set_yscale("log")
    low, _ = axes.get_ylim()
    if tolerance > 0:
        axes.set_ylim(bottom=max(low, tolerance * 10.0**-DECADES_BELOW))
    axes.set_xlim(left=0)
    axes.set(title=title, xlabel="iteration", ylabel="‖b − A x‖")
    axes.grid(True, which="major", alpha=0.3)


def choose_slice(cells: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the (axis, index) of the middle slice with the most cell types, then with the most cells not fluid."""

    def shows(axis: int) -> tuple[int, float]:
        middle = cells.take(cells.shape[axis] // 2, axis)
        return len(np.unique(middle)) * bool((middle == CellType.FLUID).any()), float((middle != 0).mean())

    axis = max(range(cells.ndim), key=shows)
    return axis, cells.shape[axis] // 2


def draw_slice(figure: Figure, axes: Axes, cells: NDArray[np.uint8], values: NDArray[np.float64], title: str) -> None:
    """Draw the values in the fluid cells of a plane, or of a slice of three dimensions; solids and air in grey."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    kinds: Any = cells
    x: Any = values
    where, names = "", ["x", "y", "z"][: cells.ndim]
    if cells.ndim == 3:
        axis, index = choose_slice(cells)
        kinds, x = kinds.take(index, axis), x.take(index, axis)
        where = f", slice {names.pop(axis)} = {index}"
    fluid = np.ma.masked_where(kinds != CellType.FLUID, x)
    low, high = (float(fluid.min()), float(fluid.max())) if fluid.count() else (0.0, 1.0)
    if low < 0 < high:
        bound = max(-low, high)
        colours: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -bound, "vmax": bound}
    else:
        colours = {"cmap": "viridis", "vmin": low, "vmax": high}
    image = axes.imshow(fluid.T, origin="lower", interpolation="nearest", **colours)
    other = np.ma.masked_where(kinds == CellType.FLUID, kinds)
    palette = ListedColormap([SOLID_COLOUR, AIR_COLOUR])
    axes.imshow(other.T, origin="lower", interpolation="nearest", cmap=palette, vmin=CellType.SOLID, vmax=CellType.AIR)
    others = ((CellType.SOLID, "solid", SOLID_COLOUR), (CellType.AIR, "air", AIR_COLOUR))
    patches = [Patch(facecolor=c, edgecolor="black", label=label) for t, label, c in others if (kinds == t).any()]
    if patches:
        axes.legend(handles=patches, loc="upper right", framealpha=0.9)
    axes.set(title=title + where, xlabel=names[0], ylabel=names[1])
    figure.colorbar(image, ax=axes, shrink=0.85)


def draw_training(
    name: str, step: str, panels: Mapping[str, Mapping[str, NDArray[np.float64]]], shares: NDArray[np.float64]
) -> Figure:
    """Draw the curves of a training over its steps, one panel per group, and the largest `shares` of columns as bars.

    ValueError if there is nothing to draw.
    """
    groups = {
        title: {label: curve for label, curve in curves.items() if len(curve)} for title, curves in panels.items()
    }
    shown = {title: curves for title, curves in groups.items() if curves}
    if not shown:
        raise ValueError(f"model {name!r} has no curves here: a list of models leaves them out; ask for it by name")
    count = len(shown) + bool(len(shares))
    figure = new_figure(4.75 * count, 4.0)
    axes = figure.subplots(1, count, squeeze=False)[0]
    for panel, (title, curves) in zip(axes, shown.items(), strict=False):
        for label, curve in curves.items():
            panel.plot(
                np.arange(1, len(curve) + 1), curve, marker="o" if len(curve) <= MARKED_POINTS else "", label=label
            )
        panel.set(title=f"{name}: {title}", xlabel=step, ylabel=title)
        panel.grid(True, alpha=0.3)
        if len(curves) > 1:
            panel.legend(loc="best")
    if len(shares):
        order = np.argsort(shares)[::-1][:MOST_BARS]
        axes[-1].barh([f"column {column}" for column in order], shares[order])
        axes[-1].invert_yaxis()
        axes[-1].set(title="importance", xlabel="share")
    return figure
