"""Who may use an asyncio client: the event loop that connected it, in its process, until it is closed."""

from __future__ import annotations

import asyncio

from relaxon.core import errors
from relaxon.wire import ownership

OTHER_LOOP = (
    "an asyncio client belongs to the event loop that connected it, and this is another one (a second asyncio.run, or "
    "another thread's): connect in each event loop"
)


class Owner(ownership.Owner):
    """The event loop that connected a client, and whether it has closed it."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = _running()

    def check(self) -> None:
        """Raise FailedPrecondition in any other process or event loop, Cancelled after `close`."""
        super().check()
        if self._elsewhere:
            raise errors.FailedPrecondition(OTHER_LOOP)

    def close(self) -> None:
        """Refuse all calls from now on; FailedPrecondition in another event loop while that of the client is there."""
        if self._elsewhere and self._loop is not None and not self._loop.is_closed():
            raise errors.FailedPrecondition(OTHER_LOOP)
        super().close()

    @property
    def _elsewhere(self) -> bool:
        running = _running()
        return self._loop is not None and running is not None and running is not self._loop


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
