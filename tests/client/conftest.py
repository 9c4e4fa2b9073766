"""One server for the client's tests, and a connection to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import relaxon
from relaxon.client import Client
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(ServerSettings(port=0, grace_seconds=0.0, compile="")) as server:
        yield server


@pytest.fixture
def client(embedded) -> Iterator[Client]:
    with relaxon.connect(embedded.target, timeout=90, transfer_timeout=600) as connected:
        yield connected
