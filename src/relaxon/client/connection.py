"""The way to a server: `connect` and the client that it gives."""

from __future__ import annotations

from types import TracebackType

import grpc

from relaxon.client.boosting import BoostingClient
from relaxon.client.caller import Caller, Timeouts
from relaxon.client.equilibrium import EquilibriumClient
from relaxon.client.jobs import JobsClient
from relaxon.client.poisson import PoissonClient
from relaxon.client.retries import DEFAULT_RETRIES, Retries
from relaxon.client.target import DEFAULT_TARGET, HEALTH_METHOD, checked, health_of, is_loopback, options, unanswered


def connect(
    target: str = DEFAULT_TARGET,
    *,
    timeout: float = 30.0,
    transfer_timeout: float = 3600.0,
    shared_memory: bool = True,
    retries: Retries = DEFAULT_RETRIES,
) -> Client:
    """Connect to a relaxon server.

    Parameters
    ----------
    target : "host:port".
    timeout : seconds for connecting, and for each call that moves no arrays.
    transfer_timeout : seconds for each call that moves arrays (making a grid, solving) and is given no timeout.
    shared_memory : hand large arrays over through this machine's shared memory where the server runs on it too, as
        the same user; everything is sent otherwise, or where False.
    retries : how failed calls are made again, where that is safe; `Retries(attempts=1)` for not at all.

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
    timeouts = checked(target, timeout, transfer_timeout, retries)
    client = Client(target, timeouts, shared_memory)
    try:
        client.wait_until_ready()
    except BaseException:
        client.close()
        raise
    return client


class Client:
    """A connection, from `connect`; `poisson` holds the solver calls, `boosting` and `equilibrium` those that train.

    `jobs` are the training jobs of all kinds.
    """

    def __init__(self, target: str, timeouts: Timeouts, shared_memory: bool) -> None:
        self.target = target
        self._caller = caller = Caller(timeouts.timeout, timeouts.transfer_timeout, timeouts.retries)
        self._channel = channel = grpc.insecure_channel(target, options(target))
        self.poisson = PoissonClient(channel, caller, target, shared_memory and is_loopback(target))
        self.boosting = BoostingClient(channel, caller)
        self.equilibrium = EquilibriumClient(channel, caller)
        self.jobs = JobsClient(channel, caller, {"boosting": self.boosting, "equilibrium": self.equilibrium})

    def wait_until_ready(self) -> None:
        """Return once the server answers; Unavailable after the timeout."""
        try:
            grpc.channel_ready_future(self._channel).result(self._caller.timeout)
        except grpc.FutureTimeoutError:
            raise unanswered(self.target, self._caller.timeout) from None

    def health(self) -> str:
        """What the server says of itself: "SERVING" or "NOT_SERVING" (it is about to stop)."""
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(HEALTH_METHOD)
        # Not repeated: that a server does not answer is an answer here.
        return health_of(self._caller.make(check, b"", idempotent=True, repeated=False))

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
