"""The way to a server: `connect` and the client that it gives."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import grpc

from relaxon.client._sync.attendance import Attendance
from relaxon.client._sync.boosting import BoostingClient
from relaxon.client._sync.caller import Caller, Timeouts
from relaxon.client._sync.convex import ConvexClient
from relaxon.client._sync.energy import EnergyClient
from relaxon.client._sync.equilibrium import EquilibriumClient
from relaxon.client._sync.jobs import JobsClient
from relaxon.client._sync.linear import LinearClient
from relaxon.client._sync.models import ModelsClient
from relaxon.client._sync.poisson import PoissonClient
from relaxon.client._sync.proximal import ProximalClient
from relaxon.client.shared.retries import DEFAULT_RETRIES, Retries
from relaxon.client.shared.status import ServerStatus, told
from relaxon.client.shared.target import DEFAULT_TARGET, HEALTH_METHOD, checked, health_of, unanswered, wire_to
from relaxon.client.shared.transport import IN_CLEAR, Security, channel
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
) -> Client:
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
    Client : connected; close it, or use it in a `with` statement. It may be used by several threads.

    Raises
    ------
    Unavailable : where no server answers in time. InvalidArgument : for a bad argument. OSError : where a
        certificate's file cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> import relaxon
    >>> from relaxon.server.app import EmbeddedServer
    >>> cells = np.zeros((16, 16, 16), np.uint8)
    >>> with EmbeddedServer() as server, relaxon.connect(server.target) as client:
    ...     with client.poisson.grid(cells, boundary="dirichlet") as grid:
    ...         grid.solve(np.ones(grid.shape), solver="cg").result
    <Result.CONVERGED: 'converged'>
    """
    wire = wire_to(target, shared_memory, compression)
    timeouts, security = checked(
        target, timeout, transfer_timeout, retries, token, tls, root_certificates, client_certificate
    )
    client = Client(target, timeouts, wire, security)
    try:
        client.wait_until_ready()
    except BaseException:
        client.close()
        raise
    return client


class Client(NotPickled):
    """A connection, from `connect`, with the server's parts: `poisson` and `linear` solve, `boosting`, `convex`,
    `equilibrium`, `energy` and `proximal` train.

    `jobs` are the training jobs of all kinds; `models` moves files.
    """

    def __init__(self, target: str, timeouts: Timeouts, wire: Wire, security: Security = IN_CLEAR) -> None:
        self.target = target
        self._caller = caller = Caller(timeouts.timeout, timeouts.transfer_timeout, timeouts.retries)
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

    def wait_until_ready(self) -> None:
        """Return once the server answers; Unavailable after the timeout."""
        self._caller.owner.check()
        try:
            grpc.channel_ready_future(self._channel).result(self._caller.timeout)
        except grpc.FutureTimeoutError:
            raise unanswered(self.target, self._caller.timeout) from None

    def health(self) -> str:
        """What the server says of itself: "SERVING" or "NOT_SERVING" (it is about to stop)."""
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._link.unary_unary(HEALTH_METHOD)
        # Not repeated: that a server does not answer is an answer here.
        return health_of(self._caller.make(check, b"", idempotent=True, repeated=False))

    def status(self) -> ServerStatus:
        """What the server is busy with."""
        stub = status_pb2_grpc.StatusServiceStub(self._link)
        return told(self._caller.make(stub.GetStatus, status_pb2.GetStatusRequest(), idempotent=True))

    def close(self) -> None:
        """Close the connection; calls that run in other threads end with `Cancelled`, and what the server keeps
        for this client goes soon. A forked child's copy is left as it is: the connection is its parent's."""
        if self._caller.owner.ended:
            return
        self._caller.owner.close()
        self._attendance.close()
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.target!r})"
