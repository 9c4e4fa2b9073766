"""The channel to a server: in clear or over TLS, with the caller's token on every call."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import grpc

TOKEN_KEY = "authorization"
FIRST_RECONNECT_MS, LONGEST_RECONNECT_MS = 200, 5_000
"""Between attempts to reach a server that is away. Calls made meanwhile fail at once, so gRPC's own 1 to 120 s would
have a client that repeats its calls give up on a server that is back."""


@dataclass(frozen=True, slots=True)
class Security:
    """How a server is to be spoken to; `check` and `channel` say for which targets that will do."""

    token: str | None = field(default=None, repr=False)
    """As `relaxon token add` printed it."""
    tls: bool | None = None
    """None for TLS where certificates are given."""
    root_certificates: str | Path | None = None
    """PEM file of the authorities that may vouch for the server; where None, those that gRPC brings."""
    client_certificate: tuple[str | Path, str | Path] | None = None
    """PEM files of a certificate and its key, for servers that ask for one."""

    def __post_init__(self) -> None:
        token = self.token
        if token is not None and (not isinstance(token, str) or not token.isascii() or not token.isprintable()):
            raise TypeError("token must be a string as `relaxon token add` prints it")
        if token is not None and (not token or " " in token):
            raise ValueError("token must be a string as `relaxon token add` prints it: without spaces, and not empty")
        if self.tls is False and (self.root_certificates or self.client_certificate):
            raise ValueError("tls must not be False where certificates are given")

    @property
    def encrypted(self) -> bool:
        if self.tls is None:
            return self.root_certificates is not None or self.client_certificate is not None
        return self.tls

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call."""
        return () if self.token is None else ((TOKEN_KEY, f"Bearer {self.token}"),)

    def check(self, target: str) -> None:
        """ValueError where the token would travel in clear to another machine."""
        if self.token is not None and not self.encrypted and not is_loopback(target):
            raise ValueError(f"token must not be sent in clear to {target!r}: connect with tls=True")

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a channel over TLS; OSError where a file cannot be read."""
        roots = None if self.root_certificates is None else Path(self.root_certificates).read_bytes()
        if self.client_certificate is None:
            return grpc.ssl_channel_credentials(roots)
        certificate, key = self.client_certificate
        return grpc.ssl_channel_credentials(roots, Path(key).read_bytes(), Path(certificate).read_bytes())


IN_CLEAR = Security()


def channel(target: str, security: Security = IN_CLEAR) -> grpc.Channel:
    """A channel to `target`. ValueError where `security` does not suit it; OSError where a file cannot be read."""
    security.check(target)
    made = (
        grpc.secure_channel(target, security.channel_credentials(), options(target))
        if security.encrypted
        else grpc.insecure_channel(target, options(target))
    )
    return made if security.token is None else grpc.intercept_channel(made, _WithToken(security.metadata))


def options(target: str) -> list[tuple[str, Any]]:
    """Those of a channel to `target`."""
    found = [
        ("grpc.initial_reconnect_backoff_ms", FIRST_RECONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", LONGEST_RECONNECT_MS),
    ]
    # A proxy for the outside world is of no use on the way to this machine itself, but gRPC would take it.
    return [*found, ("grpc.enable_http_proxy", 0)] if is_loopback(target) else found


def is_loopback(target: str) -> bool:
    """Whether "host:port" is on this machine."""
    host = target.rpartition(":")[0].rpartition("/")[2].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _WithToken(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Puts the token beside every call's own metadata."""

    def __init__(self, entries: tuple[tuple[str, str], ...]) -> None:
        self._entries = entries

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._with_token(client_call_details), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(self._with_token(client_call_details), request)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return continuation(self._with_token(client_call_details), request_iterator)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return continuation(self._with_token(client_call_details), request_iterator)

    def _with_token(self, given: Any) -> _Details:
        metadata = (*(given.metadata or ()), *self._entries)
        return _Details(
            given.method, given.timeout, metadata, given.credentials, given.wait_for_ready, given.compression
        )
