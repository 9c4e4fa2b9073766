"""What `connect` is given, checked, and what a server says of its health."""

from __future__ import annotations

from pathlib import Path

from relaxon.client import errors
from relaxon.client.caller import Timeouts
from relaxon.client.retries import Retries
from relaxon.client.transport import Security, is_loopback
from relaxon.client.wire import Wire
from relaxon.solvers import validation

DEFAULT_TARGET = "localhost:50551"
HEALTH_METHOD = "/grpc.health.v1.Health/Check"
HEALTH_NAMES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")


def checked(
    target: str,
    timeout: float,
    transfer_timeout: float,
    retries: Retries,
    token: str | None,
    tls: bool | None,
    root_certificates: str | Path | None,
    client_certificate: tuple[str | Path, str | Path] | None,
) -> tuple[Timeouts, Security]:
    """What calls may take and how they are secured; InvalidArgument naming what cannot be."""
    with errors.refusals():
        if not isinstance(target, str) or not target:
            raise TypeError(f"target must be a string like {DEFAULT_TARGET!r}, got {target!r}")
        seconds = validation.positive_float("timeout", timeout)
        transfer_seconds = validation.positive_float("transfer_timeout", transfer_timeout)
        if not isinstance(retries, Retries):
            raise TypeError(f"retries must be Retries, got {type(retries).__name__}")
        security = Security(token, tls, root_certificates, client_certificate)
        security.check(target)
    return Timeouts(seconds, transfer_seconds, retries), security


def unanswered(target: str, seconds: float) -> errors.Unavailable:
    """The error of a connection that could not be made."""
    return errors.Unavailable(f"no server answered at {target} within {seconds:g} s")


def health_of(reply: bytes) -> str:
    """What a server says of itself, by the one field of grpc.health.v1's message: the package that has that message
    belongs to the server."""
    status = reply[1] if len(reply) == 2 else 0
    return HEALTH_NAMES[status] if status < len(HEALTH_NAMES) else "UNKNOWN"


def wire_to(target: str, shared_memory: bool, compression: str | None) -> Wire:
    """How arrays travel to that target; InvalidArgument for a compression that there is not."""
    with errors.refusals():
        loopback = isinstance(target, str) and is_loopback(target)
        return Wire(shared_memory and loopback, not loopback, compression)
