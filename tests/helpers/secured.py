"""What `pytest --secure` changes: every server asks for a token over TLS, and every way to one brings them.

The tests themselves stay as they are. Only what is made in this process is changed; a server that a test starts as a
command is as that command says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import trustme

from relaxon.client._async import connection as aio_connection
from relaxon.client._sync import connection
from relaxon.client.shared import target as target_checks
from relaxon.client.shared.blocking_runtime import open_channel
from relaxon.client.shared.transport import IN_CLEAR, Security
from relaxon.server import app
from relaxon.server.gate import tokens
from relaxon.server.gate.identity import Role

NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Authority:
    """Certificates and a token file in a folder."""

    folder: Path
    certificate: Path
    key: Path
    roots: Path
    token_file: Path
    token: str
    """An admin's."""
    ca: trustme.CA

    @classmethod
    def make(cls, folder: Path, name: str = "tests", role: Role = Role.ADMIN) -> Authority:
        ca = trustme.CA()
        issued = ca.issue_cert(*NAMES)
        paths = [folder / one for one in ("server.pem", "server.key", "roots.pem", "tokens")]
        for blob in issued.cert_chain_pems:
            blob.write_to_path(str(paths[0]), append=True)
        issued.private_key_pem.write_to_path(str(paths[1]))
        ca.cert_pem.write_to_path(str(paths[2]))
        return cls(folder, *paths, tokens.add(paths[3], name, role), ca)

    @property
    def settings(self) -> dict[str, str]:
        """For `ServerSettings`."""
        return {
            "tls_certificate": str(self.certificate),
            "tls_key": str(self.key),
            "token_file": str(self.token_file),
        }

    def client_certificate(self, name: str) -> tuple[Path, Path]:
        issued = self.ca.issue_cert(f"{name}@example.org", common_name=name)
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(str(paths[0]))
        issued.private_key_pem.write_to_path(str(paths[1]))
        return paths


def channel(target: str, security: Security) -> grpc.Channel:
    """A channel for stubs that know nothing of tokens: it brings the token with every call."""
    plain = open_channel(target, security)
    return grpc.intercept_channel(plain, _WithToken(security)) if security.token else plain


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

    def __init__(self, security: Security) -> None:
        self._security = security

    def _intercept(self, continuation: Any, given: Any, requests: Any) -> Any:
        metadata = (*(given.metadata or ()), *self._security.metadata)
        details = given.method, given.timeout, metadata, given.credentials, given.wait_for_ready, given.compression
        return continuation(_Details(*details), requests)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = _intercept


@contextmanager
def everything_secured(folder: Path) -> Iterator[None]:
    """Servers made in this process, and ways to them, are secured while the block runs."""
    authority = Authority.make(folder)
    ours = Security(token=authority.token, root_certificates=authority.roots)
    targets: set[str] = set()
    running, insecure_channel = app._run_server, grpc.insecure_channel

    @asynccontextmanager
    async def secured_running(settings: Any, *others: Any) -> AsyncIterator[str]:
        plain = not settings.encrypted and not settings.authenticated
        async with running(replace(settings, **authority.settings) if plain else settings, *others) as target:
            if plain:
                targets.add(target)
            yield target

    def secured_channel(target: str, *others: Any) -> grpc.Channel:
        return channel(target, ours) if target in targets else insecure_channel(target, *others)

    def secured_connection(target: str, *others: Any) -> tuple[Any, Security]:
        timeouts, security = target_checks.validate_connection(target, *others)
        return timeouts, ours if target in targets and security == IN_CLEAR else security

    def secured_client_channel(target: str, security: Security) -> grpc.Channel:
        # Tests make calls by the client's own stubs, which bring no token.
        return channel(target, ours) if target in targets and security == IN_CLEAR else open_channel(target, security)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aio_connection, "validate_connection", secured_connection)
        patch.setattr(connection, "open_channel", secured_client_channel)
        patch.setattr(app, "_run_server", secured_running)
        patch.setattr(grpc, "insecure_channel", secured_channel)
        yield
