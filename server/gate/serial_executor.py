"""An executor that runs work on another one, one piece after the other, each as soon as the one before has ended."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any


class SerialExecutor(Executor):
    """Runs what is submitted on another executor, in order, one piece at a time.

    Each piece joins that executor's queue anew, behind the work of others. After one has failed, the rest is cancelled.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._busy = False
        """Whether a piece is running, or about to."""
        self._over = False

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule work behind what was submitted before; RuntimeError if the other executor has been shut down."""
        future: Future[Any] = Future()
        with self._lock:
            if self._over:
                future.cancel()
                return future
            self._waiting.append((future, partial(work, *args, **kwargs)))
            begin, self._busy = not self._busy, True
        if begin:
            self._go_on()
        return future

    def _go_on(self) -> None:
        try:
            self._executor.submit(self._run_next).add_done_callback(self._check)
        except RuntimeError:
            self._end()
            raise

    def _run_next(self) -> None:
        with self._lock:
            if self._over:
                return
            future, work = self._waiting.popleft()
        if future.set_running_or_notify_cancel():
            try:
                result = work()
            except BaseException as error:
                self._end()
                future.set_exception(error)
                del future, work  # this frame is part of the error's traceback
                return
            future.set_result(result)
            del result
        del future, work
        with self._lock:
            self._busy = bool(self._waiting)
        if self._busy:
            self._go_on()

    def _check(self, turn: Future[None]) -> None:
        # Cancelled, or refused at the end of the piece before, because the other executor is being shut down.
        if turn.cancelled() or turn.exception() is not None:
            self._end()

    def _end(self) -> None:
        with self._lock:
            self._over = True
            waiting = list(self._waiting)
            self._waiting.clear()
        for future, _ in waiting:
            future.cancel()
