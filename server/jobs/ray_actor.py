"""The actor of a Ray cluster that trains for a job's process.

Imported on first use, for their weight: `relaxon.server.jobs.worker`, on the machine of the cluster only.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from relaxon._version import __version__

Files = dict[str, bytes]
"""File contents by their paths below a folder, with `/` between the parts."""
Event = tuple[str, Any]
"""`("step", progress)` or `("checkpoint", files)`; the last one is `("failed", what)`, `("ended", files of the model)`,
or `("broken", traceback)` where the engine has a bug."""
MOST_EVENTS = 256


class Trainer:
    """Trains in a temporary folder of its own, and hands out events in order."""

    def __init__(self) -> None:
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._stop = threading.Event()
        self._suspended = False
        self._shipped: dict[str, tuple[int, int, int]] = {}

    def begin(self, request: Mapping[str, Any], files: Files) -> str:
        """Start on a job with the files of its folder; return the version of this package here."""
        threading.Thread(target=self._work, args=(dict(request), files), daemon=True).start()
        return __version__

    def events(self, seconds: float) -> list[Event]:
        """Return the events since the last call, as soon as there is one; none after so many seconds."""
        found = []
        try:
            found.append(self._events.get(timeout=seconds))
            while len(found) < MOST_EVENTS:
                found.append(self._events.get_nowait())
        except Empty:
            pass
        return found

    def stop(self, suspend: bool) -> None:
        """End after the current step: with the model so far, or, to suspend, with a checkpoint only."""
        self._suspended = suspend
        self._stop.set()

    def _work(self, request: dict[str, Any], files: Files) -> None:
        import traceback

        from relaxon.server.jobs.folder import CHECKPOINT
        from relaxon.server.jobs.worker import MODEL, run_training

        folder = Path(tempfile.mkdtemp(prefix="relaxon-job-"))

        def tell(progress: Mapping[str, Any] | None) -> bool:
            # A checkpoint belongs to a step that was reported before.
            self._ship(folder / CHECKPOINT)
            if progress is not None:
                self._events.put(("step", dict(progress)))
            return self._stop.is_set()

        try:
            unpack(folder, files)
            self._remember(folder / CHECKPOINT)
            failed = run_training(folder, request, tell)
            self._ship(folder / CHECKPOINT)
            if failed is not None:
                self._events.put(("failed", failed))
            else:
                self._events.put(("ended", {} if self._suspended else pack(folder / MODEL)))
        except BaseException:
            self._events.put(("broken", traceback.format_exc()))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _remember(self, folder: Path) -> bool:
        """Return whether a folder has changed since the last look."""
        before, self._shipped = self._shipped, read_stamps(folder)
        return before != self._shipped

    def _ship(self, folder: Path) -> None:
        if self._remember(folder):
            self._events.put(("checkpoint", pack(folder)))


def read_stamps(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return what distinguishes a folder's files from their earlier versions."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.stat()
        found[str(path)] = (about.st_ino, about.st_mtime_ns, about.st_size)
    return found


def pack(folder: Path) -> Files:
    """Return all files below a folder; none if it does not exist."""
    return {str(path.relative_to(folder).as_posix()): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpack(folder: Path, files: Files) -> None:
    """Write files below a folder, which is created if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
