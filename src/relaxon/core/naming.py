"""Solvers' names with the device that they are to run on: `NAME@DEVICE`."""

from __future__ import annotations

from typing import Any


class DeviceUnavailableError(RuntimeError):
    """torch cannot compute on the device that was asked for."""


def on_device(solver: Any, device: str | None, default: str) -> Any:
    """What a caller's `solver` and `device` name together; `solver` itself where `device` is None."""
    if device is None:
        return solver
    if not isinstance(device, str):
        raise TypeError(f"device must be the name of a device such as 'cuda', or None, got {type(device).__name__}")
    if not device:
        raise ValueError("device must be the name of a device such as 'cuda', got an empty one")
    if solver is not None and not isinstance(solver, str):
        raise ValueError(f"device goes with the name of a solver; give it to the {type(solver).__name__} itself")
    return f"{solver or default}@{device}"


def split_device(name: str) -> tuple[str, str | None]:
    """The solver's name, and the device's where there is one."""
    solver, at, device = name.partition("@")
    return solver, device if at else None
