"""Places for work that is pending: some are refused one where none is free, others wait for it in their turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from relaxon.server.gate import errors

RETRY_SECONDS = 1.0


class Places:
    """At most so many at a time. Used from the event loop's thread only."""

    def __init__(self, limit: int, subject: str) -> None:
        self._limit = limit
        self._subject = subject
        self._queue: deque[asyncio.Future[None]] = deque()
        self.taken = 0

    def take(self) -> None:
        """One for a call, at once; RESOURCE_EXHAUSTED where none is free or others wait for one."""
        if self.taken >= self._limit or self._queue:
            raise errors.exhausted(
                self._subject,
                f"{self._subject}: {self.taken} are pending, which is this server's limit",
                RETRY_SECONDS,
            )
        self.taken += 1

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for one."""
        return bool(self._queue)

    def keep(self) -> None:
        """One more for work that goes on for a moment after its call, which had one, has ended."""
        self.taken += 1

    def release(self) -> None:
        """Give one back: to whom waits longest, if any."""
        while self._queue:
            waiting = self._queue.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return
        self.taken -= 1

    @contextmanager
    def taking(self) -> Iterator[None]:
        """`take`, for a block."""
        self.take()
        try:
            yield
        finally:
            self.release()

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """One for a block, as soon as one is free."""
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
