"""Draining: when a server stops it refuses new calls, waits for running ones, and then ends those that are left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import grpc

from relaxon.server.gate import errors

ALWAYS_ANSWERED = frozenset({"/grpc.health.v1.Health/Check"})
"""The health check must be answered while the server stops: it is what says so."""

STANDING = frozenset(
    {
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    }
)
"""Calls that last as long as their callers like, with nothing to finish: draining does not wait for them."""

QUIET_SECONDS = 0.05
"""How long no call may have arrived before the server takes it that all callers know that it stops."""
LONGEST_QUIET_SECONDS = 0.5
"""The longest wait for that."""


class Drain:
    """The running calls. Used on one event loop.

    gRPC's own stop ends calls that wait for a handler, and those that run beyond its grace period, with CANCELLED,
    which no client takes for a server that is gone. Here they end with UNAVAILABLE.
    """

    def __init__(self) -> None:
        self._methods: dict[asyncio.Task[None], str] = {}
        self._cut: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._latest = 0.0

    @property
    def running(self) -> int:
        """The number of calls that are being handled."""
        return len(self._methods)

    @contextmanager
    def call(self, method: str) -> Iterator[None]:
        """Count a call while the block handles it; UNAVAILABLE if it arrives too late, or is ended early."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._latest = loop.time()
        if self._refusing and method not in ALWAYS_ANSWERED:
            raise errors.stopping()
        self._methods[task] = method
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._cut:
                raise
            task.uncancel()
            message = "the server has stopped before the call was done"
            raise errors.ServiceError(grpc.StatusCode.UNAVAILABLE, message) from None
        finally:
            del self._methods[task]
            self._cut.discard(task)

    async def refuse(self, longest: float = LONGEST_QUIET_SECONDS) -> None:
        """Refuse new calls from now on, and wait until those that were in flight have been refused."""
        self._refusing = True
        loop = asyncio.get_running_loop()
        end = loop.time() + longest
        quiet = loop.time() + QUIET_SECONDS
        while (wait := min(quiet, end) - loop.time()) > 0:
            await asyncio.sleep(wait)
            quiet = self._latest + QUIET_SECONDS
        # Their callers have learnt by other ways that the server stops.
        self._end([task for task, method in self._methods.items() if method in STANDING])

    async def finish(self, grace_seconds: float) -> None:
        """Wait for the running calls for at most `grace_seconds`, and end those that are left."""
        if self._methods and grace_seconds > 0:
            await asyncio.wait(list(self._methods), timeout=grace_seconds)
        self._end(self._methods)

    def _end(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        for task in tasks:
            self._cut.add(task)
            task.cancel()
