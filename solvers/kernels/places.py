"""On which processors the threads of the pool run: not on their caller's.

Linux wakes a thread on the processor of the thread that wakes it if that one was idle for a while, and takes no virtual
processor that is halted for an idle one (`available_idle_cpu` in `kernel/sched/sched.h` asks `vcpu_is_preempted`, and
KVM says so of halted ones too). Both threads then share one processor until the system balances its load: after a pause
of 0.3 s, a solve of 25 ms with two threads took 30 to 60 ms (Linux 6.18, two virtual processors). So a thread is not
allowed on the processor from which it gets a task.
"""

# Imported on first use, for its weight: `ctypes`.

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

_find: Callable[[], int] | None = None


def find_processor() -> int:
    """Return the number of the processor on which the calling thread runs, −1 where the system does not tell."""
    global _find
    if _find is None:
        _find = _load()
    return _find()


def _load() -> Callable[[], int]:
    if hasattr(os, "sched_setaffinity"):
        import ctypes

        with suppress(AttributeError, OSError):
            return ctypes.PyDLL(None).sched_getcpu
    return lambda: -1


class Place:
    """The processors that a thread of the pool may use: those it was allowed, without its caller's."""

    __slots__ = ("_allowed", "_left", "_off", "_thread")

    def __init__(self, thread: int | None) -> None:
        self._thread = thread
        self._off = -1
        self._left: set[int] = set()
        self._allowed: set[int] = set()

    def keep_off(self, processor: int) -> None:
        """Keep the thread off that processor, on which its caller runs, and no longer off the last one.

        A thread that somebody else has bound since keeps that, without its caller's processor as well.
        """
        if processor == self._off or self._thread is None:
            return
        with suppress(OSError):  # as in a sandbox that forbids it, or where the processors allowed have changed
            now = os.sched_getaffinity(self._thread)
            if now != self._left:
                self._allowed = now
            left = self._allowed - {processor}
            if left and left != now:
                self._left = left
                os.sched_setaffinity(self._thread, left)
        self._off = processor
