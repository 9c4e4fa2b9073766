"""The schedule of compilation by two processes: kernels that others call come first, and longest chains before
others."""

from __future__ import annotations

import heapq
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable

from relaxon.core.compile_progress import CompileProgress
from relaxon.solvers.kernels import cache_folder
from relaxon.solvers.precompile.table import KernelTable

CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from relaxon.solvers.precompile.child import answer_tasks; answer_tasks(sys.argv[2])"
)
TOGETHER = 0.6
"""Time of two processes relative to one, before anything has been measured."""
PRIOR = 0.2
"""Fraction of all work as which that assumption counts: the first kernels tell little, as Numba itself warms up."""


class Work:
    """Tasks that are handed out once the kernels they call are done; used by several threads."""

    def __init__(self, table: KernelTable, numbers: Iterable[int], report: Callable[[CompileProgress], None]) -> None:
        """`report` is called after each task, in the thread that finished it."""
        wanted = set(numbers)
        self.total = len(wanted)
        self._table = table
        self._report = report
        self._waits = {number: set(table.tasks[number].calls) & wanted for number in wanted}
        self._callers: dict[int, list[int]] = {number: [] for number in wanted}
        for number, calls in self._waits.items():
            for call in calls:
                self._callers[call].append(number)
        self._chain: dict[int, float] = {}
        for number in wanted:
            self._chain_seconds(number)
        self._ready = [(-self._chain[number], number) for number in wanted if not self._waits[number]]
        heapq.heapify(self._ready)
        self._left, self._stopped = set(wanted), False
        self._seconds = self._all_seconds = sum(table.tasks[number].seconds for number in wanted)
        self._start = time.monotonic()
        # Code enters the lock itself, not the condition, whose `__enter__` is a Python function, in which a signal
        # handler may raise after the lock has been taken.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def take(self) -> int | None:
        """Wait for a task that can be compiled, and return its number; None where nothing is left to do."""
        with self._lock:
            while not self._ready and self._left and not self._stopped:
                self._changed.wait()
            return heapq.heappop(self._ready)[1] if self._ready and not self._stopped else None

    def finish(self, number: int) -> None:
        """Mark a task as done or failed."""
        with self._lock:
            self._left.discard(number)
            self._seconds -= self._table.tasks[number].seconds
            for caller in self._callers[number]:
                self._waits[caller].discard(number)
                if not self._waits[caller]:
                    heapq.heappush(self._ready, (-self._chain[caller], caller))
            self._changed.notify_all()
            progress = self.progress()
        self._report(progress)

    def give_back(self, number: int) -> None:
        """Return a task that was taken, for others to do."""
        with self._lock:
            heapq.heappush(self._ready, (-self._chain[number], number))
            self._changed.notify_all()

    @property
    def complete(self) -> bool:
        """Whether every task is done or has failed."""
        return not self._left

    def stop(self) -> None:
        """Hand out nothing more."""
        with self._lock:
            self._stopped = True
            self._changed.notify_all()

    def progress(self) -> CompileProgress:
        """Return the progress of the work."""
        done, prior = self._all_seconds - self._seconds, PRIOR * self._all_seconds
        factor = (time.monotonic() - self._start + TOGETHER * prior) / (done + prior) if prior > 0 else TOGETHER
        return CompileProgress(self.total - len(self._left), self.total, self._seconds * factor)

    def _chain_seconds(self, number: int) -> float:
        """Return the seconds from a task's start to the end of the longest chain of tasks that wait for it."""
        if number not in self._chain:
            after = max((self._chain_seconds(caller) for caller in self._callers[number]), default=0.0)
            self._chain[number] = self._table.tasks[number].seconds + after
        return self._chain[number]


def compile_here(table: KernelTable, work: Work) -> None:
    """Compile tasks of the work in this thread. A kernel that fails does so again when it is called, with its error."""
    while (number := work.take()) is not None:
        try:
            task = table.tasks[number]
            task.kernel().compile(task.signature())
        except Exception:
            pass
        finally:
            work.finish(number)


class Child:
    """A second process and the thread that hands it work. If it fails, others do its tasks."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._process = start_child()
        self._thread = threading.Thread(target=self._feed, name="relaxon-compile", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until it has nothing left to do, or has ended."""
        self._thread.join()

    def end(self) -> None:
        """Kill it, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._thread.join()

    def _feed(self) -> None:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return
        with process.stdin, process.stdout:
            while (number := self._work.take()) is not None:
                try:
                    process.stdin.write(f"{number}\n")
                    process.stdin.flush()
                    reply = process.stdout.readline()
                except (OSError, ValueError):
                    reply = ""
                if not reply:
                    self._work.give_back(number)
                    return
                self._work.finish(number)


def start_child() -> subprocess.Popen[str] | None:
    """Start a process that compiles into this one's cache; None where that is not possible.

    It is a fresh interpreter that runs nothing of the caller's program.
    """
    folder = cache_folder.open_folder()
    if folder.path is None or not folder.writable or not _is_python(sys.executable):
        return None
    command = [sys.executable, "-c", CHILD, json.dumps(sys.path), str(folder.path)]
    try:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    except OSError:
        return None


def _is_python(executable: str | None) -> bool:
    """Return whether this is Python itself, not an application with an embedded interpreter."""
    return bool(executable) and os.path.basename(str(executable)).lower().startswith("python")
