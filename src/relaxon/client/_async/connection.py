"""The way to a server for asyncio: `connect` and the client that it gives."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from types import TracebackType

import grpc.aio

from relaxon.client._async.attendance import Attendance
from relaxon.client._async.boosting import BoostingClient
from relaxon.client._async.caller import Caller
from relaxon.client._async.convex import ConvexClient
from relaxon.client._async.energy import EnergyClient
from relaxon.client._async.equilibrium import EquilibriumClient
from relaxon.client._async.jobs import JobsClient
from relaxon.client._async.linear import LinearClient
from relaxon.client._async.models import ModelsClient
from relaxon.client._async.opening import Opening
from relaxon.client._async.poisson import PoissonClient
from relaxon.client._async.proximal import ProximalClient
from relaxon.client._sync.caller import Timeouts
from relaxon.client.shared.retries import DEFAULT_RETRIES, Retries
from relaxon.client.shared.status import ServerStatus, told
from relaxon.client.shared.target import DEFAULT_TARGET, HEALTH_METHOD, checked, health_of, unanswered, wire_to
from relaxon.client.shared.transport import IN_CLEAR, Security, options
from relaxon.proto import status_pb2, status_pb2_grpc
from relaxon.wire.arrays import Compression, Wire
from relaxon.wire.ownership import NotPickled, guarded


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
) -> Opening[Client]:
    """Connect to a relaxon server.

    Parameters
    ----------
    target : "host:port", or what begins with one of gRPC's own schemes (dns:, unix:, ipv4:, ipv6:, xds:).
    timeout : seconds for connecting, and for each call that moves no arrays.
    transfer_timeout : seconds for each call that moves arrays (making a grid, solving) and is given no timeout.
    shared_memory : hand large arrays over through this machine's shared memory where the server runs on it too, as
        the same user; everything is sent otherwise, or where False.
    compression : "gzip" or "deflate" to compress what is sent of solves, both ways, message by message. It pays on slow
        networks and for smooth or sparse right-hand sides, and costs time everywhere else.
    retries : how failed calls are made again, where that is safe; `Retries(attempts=1)` for not at all.
    token : as `relaxon token add` printed it, for a server that asks for one. It is never sent in clear to another
        machine.
    tls : speak TLS; where None, if certificates are given.
    root_certificates : PEM file of the authorities that may vouch for the server; those that gRPC brings where None.
    client_certificate : PEM files of this side's certificate and its key, for a server that asks for one.

    Returns
    -------
    Client : connected, once this is awaited; close it, or use this in an `async with` statement. It may be used by
        several tasks of the event loop that connected it.

    Raises
    ------
    Unavailable : where no server answers in time. InvalidArgument : for a bad argument. OSError : where a
        certificate's file cannot be read.

    Examples
    --------
    >>> import asyncio
    >>> import numpy as np
    >>> import relaxon.aio
    >>> from relaxon.server.app import EmbeddedServer
    >>> async def solved(target):
    ...     async with relaxon.aio.connect(target) as client:
    ...         async with client.poisson.grid(np.zeros((16, 16), np.uint8), boundary="dirichlet") as grid:
    ...             return await grid.solve(np.ones(grid.shape), solver="cg")
    >>> with EmbeddedServer() as server:
    ...     asyncio.run(solved(server.target)).result
    <Result.CONVERGED: 'converged'>
    """
    wire = wire_to(target, shared_memory, compression)
    timeouts, security = checked(
        target, timeout, transfer_timeout, retries, token, tls, root_certificates, client_certificate
    )
    return Opening(partial(_connected, target, timeouts, wire, security))


async def _connected(target: str, timeouts: Timeouts, wire: Wire, security: Security) -> Client:
    client = Client(target, timeouts, wire, security)
    try:
        await client.wait_until_ready()
    except BaseException:
        await client.close()
        raise
    return client


class Client(NotPickled):
    """A connection, from `connect`, with the server's parts: `poisson` and `linear` solve, `boosting`, `convex`,
    `equilibrium`, `energy` and `proximal` train.

    `jobs` are the training jobs of all kinds; `models` moves files.
    """

    def __init__(self, target: str, timeouts: Timeouts, wire: Wire, security: Security = IN_CLEAR) -> None:
        self.target = target
        self._caller = caller = Caller(timeouts.timeout, timeouts.transfer_timeout, timeouts.retries, security.metadata)
        self._channel = channel(target, security)
        self._link = link = guarded(self._channel, caller.owner)
        self._attendance = Attendance(link, caller)
        self.poisson = PoissonClient(link, self._attendance, caller, target, wire)
        self.linear = LinearClient(link, self._attendance, caller, target, wire)
        self.boosting = BoostingClient(link, caller)
        self.convex = ConvexClient(link, caller)
        self.equilibrium = EquilibriumClient(link, caller)
        self.energy = EnergyClient(link, caller)
        self.proximal = ProximalClient(link, caller)
        self.models = ModelsClient(link, caller)
        self.jobs = JobsClient(
            link,
            caller,
            {
                "boosting": self.boosting,
                "convex": self.convex,
                "equilibrium": self.equilibrium,
                "energy": self.energy,
                "proximal": self.proximal,
            },
        )

    async def wait_until_ready(self) -> None:
        """Return once the server answers; Unavailable after the timeout."""
        self._caller.owner.check()
        try:
            await asyncio.wait_for(self._channel.channel_ready(), self._caller.timeout)
        except TimeoutError:
            raise unanswered(self.target, self._caller.timeout) from None

    async def health(self) -> str:
        """What the server says of itself: "SERVING" or "NOT_SERVING" (it is about to stop)."""
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._link.unary_unary(HEALTH_METHOD)
        # Not repeated: that a server does not answer is an answer here.
        return health_of(await self._caller.make(check, b"", idempotent=True, repeated=False))

    async def status(self) -> ServerStatus:
        """What the server is busy with."""
        stub = status_pb2_grpc.StatusServiceStub(self._link)
        return told(await self._caller.make(stub.GetStatus, status_pb2.GetStatusRequest(), idempotent=True))

    async def close(self) -> None:
        """Close the connection; calls that run in other tasks end with `Cancelled`, and what the server keeps
        for this client goes soon. A forked child's copy is left as it is: the connection is its parent's."""
        if self._caller.owner.ended:
            return
        self._caller.owner.close()
        self._attendance.close()
        await self._channel.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Client({self.target!r})"


def channel(target: str, security: Security = IN_CLEAR) -> grpc.aio.Channel:
    """A channel to `target`, over TLS where `security` has it so; the token goes with each call. OSError as there."""
    if security.encrypted:
        return grpc.aio.secure_channel(target, security.channel_credentials(), options(target))
    return grpc.aio.insecure_channel(target, options(target))
