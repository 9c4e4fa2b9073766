"""Methods of grids that packages above this one carry out: `relaxon.solvers` says where when it is imported."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES: dict[str, tuple[str, str]] = {}


def provide(name: str, module: str, function: str) -> None:
    """Say which function of which module carries a method out; it is imported on first use."""
    _PLACES[name] = module, function


def load(name: str) -> Any:
    """Return the function that carries a method out."""
    module, function = _PLACES[name]
    return getattr(import_module(module), function)
