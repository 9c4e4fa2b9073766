"""What works on a job on a machine of a Ray cluster, as an actor that the job's process makes of it."""

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
"""Contents by path below a folder, `/` between the parts."""
Event = tuple[str, Any]
"""`("step", progress)`, `("checkpoint", files)`; the last one is `("failed", what)` or `("ended", files of the model)`,
or `("broken", traceback)` where the engine has a fault."""
MOST_EVENTS = 256


class Trainer:
    """Trains in a folder of its own, which goes with it, and hands out what becomes of it in order."""

    def __init__(self) -> None:
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._stop = threading.Event()
        self._suspended = False
        self._shipped: dict[str, tuple[int, int, int]] = {}

    def begin(self, request: Mapping[str, Any], files: Files) -> str:
        """Start on a job with its folder's files; the version of this package here."""
        threading.Thread(target=self._work, args=(dict(request), files), daemon=True).start()
        return __version__

    def events(self, seconds: float) -> list[Event]:
        """What has happened since it was asked last, once there is something, or nothing after so many seconds."""
        found = []
        try:
            found.append(self._events.get(timeout=seconds))
            while len(found) < MOST_EVENTS:
                found.append(self._events.get_nowait())
        except Empty:
            pass
        return found

    def stop(self, suspend: bool) -> None:
        """End after the step that it is at: with the model so far, or with no more than a checkpoint."""
        self._suspended = suspend
        self._stop.set()

    def _work(self, request: dict[str, Any], files: Files) -> None:
        import traceback

        from relaxon.server.jobs.folder import CHECKPOINT
        from relaxon.server.jobs.worker import MODEL, run_training

        folder = Path(tempfile.mkdtemp(prefix="relaxon-job-"))

        def tell(progress: Mapping[str, Any] | None) -> bool:
            # A checkpoint is of a step that was told before.
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
        """Whether what is kept there has changed since it was last looked at."""
        before, self._shipped = self._shipped, read_stamps(folder)
        return before != self._shipped

    def _ship(self, folder: Path) -> None:
        if self._remember(folder):
            self._events.put(("checkpoint", pack(folder)))


def read_stamps(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What tells a folder's files from those that were there before."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.stat()
        found[str(path)] = (about.st_ino, about.st_mtime_ns, about.st_size)
    return found


def pack(folder: Path) -> Files:
    """All files below a folder; none where it is not there."""
    return {str(path.relative_to(folder).as_posix()): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpack(folder: Path, files: Files) -> None:
    """Write the files below a folder, which is made where missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
