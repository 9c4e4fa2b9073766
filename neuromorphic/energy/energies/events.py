"""Checks of the data, of energies and of noise distributions before any work; an event is one row of the data."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from relaxon.neuromorphic.parameters import check_methods

PROBES = 3
"""Number of events on which a caller's energy or noise distribution is tried."""
FLOATS = (torch.float32, torch.float64)


def parse_event_shape(shape: Any) -> tuple[int, ...]:
    """Return a shape with at least one axis, each at least 1; an int is a single axis."""
    found = (shape,) if isinstance(shape, int) and not isinstance(shape, bool) else tuple(shape)
    if not found or any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in found):
        raise ValueError(f"event_shape must be positive integers, at least one, got {shape!r}")
    return found


def validate_events(name: str, events: Any, shape: tuple[int, ...] | None = None, *, least: int = 1) -> Tensor:
    """Return `events` if it is a finite float32 or float64 tensor `(n, *event_shape)` with at least `least` rows."""
    if not isinstance(events, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(events).__name__}")
    if events.dtype not in FLOATS:
        raise TypeError(f"{name} must be float32 or float64, got {events.dtype}")
    if events.ndim < 2 or (shape is not None and tuple(events.shape[1:]) != shape):
        expected = "(n, *event_shape)" if shape is None else f"(n, {', '.join(map(str, shape))})"
        raise ValueError(f"{name} must be of shape {expected}, got {tuple(events.shape)}")
    if len(events) < least:
        raise ValueError(f"{name} must have at least {least} rows, got {len(events)}")
    if not bool(torch.isfinite(events).all()):
        bad = int((~torch.isfinite(events)).sum())
        raise ValueError(f"{name} must be finite, got {bad} NaN or infinite of {events.numel()} entries")
    return events.detach()


def validate_energy(energy: Any, like: Tensor) -> torch.nn.Module:
    """Return `energy` if it is a module that maps events such as `like` to `(n,)` energies, tried on a few of them."""
    if not isinstance(energy, torch.nn.Module):
        raise TypeError(f"energy must be a torch.nn.Module, got {type(energy).__name__}")
    few = like[:PROBES]
    shape = getattr(energy, "event_shape", None)
    if shape is not None and tuple(shape) != tuple(like.shape[1:]):
        raise ValueError(f"energy must have the event_shape {tuple(like.shape[1:])} of the data, got {tuple(shape)}")
    with torch.no_grad():
        try:
            found = energy(few)
        except RuntimeError as error:
            kinds = {parameter.dtype for parameter in energy.parameters()}
            if like.dtype in kinds or not kinds:
                raise
            raise TypeError(f"energy must take {like.dtype} as the data are, got {kinds.pop()} parameters") from error
    if not isinstance(found, Tensor) or tuple(found.shape) != (len(few),):
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"energy must give one number for each event, shape ({len(few)},), got {got}")
    if found.dtype != like.dtype:
        raise TypeError(f"energy must give {like.dtype} for events of that dtype, got {found.dtype}")
    return energy


def validate_noise(noise: Any, like: Tensor) -> Any:
    """Return `noise` if it is a noise distribution for events such as `like`, tried on a few of its own samples."""
    check_methods("noise", noise, ("sample", "log_prob"))
    shape = tuple(like.shape[1:])
    if tuple(getattr(noise, "event_shape", ())) != shape:
        raise ValueError(f"noise must have the event_shape {shape} of the data, got {noise.event_shape!r}")
    drawn = noise.sample(PROBES, torch.Generator().manual_seed(0))
    if not isinstance(drawn, Tensor) or tuple(drawn.shape) != (PROBES, *shape):
        got = tuple(drawn.shape) if isinstance(drawn, Tensor) else type(drawn).__name__
        raise ValueError(f"noise.sample({PROBES}, generator) must have shape {(PROBES, *shape)}, got {got}")
    if drawn.dtype != like.dtype:
        raise TypeError(f"noise must sample {like.dtype} as the data are, got {drawn.dtype}")
    if drawn.device != like.device:
        raise ValueError(f"noise must sample on the device of the data, {like.device}, got {drawn.device}")
    density = noise.log_prob(drawn)
    if not isinstance(density, Tensor) or tuple(density.shape) != (PROBES,):
        got = tuple(density.shape) if isinstance(density, Tensor) else type(density).__name__
        raise ValueError(f"noise.log_prob must have shape ({PROBES},), got {got}")
    if not bool(torch.isfinite(density).all()):
        raise ValueError("noise.log_prob must be finite on the noise's own samples")
    again = noise.sample(PROBES, torch.Generator().manual_seed(0))
    if not torch.equal(drawn, again):
        raise ValueError("noise.sample must draw from the given generator: the same seed gave different samples")
    return noise


def flatten_events(events: Tensor) -> Tensor:
    """Return the events as `(n, d)`."""
    return events.reshape(len(events), math.prod(events.shape[1:]))
