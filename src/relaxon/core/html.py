"""Small HTML tables of results, for notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, MARGIN = 240, 48, 3
"""Size and margin of the curve below a table, in pixels."""
MOST_POINTS = 400
"""Points of a curve at most: more than its pixels can show."""


def table(title: str, rows: Mapping[str, object], curve: str = "") -> str:
    """Return a table with one row per name, values as text, and below it a `curve` from `residual_curve`."""
    cells = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in rows.items()
        if value not in (None, "")
    )
    return f"<div><strong>{escape(title)}</strong><table>{cells}</table>{curve}</div>"


def residual_curve(residuals: NDArray[np.float64]) -> str:
    """Return the logarithm of the residuals over the iterations as an SVG line; empty if there is nothing to draw."""
    sound = np.flatnonzero(np.isfinite(residuals) & (residuals > 0))
    if len(sound) < 2:
        return ""
    sound = sound[np.unique(np.linspace(0, len(sound) - 1, MOST_POINTS).astype(int))]
    height = np.log10(residuals[sound])
    low, high = height.min(), max(height.max(), height.min() + 1e-9)
    x = MARGIN + (WIDTH - 2 * MARGIN) * sound / sound[-1]
    y = MARGIN + (HEIGHT - 2 * MARGIN) * (high - height) / (high - low)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    said = f"residual from {residuals[sound[0]]:.1e} to {residuals[sound[-1]]:.1e}"
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{said}"><title>{said}</title>'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
    )
