"""How a server's calls end when it stops: new ones are refused, those that run are waited for, and then cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from relaxon.server.gate import errors

ALWAYS_ANSWERED = frozenset({"/grpc.health.v1.Health/Check"})
"""What says that the server stops is asked of a server that stops."""

STANDING = frozenset(
    {
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    }
)
"""Calls that last for as long as their callers wish, with nothing to finish: nobody waits for them."""

QUIET_SECONDS = 0.05
LONGEST_QUIET_SECONDS = 0.5


class Drain:
    """The calls that run. Used on one event loop.

    gRPC's own stop ends the calls that have arrived and wait for a handler with CANCELLED, as it does those that are
    still running after its grace time, and no client takes that for a server that has gone. Here they are told so.
    """

    def __init__(self) -> None:
        self._methods: dict[asyncio.Task[None], str] = {}
        self._cut: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._latest = 0.0

    @property
    def running(self) -> int:
        """How many calls are handled now."""
        return len(self._methods)

    @contextmanager
    def call(self, method: str) -> Iterator[None]:
        """For the block that handles a call: UNAVAILABLE where it comes too late, or is cut off."""
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
            raise errors.stopped() from None
        finally:
            del self._methods[task]
            self._cut.discard(task)

    async def refuse(self, longest: float = LONGEST_QUIET_SECONDS) -> None:
        """Refuse new calls from here on, and wait until those that were on their way have been told."""
        self._refusing = True
        loop = asyncio.get_running_loop()
        end = loop.time() + longest
        quiet = loop.time() + QUIET_SECONDS
        while (wait := min(quiet, end) - loop.time()) > 0:
            await asyncio.sleep(wait)
            quiet = self._latest + QUIET_SECONDS
        # By now they have been told by other ways what they are there to hear.
        self._end([task for task, method in self._methods.items() if method in STANDING])

    async def finish(self, grace_seconds: float) -> None:
        """Wait for the calls that run, at most for so long, and cut the others off."""
        if self._methods and grace_seconds > 0:
            await asyncio.wait(list(self._methods), timeout=grace_seconds)
        self._end(self._methods)

    def _end(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        for task in tasks:
            self._cut.add(task)
            task.cancel()
