"""What the printed tables of the benches have in common."""

from __future__ import annotations

from typing import Any


def format_value(value: Any) -> str:
    """Return a cell of a table: floating-point numbers to four digits, and to three where they are small."""
    if isinstance(value, float):
        return f"{value:.2e}" if value and abs(value) < 1e-2 else f"{value:.4g}"
    return str(value)
