# Generated from relaxon/client/_async/connection.py by tools/generate_client.py: edit that file and run the tool.
"""The connection to a server: `connect` and the client that it returns."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from relaxon.client._sync.attendance import Attendance
from relaxon.client._sync.boosting import BoostingClient
from relaxon.client._sync.caller import RetryingCaller
from relaxon.client._sync.convex import ConvexClient
from relaxon.client._sync.energy import EnergyClient
from relaxon.client._sync.equilibrium import EquilibriumClient
from relaxon.client._sync.jobs import JobsClient
from relaxon.client._sync.linear import LinearClient
from relaxon.client._sync.models import ModelsClient
from relaxon.client._sync.poisson import PoissonClient
from relaxon.client._sync.proximal import ProximalClient
from relaxon.client._sync.remote import ServerLink
from relaxon.client.shared.blocking_runtime import open_channel, open_now, wait_until_ready
from relaxon.client.shared.retries import DEFAULT_RETRIES, Retries, Timeouts
from relaxon.client.shared.status import ServerStatus, parse_status
from relaxon.client.shared.target import (
    DEFAULT_TARGET,
    HEALTH_METHOD,
    choose_wire,
    no_answer,
    parse_health,
    validate_connection,
)
from relaxon.client.shared.transport import IN_CLEAR, Security
from relaxon.proto import status_pb2, status_pb2_grpc
from relaxon.wire.arrays import Compression, Wire
from relaxon.wire.ownership import NotPickled, guard_channel


def connect(
    target: str = DEFAULT_TARGET,
    *,
    timeout: float = 30.0,
    transfer_timeout: float = 3600.0,
    shared_memory: bool = True,
    compression: Compression | None = None,
    retries: Retries = DEFAULT_RETRIES,
    token: str | None = None,
    tls: bool | None = None,
    root_certificates: str | Path | None = None,
    client_certificate: tuple[str | Path, str | Path] | None = None,
) -> Client:
    """Connect to a relaxon server.

    Parameters
    ----------
    target : "host:port", or a target that begins with one of gRPC's own schemes (dns:, unix:, ipv4:, ipv6:, xds:).
    timeout : seconds for connecting, and for each call that moves no arrays.
    transfer_timeout : seconds for each call that moves arrays (making a grid, solving) and is given no timeout.
    shared_memory : pass large arrays through shared memory where the server runs on this machine, as the same user;
        otherwise, or where False, everything is sent.
    compression : "gzip" or "deflate" compresses the messages of solves in both directions, one by one. It pays on slow
        networks and for smooth or sparse right-hand sides, and costs time everywhere else.
    retries : how failed calls are repeated, where that is safe; `Retries(attempts=1)` repeats nothing.
    token : as printed by `relaxon token add`, for a server that asks for one. It is never sent unencrypted to another
        machine.
    tls : use TLS; None uses it where certificates are given.
    root_certificates : PEM file of the authorities that may vouch for the server; None for those that come with gRPC.
    client_certificate : PEM files of this side's certificate and its key, for a server that asks for one.

    Returns
    -------
    Client : connected. Close it, or use it in a `with` statement.
        It may be used by several threads.

    Raises
    ------
    Unavailable : no server answered in time. InvalidArgument : for a bad argument, which it names. OSError : a
    certificate's file cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> import relaxon
    >>> from relaxon.server.app import EmbeddedServer
    >>> def solve(target):
    ...     with relaxon.connect(target) as client:
    ...         with client.poisson.grid(np.zeros((16, 16), np.uint8), boundary="dirichlet") as grid:
    ...             return grid.solve(np.ones(grid.shape), solver="cg")
    >>> with EmbeddedServer() as server:
    ...     solve(server.target).result
    <Result.CONVERGED: 'converged'>
    """
    wire = choose_wire(target, shared_memory, compression)
    timeouts, security = validate_connection(
        target, timeout, transfer_timeout, retries, token, tls, root_certificates, client_certificate
    )
    return open_now(partial(_connect, target, timeouts, wire, security))


def _connect(target: str, timeouts: Timeouts, wire: Wire, security: Security) -> Client:
    client = Client(target, timeouts, wire, security)
    try:
        client.wait_until_ready()
    except BaseException:
        client.close()
        raise
    return client


class Client(NotPickled):
    """A connection, from `connect`, and the services of the server.

    `poisson` and `linear` solve; `boosting`, `convex`, `equilibrium`, `energy` and `proximal` train. `jobs` are the
    training jobs of all kinds, and `models` moves stored models as files.
    """

    def __init__(self, target: str, timeouts: Timeouts, wire: Wire, security: Security = IN_CLEAR) -> None:
        self.target = target
        self._caller = caller = RetryingCaller(timeouts, security.metadata)
        self._channel = open_channel(target, security)
        self._guarded = channel = guard_channel(self._channel, caller.owner)
        self._attendance = Attendance(channel, caller)
        link = ServerLink(channel, caller, self._attendance, target, wire)
        self.poisson = PoissonClient(link)
        self.linear = LinearClient(link)
        self.boosting = BoostingClient(channel, caller)
        self.convex = ConvexClient(channel, caller)
        self.equilibrium = EquilibriumClient(channel, caller)
        self.energy = EnergyClient(channel, caller)
        self.proximal = ProximalClient(channel, caller)
        self.models = ModelsClient(channel, caller)
        training = (self.boosting, self.convex, self.equilibrium, self.energy, self.proximal)
        self.jobs = JobsClient(channel, caller, {one._engine.kind: one for one in training})

    def wait_until_ready(self) -> None:
        """Return once the server answers; Unavailable after the timeout."""
        self._caller.owner.check()
        try:
            wait_until_ready(self._channel, self._caller.timeout)
        except TimeoutError:
            raise no_answer(self.target, self._caller.timeout) from None

    def health(self) -> str:
        """Return the server's health: "SERVING", or "NOT_SERVING" where it is about to stop."""
        check: Any = self._guarded.unary_unary(HEALTH_METHOD)
        # Not repeated: no answer is an answer, too.
        reply: bytes = self._caller.make(check, b"", idempotent=True, repeated=False)
        return parse_health(reply)

    def status(self) -> ServerStatus:
        """Return what the server is busy with, and how much of its limits is in use."""
        stub = status_pb2_grpc.StatusServiceStub(self._guarded)
        return parse_status(self._caller.make(stub.GetStatus, status_pb2.GetStatusRequest(), idempotent=True))

    def close(self) -> None:
        """Close the connection, and soon free what the server keeps for this client.

        Calls in other threads end with `Cancelled`. In a forked child nothing happens: the connection is its parent's.
        """
        if self._caller.owner.ended:
            return
        self._caller.owner.close()
        self._attendance.close()
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.target!r})"
