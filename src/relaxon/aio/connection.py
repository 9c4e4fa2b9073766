"""The way to a server for asyncio: `connect` and the client that it gives."""

from __future__ import annotations

import asyncio
from functools import partial
from types import TracebackType

import grpc.aio

from relaxon.aio.boosting import BoostingClient
from relaxon.aio.caller import Caller
from relaxon.aio.equilibrium import EquilibriumClient
from relaxon.aio.jobs import JobsClient
from relaxon.aio.opening import Opening
from relaxon.aio.poisson import PoissonClient
from relaxon.client.caller import Timeouts
from relaxon.client.retries import DEFAULT_RETRIES, Retries
from relaxon.client.target import DEFAULT_TARGET, HEALTH_METHOD, checked, health_of, is_loopback, options, unanswered


def connect(
    target: str = DEFAULT_TARGET,
    *,
    timeout: float = 30.0,
    transfer_timeout: float = 3600.0,
    shared_memory: bool = True,
    retries: Retries = DEFAULT_RETRIES,
) -> Opening[Client]:
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
    Client : connected, once this is awaited; close it, or use this in an `async with` statement. It may be used by
        several tasks of the event loop that connected it.

    Raises
    ------
    Unavailable : where no server answers in time. InvalidArgument : for a bad argument.

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
    return Opening(partial(_connected, checked(target, timeout, transfer_timeout, retries), target, shared_memory))


async def _connected(timeouts: Timeouts, target: str, shared_memory: bool) -> Client:
    client = Client(target, timeouts, shared_memory)
    try:
        await client.wait_until_ready()
    except BaseException:
        await client.close()
        raise
    return client


class Client:
    """A connection, from `connect`; `poisson` holds the solver calls, `boosting` and `equilibrium` those that train.

    `jobs` are the training jobs of all kinds.
    """

    def __init__(self, target: str, timeouts: Timeouts, shared_memory: bool) -> None:
        self.target = target
        self._caller = caller = Caller(timeouts.timeout, timeouts.transfer_timeout, timeouts.retries)
        self._channel = channel = grpc.aio.insecure_channel(target, options(target))
        self.poisson = PoissonClient(channel, caller, target, shared_memory and is_loopback(target))
        self.boosting = BoostingClient(channel, caller)
        self.equilibrium = EquilibriumClient(channel, caller)
        self.jobs = JobsClient(channel, caller, {"boosting": self.boosting, "equilibrium": self.equilibrium})

    async def wait_until_ready(self) -> None:
        """Return once the server answers; Unavailable after the timeout."""
        try:
            await asyncio.wait_for(self._channel.channel_ready(), self._caller.timeout)
        except TimeoutError:
            raise unanswered(self.target, self._caller.timeout) from None

    async def health(self) -> str:
        """What the server says of itself: "SERVING" or "NOT_SERVING" (it is about to stop)."""
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(HEALTH_METHOD)
        # Not repeated: that a server does not answer is an answer here.
        return health_of(await self._caller.make(check, b"", idempotent=True, repeated=False))

    async def close(self) -> None:
        """Close the connection; calls that run in other tasks end with `Cancelled`."""
        await self._channel.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Client({self.target!r})"
