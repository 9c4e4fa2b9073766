"""Checks of the files that settings name."""

from __future__ import annotations

from pathlib import Path


def check_readable(setting: str, path: Path) -> None:
    """Raise OSError, of the type that opening the file raised, naming the setting, the path and the reason."""
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise type(error)(f"{setting} must name a file that can be read, got {str(path)!r}: {error.strerror}") from None
