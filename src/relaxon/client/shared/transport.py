"""How a connection to a server is secured, and the options of its channel."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

TOKEN_KEY = "authorization"
"""The metadata entry that carries a token."""
FIRST_RECONNECT_MS, LONGEST_RECONNECT_MS = 200, 5_000
"""Waits between attempts to reach a server that is away. Calls made meanwhile fail at once, so with gRPC's defaults of
1 to 120 s a client that repeats its calls would give up on a server that is back."""
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Security:
    """The token and the certificates for a server; `check` says which targets they suit."""

    token: str | None = field(default=None, repr=False)
    """As printed by `relaxon token add`."""
    tls: bool | None = None
    """Whether to use TLS; None uses it where certificates are given."""
    root_certificates: str | Path | None = None
    """PEM file of the authorities that may vouch for the server; None for those that come with gRPC."""
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
        """Whether the connection uses TLS."""
        if self.tls is None:
            return self.root_certificates is not None or self.client_certificate is not None
        return self.tls

    @property
    def metadata(self) -> Metadata:
        """The entries to send with every call."""
        return () if self.token is None else ((TOKEN_KEY, f"Bearer {self.token}"),)

    def check(self, target: str) -> None:
        """Raise ValueError where the token would be sent unencrypted to another machine."""
        if self.token is not None and not self.encrypted and not is_loopback(target):
            raise ValueError(f"token must not be sent in clear to {target!r}: connect with tls=True")

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return the credentials of a channel over TLS; OSError where a file cannot be read."""
        roots = None if self.root_certificates is None else Path(self.root_certificates).read_bytes()
        if self.client_certificate is None:
            return grpc.ssl_channel_credentials(roots)
        certificate, key = self.client_certificate
        return grpc.ssl_channel_credentials(roots, Path(key).read_bytes(), Path(certificate).read_bytes())


IN_CLEAR = Security()


def channel_options(target: str) -> list[tuple[str, Any]]:
    """Return gRPC's options for a channel to `target`."""
    options = [
        ("grpc.initial_reconnect_backoff_ms", FIRST_RECONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", LONGEST_RECONNECT_MS),
    ]
    # gRPC would use a proxy meant for the outside world even on the way to this machine itself.
    return [*options, ("grpc.enable_http_proxy", 0)] if is_loopback(target) else options


def is_loopback(target: str) -> bool:
    """Return whether "host:port" is on this machine."""
    host = target.rpartition(":")[0].rpartition("/")[2].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
