"""Results that can be drawn."""

# Imported on first use, for its weight: `pictures`.

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Drawable:
    """A result of the diagnostics; `pictures` has a figure of each."""

    __slots__ = ()

    def plot(self) -> Figure:
        """Return a figure of the result; needs matplotlib."""
        from relaxon.neuromorphic.diagnostics.pictures import draw_result

        return draw_result(self)
