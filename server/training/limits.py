"""What one training job or one stored model may ask of this server, checked before anything is allocated for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.server.gate import errors

if TYPE_CHECKING:
    from relaxon.server.config.settings import ServerSettings

FLOAT_BYTES = 8
MAX_COLUMNS = 2**14
MAX_OUTPUTS = 1000
MAX_LAYERS = 64
MAX_STEPS = 1_000_000
"""The optimisation steps of a job: every report on them is kept in the database."""


def check_most(field: str, value: int, most: int, words: str = "") -> None:
    """Raise RESOURCE_EXHAUSTED for a number above a limit of this server; `words` name it where `field` does not."""
    if value > most:
        raise errors.exhausted(field, f"{words or field} must be at most {most} here, got {value}")


def check_bytes(entries: int, settings: ServerSettings) -> None:
    """Raise RESOURCE_EXHAUSTED where so many float64 entries take more than one call's arrays may."""
    size = FLOAT_BYTES * entries
    if size > settings.max_table_bytes:
        raise errors.exhausted("table", f"table must have at most {settings.max_table_bytes} bytes here, got {size}")
