"""Compilation of solvers in the background: at the server's start, and when a solve needs one that is not compiled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import CancelledError, Future

from relaxon.core.compile_progress import CompileProgress, watch_compiling
from relaxon.server.gate import errors
from relaxon.solvers.precompile import compiling

POLL_SECONDS = 0.1
"""Seconds between two looks of a waiting call at its deadline."""
MARGIN_SECONDS = 0.3
"""Seconds that a call needs before its deadline to report that it would pass."""
SHORTEST_RETRY_SECONDS = 1.0
"""What a caller is told to wait at least."""
Report = Callable[[CompileProgress], Awaitable[None]]


class BackgroundCompiler:
    """A thread that has other processes compile one kind of solve after the other; used on the event loop."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[str, Future[None]] = {}
        self._order: list[str] = []
        self._thread: threading.Thread | None = None
        self._closed = False
        self.progress: CompileProgress | None = None
        """The progress of the kind that is being compiled, once it is known."""

    @property
    def waiting(self) -> tuple[str, ...]:
        """The kinds that wait to be compiled, in their order."""
        with self._changed:
            return tuple(self._order)

    def begin(self, kinds: Iterable[str]) -> None:
        """Queue kinds to be compiled, behind those that wait."""
        for kind in kinds:
            self._submit(kind, first=False)

    async def compiled(self, kind: str | None) -> None:
        """Queue a kind behind those that wait, and return once it is compiled."""
        if not compiling.is_ready(kind) and kind is not None:
            await asyncio.wait((asyncio.wrap_future(self._submit(kind, first=False)),))

    async def ready(self, kind: str | None, deadline: Callable[[], float], report: Report | None) -> None:
        """Return once a kind is compiled, ahead of those that wait; at once if it is.

        Parameters
        ----------
        kind : from `relaxon.solvers.precompile.compiling.kind_of`.
        deadline : returns the seconds that the call has left.
        report : awaited with the progress whenever there is some.

        Raises
        ------
        ServiceError : UNAVAILABLE with the seconds to wait, if the deadline would pass before; compilation continues.
        """
        if kind is None or compiling.is_ready(kind):
            return
        done = asyncio.wrap_future(self._submit(kind, first=True))
        reported: CompileProgress | None = None
        while not done.done():
            progress, left = self.progress, deadline()
            wanted = MARGIN_SECONDS if progress is None else progress.seconds_left
            if left < max(wanted, MARGIN_SECONDS):
                raise errors.not_compiled(max(wanted, SHORTEST_RETRY_SECONDS))
            if report is not None and progress is not None and progress is not reported:
                reported = progress
                await report(progress)
            await asyncio.wait((done,), timeout=POLL_SECONDS)

    def close(self) -> None:
        """Stop compiling, unfinished, and wait for the thread to end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            while self._thread.is_alive():
                compiling.stop_compiling()
                self._thread.join(POLL_SECONDS)

    def _submit(self, kind: str, first: bool) -> Future[None]:
        with self._changed:
            if kind not in self._waiting:
                self._waiting[kind] = Future()
                # Not ahead of what is being compiled.
                self._order.insert(1 if first and self._order else len(self._order), kind)
                self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="relaxon-compiler", daemon=True)
                self._thread.start()
            return self._waiting[kind]

    def _run(self) -> None:
        with watch_compiling(self._watch):
            while True:
                with self._changed:
                    while not self._order and not self._closed:
                        self._changed.wait()
                    if self._closed:
                        break
                    kind = self._order[0]
                self.progress = None
                try:
                    compiling.compile_kind(kind, beside=True)
                finally:
                    with self._changed:
                        self._order.remove(kind)
                        future = self._waiting.pop(kind)
                    future.set_result(None)
        for future in self._waiting.values():
            future.set_exception(CancelledError())

    def _watch(self, progress: CompileProgress) -> None:
        self.progress = progress
