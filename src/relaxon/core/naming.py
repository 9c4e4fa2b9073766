"""Names of solvers together with the device that they run on: `NAME@DEVICE`."""

from __future__ import annotations

from typing import Any


class DeviceUnavailableError(RuntimeError):
    """torch cannot compute on the requested device."""


def on_device(solver: Any, device: str | None, default: str) -> Any:
    """Return the name that a caller's `solver` and `device` make together; `solver` itself if `device` is None."""
    if device is None:
        return solver
    if not isinstance(device, str):
        raise TypeError(f"device must be the name of a device such as 'cuda', or None, got {type(device).__name__}")
    if not device:
        raise ValueError("device must be the name of a device such as 'cuda', got an empty one")
    if solver is not None and not isinstance(solver, str):
        raise ValueError(f"device belongs to the name of a solver; give it to the {type(solver).__name__} itself")
    return f"{solver or default}@{device}"


def split_device(name: str) -> tuple[str, str | None]:
    """Return the solver's name and the device's, None if there is none."""
    solver, at, device = name.partition("@")
    return solver, device if at else None
