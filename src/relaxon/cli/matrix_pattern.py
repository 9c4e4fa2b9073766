"""The picture of a matrix's pattern, in the order in which a solver took its rows."""

# Imported on first use, for its weight: matplotlib.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from relaxon.cli.contest import Order

CELLS = 400
"""Largest side of the picture, in cells: of a larger matrix, the density of the entries is drawn."""
DECADE = 10
"""Entries in one cell above which the colours are logarithmic."""


def draw_pattern(figure: Figure, axes: Axes, matrix: Any, order: Order = None) -> None:
    """Draw where the entries of a sparse matrix are; `order` is that of a solver's rows, None for the file's."""
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import MaxNLocator

    n = matrix.shape[0]
    block = -(-n // CELLS)
    counts = count_entries(matrix, block, order)
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


def count_entries(matrix: Any, block: int, order: Order = None) -> NDArray[np.float64]:
    """Return the number of entries in each `block × block` part of a square matrix, with its rows in an order."""
    entries = matrix.tocoo()
    n = matrix.shape[0]
    cells = -(-n // block)
    place = np.arange(n)
    if order is not None:
        place[order] = np.arange(n)
    rows, columns = (place[index] // block for index in (entries.row, entries.col))
    return np.bincount(rows * cells + columns, minlength=cells * cells).reshape(cells, cells).astype(np.float64)
