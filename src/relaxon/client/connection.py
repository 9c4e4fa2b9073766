"""The way to a server: `connect` and the client that it gives."""

from __future__ import annotations

import ipaddress
from types import TracebackType
from typing import Literal

import grpc

from relaxon.client import errors
from relaxon.client.attendance import Attendance
from relaxon.client.boosting import BoostingClient
from relaxon.client.equilibrium import EquilibriumClient
from relaxon.client.linear import LinearClient
from relaxon.client.poisson import PoissonClient
from relaxon.client.wire import Wire
from relaxon.solvers import validation

DEFAULT_TARGET = "localhost:50551"
HEALTH_METHOD = "/grpc.health.v1.Health/Check"
Compression = Literal["gzip", "deflate"]
HEALTH_NAMES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")


def connect(
    target: str = DEFAULT_TARGET,
    *,
    timeout: float = 30.0,
    transfer_timeout: float = 3600.0,
    shared_memory: bool = True,
    compression: Compression | None = None,
) -> Client:
    """Connect to a relaxon server.

    Parameters
    ----------
    target : "host:port".
    timeout : seconds for connecting, and for each call that moves no arrays.
    transfer_timeout : seconds for each call that moves arrays (making a grid, solving) and is given no timeout.
    shared_memory : hand large arrays over through this machine's shared memory where the server runs on it too, as
        the same user; everything is sent otherwise, or where False.
    compression : "gzip" or "deflate" to compress what is sent of solves, both ways, message by message. It pays on slow
        networks and for smooth or sparse right-hand sides, and costs time everywhere else.

    Returns
    -------
    Client : connected; close it, or use it in a `with` statement. It may be used by several threads.

    Raises
    ------
    Unavailable : where no server answers in time. InvalidArgument : for a bad argument.

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
    with errors.refusals():
        if not isinstance(target, str) or not target:
            raise TypeError(f"target must be a string like {DEFAULT_TARGET!r}, got {target!r}")
        timeout = validation.positive_float("timeout", timeout)
        transfer_timeout = validation.positive_float("transfer_timeout", transfer_timeout)
        loopback = is_loopback(target)
        wire = Wire(shared_memory and loopback, not loopback, compression)
    client = Client(target, timeout, transfer_timeout, wire)
    try:
        client.wait_until_ready()
    except BaseException:
        client.close()
        raise
    return client


class Client:
    """A connection, from `connect`; `poisson` and `linear` hold the solver calls, `boosting` and `equilibrium` those
    that train."""

    def __init__(self, target: str, timeout: float, transfer_timeout: float, wire: Wire) -> None:
        self.target = target
        self._timeout = timeout
        # A proxy for the outside world is of no use on the way to this machine itself, but gRPC would take it.
        options = [("grpc.enable_http_proxy", 0)] if is_loopback(target) else []
        self._channel = grpc.insecure_channel(target, options)
        self._attendance = Attendance(self._channel, timeout)
        self.poisson = PoissonClient(self._channel, self._attendance, timeout, transfer_timeout, wire)
        self.linear = LinearClient(self._channel, self._attendance, timeout, transfer_timeout, wire)
        self.boosting = BoostingClient(self._channel, timeout, transfer_timeout)
        self.equilibrium = EquilibriumClient(self._channel, timeout, transfer_timeout)

    def wait_until_ready(self) -> None:
        """Return once the server answers; Unavailable after the timeout."""
        try:
            grpc.channel_ready_future(self._channel).result(self._timeout)
        except grpc.FutureTimeoutError:
            raise errors.Unavailable(f"no server answered at {self.target} within {self._timeout:g} s") from None

    def health(self) -> str:
        """What the server says of itself: "SERVING" or "NOT_SERVING" (it is about to stop)."""
        # The two messages of grpc.health.v1 are one field each; the package that has them belongs to the server.
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(HEALTH_METHOD)
        with errors.translated():
            reply = check(b"", timeout=self._timeout)
        status = reply[1] if len(reply) == 2 else 0
        return HEALTH_NAMES[status] if status < len(HEALTH_NAMES) else "UNKNOWN"

    def close(self) -> None:
        """Close the connection; calls that run in other threads end with `Cancelled`, and what the server keeps for
        this client goes soon."""
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


def is_loopback(target: str) -> bool:
    """Whether a target is this machine itself."""
    host = target.rpartition(":")[0].rpartition("/")[2].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
