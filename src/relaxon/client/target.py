"""Where a server is, and what both clients do to reach it."""

from __future__ import annotations

import ipaddress
from typing import Any

from relaxon.client import errors
from relaxon.client.caller import Timeouts
from relaxon.client.retries import Retries
from relaxon.solvers import validation

DEFAULT_TARGET = "localhost:50551"
HEALTH_METHOD = "/grpc.health.v1.Health/Check"
HEALTH_NAMES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
FIRST_RECONNECT_MS, LONGEST_RECONNECT_MS = 200, 5_000
"""Between attempts to reach a server that is away. Calls made meanwhile fail at once, so gRPC's own 1 to 120 s would
have a client that repeats its calls give up on a server that is back."""


def checked(target: str, timeout: float, transfer_timeout: float, retries: Retries) -> Timeouts:
    """What calls may take; InvalidArgument naming what cannot be."""
    with errors.refusals():
        if not isinstance(target, str) or not target:
            raise TypeError(f"target must be a string like {DEFAULT_TARGET!r}, got {target!r}")
        seconds = validation.positive_float("timeout", timeout)
        transfer_seconds = validation.positive_float("transfer_timeout", transfer_timeout)
        if not isinstance(retries, Retries):
            raise TypeError(f"retries must be Retries, got {type(retries).__name__}")
    return Timeouts(seconds, transfer_seconds, retries)


def options(target: str) -> list[tuple[str, Any]]:
    """A channel's options."""
    found = [
        ("grpc.initial_reconnect_backoff_ms", FIRST_RECONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", LONGEST_RECONNECT_MS),
    ]
    # A proxy for the outside world is of no use on the way to this machine itself, but gRPC would take it.
    return [*found, ("grpc.enable_http_proxy", 0)] if is_loopback(target) else found


def unanswered(target: str, seconds: float) -> errors.Unavailable:
    """The error of a connection that could not be made."""
    return errors.Unavailable(f"no server answered at {target} within {seconds:g} s")


def health_of(reply: bytes) -> str:
    """What a server says of itself, by the one field of grpc.health.v1's message: the package that has that message
    belongs to the server."""
    status = reply[1] if len(reply) == 2 else 0
    return HEALTH_NAMES[status] if status < len(HEALTH_NAMES) else "UNKNOWN"


def is_loopback(target: str) -> bool:
    """Whether the target is this machine by its loopback address."""
    host = target.rpartition(":")[0].rpartition("/")[2].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
