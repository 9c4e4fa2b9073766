"""The callers that are present: each keeps a call open, and its sessions are dropped some time after that has ended."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from relaxon.server.gate import errors


class AttendanceList:
    """The callers that are present, and those whose lease has not run out yet. Used on one event loop."""

    def __init__(self, limit: int, lease_seconds: float, on_gone: Callable[[str], None]) -> None:
        """`on_gone` is called with the id of each caller that has not come back within its lease."""
        self._limit = limit
        self._on_gone = on_gone
        self._calls: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.lease_seconds = lease_seconds

    def __len__(self) -> int:
        return len(self._calls)

    @contextmanager
    def attending(self, wanted: str) -> Iterator[str]:
        """Return the id of a caller that is present while the block runs; NOT_FOUND if the wanted one is gone."""
        if wanted and wanted not in self._calls:
            raise errors.not_found("relaxon.v1.Attendance", wanted, "never made, or its lease has run out", "id")
        if not wanted and len(self._calls) >= self._limit:
            raise errors.exhausted("attendances", f"attendances: {self._limit} are open, which is the limit", 1.0)
        name = wanted or secrets.token_urlsafe(16)
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        self._calls[name] = self._calls.get(name, 0) + 1
        try:
            yield name
        finally:
            self._calls[name] -= 1
            if self._calls[name] == 0:
                loop = asyncio.get_running_loop()
                self._timers[name] = loop.call_later(self.lease_seconds, self._gone, name)

    def check(self, name: str) -> None:
        """Raise NOT_FOUND if no caller of that id is present; an empty id is accepted."""
        if name and name not in self._calls:
            raise errors.not_found("relaxon.v1.Attendance", name, "never made, or its lease has run out", "attendance")

    def close(self) -> None:
        """Cancel all timers, at the end of the server."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _gone(self, name: str) -> None:
        del self._timers[name]
        del self._calls[name]
        self._on_gone(name)
