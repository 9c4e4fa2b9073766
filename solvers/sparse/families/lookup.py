"""Lookup of a family by its name, with validation of the number of unknowns."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

from relaxon.core import validation

Family = TypeVar("Family")
LEAST = 64
"""Least number of unknowns: with fewer some of the meshes degenerate."""


def find_family(name: str, families: Mapping[str, Family], n: int) -> tuple[Family, int]:
    """Return the family of a name, and `n` as an int; ValueError or TypeError, naming the argument, for a wrong one."""
    if name not in families:
        near = get_close_matches(str(name), families, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"name must be one of {', '.join(families)}, got {name!r}{hint}")
    n = validation.positive_int("n", n)
    if n < LEAST:
        raise ValueError(f"n must be at least {LEAST}, got {n}")
    return families[name], n
