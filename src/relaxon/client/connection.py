"""The way to a server: `connect` and the client that it gives."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import grpc

from relaxon.client import errors
from relaxon.client.boosting import BoostingClient
from relaxon.client.equilibrium import EquilibriumClient
from relaxon.client.models import ModelsClient
from relaxon.client.poisson import PoissonClient
from relaxon.client.status import ServerStatus, ask
from relaxon.client.transport import IN_CLEAR, Security, channel, is_loopback
from relaxon.solvers import validation

DEFAULT_TARGET = "localhost:50551"
HEALTH_METHOD = "/grpc.health.v1.Health/Check"
HEALTH_NAMES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")


def connect(
    target: str = DEFAULT_TARGET,
    *,
    timeout: float = 30.0,
    transfer_timeout: float = 3600.0,
    shared_memory: bool = True,
    token: str | None = None,
    tls: bool | None = None,
    root_certificates: str | Path | None = None,
    client_certificate: tuple[str | Path, str | Path] | None = None,
) -> Client:
    """Connect to a relaxon server.

    Parameters
    ----------
    target : "host:port".
    timeout : seconds for connecting, and for each call that moves no arrays.
    transfer_timeout : seconds for each call that moves arrays (making a grid, solving) and is given no timeout.
    shared_memory : hand large arrays over through this machine's shared memory where the server runs on it too, as
        the same user; everything is sent otherwise, or where False.
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
    with errors.refusals():
        if not isinstance(target, str) or not target:
            raise TypeError(f"target must be a string like {DEFAULT_TARGET!r}, got {target!r}")
        timeout = validation.positive_float("timeout", timeout)
        transfer_timeout = validation.positive_float("transfer_timeout", transfer_timeout)
        security = Security(token, tls, root_certificates, client_certificate)
        security.check(target)
    client = Client(target, timeout, transfer_timeout, shared_memory, security)
    try:
        client.wait_until_ready()
    except BaseException:
        client.close()
        raise
    return client


class Client:
    """A connection, from `connect`: `poisson` solves, `boosting` and `equilibrium` train, `models` moves files."""

    def __init__(
        self, target: str, timeout: float, transfer_timeout: float, shared_memory: bool, security: Security = IN_CLEAR
    ) -> None:
        self.target = target
        self._timeout = timeout
        loopback = is_loopback(target)
        self._channel = channel(target, security)
        self.poisson = PoissonClient(self._channel, timeout, transfer_timeout, shared_memory and loopback)
        self.boosting = BoostingClient(self._channel, timeout, transfer_timeout)
        self.equilibrium = EquilibriumClient(self._channel, timeout, transfer_timeout)
        self.models = ModelsClient(self._channel, timeout, transfer_timeout)

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

    def status(self) -> ServerStatus:
        """What the server is busy with."""
        return ask(self._channel, self._timeout)

    def close(self) -> None:
        """Close the connection; calls that run in other threads end with `Cancelled`."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.target!r})"
