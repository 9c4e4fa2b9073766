"""Results that can be drawn."""

# Imported on first use, for its weight: `pictures`.

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Drawable:
    """A result of the diagnostics, which the function of this name in `pictures` draws."""

    __slots__ = ()
    picture: ClassVar[str]

    def plot(self) -> Figure:
        """Return a figure of the result; needs matplotlib."""
        from relaxon.neuromorphic.diagnostics import pictures

        figure: Figure = getattr(pictures, self.picture)(self)
        return figure
