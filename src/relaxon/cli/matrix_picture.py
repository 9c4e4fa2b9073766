"""The picture of a contest on a matrix: its pattern in the order used, how each residual fell, and the seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.cli.contest import Run
from relaxon.cli.matrix_system import FileSystem
from relaxon.cli.picture import draw_convergence, draw_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELLS = 400
"""Sides of the picture's pattern in cells: a larger matrix is drawn as the density of its entries."""
DECADE = 10
"""Entries of a cell from which on their number is shown by its logarithm."""


def draw(
    path: Path, system: FileSystem, runs: Sequence[Run], rtol: float, order: NDArray[np.int64] | None = None
) -> None:
    """Write the picture, whose format goes by the file's ending; `order` is the solver's of the rows, if its own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [run for run in runs if run.x is not None]
    figure = Figure(figsize=(16.0, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.05, 1.2, 1.0))
    _draw_pattern(figure, left, system, order)
    draw_convergence(middle, shown, rtol)
    draw_seconds(right, shown)
    figure.suptitle(f"{system.describe()}, rtol {rtol:g}")
    figure.savefig(path, dpi=110)


def count_entries(matrix: Any, block: int, order: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Return how many entries lie in each `block × block` part of a square matrix, its rows and columns in an order."""
    entries = matrix.tocoo()
    n = matrix.shape[0]
    cells = -(-n // block)
    place = np.arange(n)
    if order is not None:
        place[order] = np.arange(n)
    rows, columns = (place[index] // block for index in (entries.row, entries.col))
    return np.bincount(rows * cells + columns, minlength=cells * cells).reshape(cells, cells).astype(np.float64)


def _draw_pattern(figure: Figure, axes: Axes, system: FileSystem, order: NDArray[np.int64] | None) -> None:
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import MaxNLocator

    n = system.structure.unknowns
    block = -(-n // CELLS)
    counts = count_entries(system.matrix, block, order)
    largest = max(float(counts.max(initial=1.0)), 2.0)
    norm = LogNorm(1.0, largest) if largest > DECADE else Normalize(0.0, largest)
    end = counts.shape[0] * block
    image = axes.imshow(
        np.where(counts > 0, counts, np.nan),
        cmap="viridis_r" if block > 1 else "gray_r",
        norm=norm,
        extent=(0, end, end, 0),
        interpolation="nearest",
    )
    title = "pattern in the file's order" if order is None else "pattern in the solver's breadth-first order"
    if block > 1:
        title += f"\nentries in blocks of {block}×{block}"
        figure.colorbar(image, ax=axes, shrink=0.85, ticks=None if largest > DECADE else MaxNLocator(integer=True))
    axes.set(title=title, xlabel="column", ylabel="row", xlim=(0, n), ylim=(n, 0))
    axes.set_aspect("equal")
