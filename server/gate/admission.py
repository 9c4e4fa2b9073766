"""A limit on the calls whose work is pending: some calls are refused at the limit, others wait for their turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from relaxon.server.gate import errors

RETRY_SECONDS = 1.0
"""What a refused caller is told to wait; the work of a call is rarely shorter."""


class AdmissionLimit:
    """Admits at most `limit` calls at a time. Used from the event loop's thread only."""

    def __init__(self, limit: int, subject: str) -> None:
        """`subject` names the limit in the refusals."""
        self._limit = limit
        self._subject = subject
        self._queue: deque[asyncio.Future[None]] = deque()
        self.taken = 0
        """Calls that are admitted now."""

    def take(self) -> None:
        """Admit a call at once; RESOURCE_EXHAUSTED at the limit, or if others wait."""
        if self.taken >= self._limit or self._queue:
            raise errors.exhausted(
                self._subject,
                f"{self._subject}: {self.taken} are pending, which is this server's limit",
                RETRY_SECONDS,
            )
        self.taken += 1

    @property
    def wanted(self) -> bool:
        """Whether a call waits to be admitted."""
        return bool(self._queue)

    def keep(self) -> None:
        """Count work that goes on for a moment after its call, which was admitted, has ended."""
        self.taken += 1

    def release(self) -> None:
        """Hand a call's place to the one that has waited longest, or free it."""
        while self._queue:
            waiting = self._queue.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return
        self.taken -= 1

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Admit a call, as `take` does, for the block."""
        self.take()
        try:
            yield
        finally:
            self.release()

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Wait until a call can be admitted, and admit it for the block."""
        if self.taken < self._limit and not self._queue:
            self.taken += 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.release()
                raise
        try:
            yield
        finally:
            self.release()
