"""The modules of the package by their dotted names."""

from __future__ import annotations

from pathlib import Path

import relaxon

PACKAGE = Path(relaxon.__file__).parent


def modules(*packages: str) -> list[str]:
    """Return the dotted names of all modules of the given packages of `relaxon`, in order."""
    found = []
    for package in packages:
        folder = (PACKAGE / package).resolve()
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found.append(".".join(["relaxon", package, *(part for part in parts if part != "__init__")]))
    return found
