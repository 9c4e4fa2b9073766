"""Solvers whose course a test decides, and servers that know them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
from boosting_calls import Stubs, stubs_of

import relaxon
from relaxon.client import Client, Retries
from relaxon.core.solution import Result
from relaxon.proto.poisson_pb2_grpc import PoissonServiceStub
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings
from relaxon.solvers.interface import registry
from relaxon.solvers.interface.engine import Prepared, Solver


class Damped(Solver):
    """Damped Jacobi: slow and sure. With a `gate` that is not set, each iteration takes 5 ms more."""

    name = "damped"
    summary = "for tests"

    def __init__(self) -> None:
        self.gate: threading.Event | None = None
        self.iterations = 0
        self.prepared = 0
        self.started = threading.Event()
        self.finished = threading.Event()

    def prepare(self, operator):
        self.prepared += 1
        return _PreparedDamped(self, operator)


class _PreparedDamped(Prepared):
    default_max_iterations = 20_000

    def __init__(self, solver, operator):
        self.solver, self.operator, self.info = solver, operator, {"levels": 1.0}

    def run(self, b, x, monitor, max_iterations):
        solver, operator = self.solver, self.operator
        scale = np.where(operator.diagonal > 0, 0.9 / np.where(operator.diagonal > 0, operator.diagonal, 1.0), 0.0)
        r = b - operator.apply(x, np.empty_like(x))
        solver.finished.clear()
        try:
            verdict = monitor.record(np.linalg.norm(r))
            solver.started.set()
            while verdict is None and monitor.iterations < max_iterations:
                if solver.gate is not None:
                    solver.gate.wait(0.005)
                x += scale * r
                np.subtract(b, operator.apply(x, r), out=r)
                solver.iterations += 1
                verdict = monitor.record(np.linalg.norm(r))
            return verdict or Result.MAX_ITERATIONS
        finally:
            solver.finished.set()


class _Entry:
    def __init__(self, make: Callable[[], Solver]) -> None:
        self.make = make


class Broken(Solver):
    """Fails in its run as a solver with a bug would, or in its set-up as one without its packages would."""

    name = "broken"
    summary = "for tests"

    def __init__(self, error: Exception, in_setup: bool = False) -> None:
        self.error, self.in_setup = error, in_setup

    def prepare(self, operator):
        if self.in_setup:
            raise self.error
        return _PreparedBroken(self.error)


class _PreparedBroken(Prepared):
    info: dict[str, float]

    def __init__(self, error):
        self.error, self.info = error, {}

    def run(self, b, x, monitor, max_iterations):
        raise self.error


@pytest.fixture
def damped(monkeypatch) -> Damped:
    """A fresh `Damped`, known to servers as "damped"."""
    solver = Damped()
    monkeypatch.setitem(registry._BY_NAME, "damped", _Entry(lambda: solver))
    return solver


@pytest.fixture
def endless(damped) -> Iterator[Damped]:
    """`damped` as a solver that takes its time: it will not finish within a test unless it is told to stop."""
    damped.gate = threading.Event()
    yield damped
    damped.gate.set()


@pytest.fixture
def broken(monkeypatch) -> Callable[..., None]:
    """Registers "broken", which fails with the given error."""

    def register(error: Exception, in_setup: bool = False) -> None:
        monkeypatch.setitem(registry._BY_NAME, "broken", _Entry(lambda: Broken(error, in_setup)))

    return register


@pytest.fixture
def serving() -> Iterator[Callable[..., EmbeddedServer]]:
    """Starts servers with the given settings on free ports; they are stopped at the end."""
    servers: list[EmbeddedServer] = []

    def start(**settings) -> EmbeddedServer:
        settings.setdefault("grace_seconds", 0.0)
        servers.append(EmbeddedServer(ServerSettings(**{"port": 0, "compile": "", **settings})).__enter__())
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture
def stub(server) -> Iterator[PoissonServiceStub]:
    """The generated stub, which checks nothing."""
    with grpc.insecure_channel(server.target) as channel:
        yield PoissonServiceStub(channel)


@pytest.fixture
def server(serving) -> EmbeddedServer:
    return serving()


@pytest.fixture
def client(server) -> Iterator[Client]:
    with relaxon.connect(server.target, timeout=60, transfer_timeout=60, retries=Retries(attempts=1)) as connected:
        yield connected


@pytest.fixture
def training(serving) -> Iterator[Callable[..., Stubs]]:
    """Starts servers with the given settings; gives the stubs for each."""
    channels: list[grpc.Channel] = []

    def start(**settings) -> Stubs:
        channels.append(grpc.insecure_channel(serving(**settings).target))
        return stubs_of(channels[-1])

    yield start
    for channel in channels:
        channel.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Stubs]:
    """One server for tests that leave nothing behind which another minds."""
    with (
        EmbeddedServer(ServerSettings(port=0, grace_seconds=0.0, compile="")) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        yield stubs_of(channel)
