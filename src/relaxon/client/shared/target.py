"""The arguments of `connect`, validated, and the health that a server reports."""

from __future__ import annotations

import re
from pathlib import Path

from relaxon.client.shared.retries import Retries, Timeouts
from relaxon.client.shared.transport import Security, is_loopback
from relaxon.core import errors, validation
from relaxon.wire.arrays import Wire

DEFAULT_PORT = 50551
DEFAULT_TARGET = f"localhost:{DEFAULT_PORT}"
HEALTH_METHOD = "/grpc.health.v1.Health/Check"
HEALTH_NAMES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
"""The names of the values of grpc.health.v1's ServingStatus, in their order."""
GRPC_SCHEMES = ("dns", "unix", "unix-abstract", "vsock", "ipv4", "ipv6", "xds", "google-c2p")
"""The schemes that gRPC resolves; it takes a target that begins with any other for the name of a host."""
HIGHEST_PORT = 65_535
LONGEST_GROUP = 4
"""Most characters between two colons of an IPv6 address."""
HOST = re.compile(r"[^\s:/@\[\]]+|\[[^\s/@\[\]]+\]")
"""The host of a target; an IPv6 address stands in brackets."""


def check_target(target: object) -> None:
    """Raise TypeError or ValueError for a target that is neither "host:port" nor begins with one of gRPC's schemes.

    gRPC would try to resolve such a name until the deadline.
    """
    if not isinstance(target, str) or not target:
        raise TypeError(f"target must be a string like {DEFAULT_TARGET!r}, got {target!r}")
    scheme, colon, _ = target.partition(":")
    if (colon and scheme.lower() in GRPC_SCHEMES) or _is_host_and_port(target):
        return
    encrypted = " with tls=True" if scheme.lower() in ("https", "grpcs") else ""
    raise ValueError(
        f'target must be "host:port" or begin with one of gRPC\'s own schemes (dns:, unix:, ...), got {target!r}; '
        f"write {_suggest_target(target)!r}{encrypted}"
    )


def _is_host_and_port(address: str) -> bool:
    host, _, port = address.rpartition(":")
    numbered = port.isascii() and port.isdecimal() and 0 < int(port) <= HIGHEST_PORT
    return numbered and HOST.fullmatch(host) is not None


def _suggest_target(target: str) -> str:
    """Return the "host:port" that is probably meant."""
    host = target.rpartition("://")[2].partition("/")[0].strip()
    if _is_host_and_port(host):
        return host
    if host.count(":") > 1 and not host.startswith("["):
        before, _, last = host.rpartition(":")
        if len(last) > LONGEST_GROUP and last.isdecimal():
            return f"[{before}]:{last}"
        host = f"[{host}]"
    return f"{host}:{DEFAULT_PORT}" if HOST.fullmatch(host) else DEFAULT_TARGET


def validate_connection(
    target: str,
    timeout: float,
    transfer_timeout: float,
    retries: Retries,
    token: str | None,
    tls: bool | None,
    root_certificates: str | Path | None,
    client_certificate: tuple[str | Path, str | Path] | None,
) -> tuple[Timeouts, Security]:
    """Return how long calls may take and how they are secured; InvalidArgument names a bad argument of `connect`."""
    with errors.refusals():
        check_target(target)
        seconds = validation.positive_float("timeout", timeout)
        transfer_seconds = validation.positive_float("transfer_timeout", transfer_timeout)
        if not isinstance(retries, Retries):
            raise TypeError(f"retries must be Retries, got {type(retries).__name__}")
        security = Security(token, tls, root_certificates, client_certificate)
        security.check(target)
    return Timeouts(seconds, transfer_seconds, retries), security


def no_answer(target: str, seconds: float) -> errors.Unavailable:
    """Return the error for a connection that could not be made."""
    return errors.Unavailable(f"no server answered at {target} within {seconds:g} s")


def parse_health(reply: bytes) -> str:
    """Return the health in a reply of grpc.health.v1.

    Its one field is read by hand, because only servers install the package that defines the message.
    """
    status = reply[1] if len(reply) == 2 else 0
    return HEALTH_NAMES[status] if status < len(HEALTH_NAMES) else "UNKNOWN"


def choose_wire(target: str, shared_memory: bool, compression: str | None) -> Wire:
    """Return how arrays travel to `target`; InvalidArgument for an unknown compression."""
    with errors.refusals():
        loopback = isinstance(target, str) and is_loopback(target)
        return Wire(shared_memory and loopback, not loopback, compression)
