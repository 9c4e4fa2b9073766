"""The folder of a job, and the locks that give a server its jobs and a process its job."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from relaxon.neuromorphic.checkpoints import sync

REQUEST = "request.json"
DATA = "data.safetensors"
"""The uploaded arrays."""
PROGRESS = "progress.jsonl"
"""A line for each reported step, written by the process before it keeps a checkpoint of that step."""
CHECKPOINT = "checkpoint"
PARTIAL = "model.partial"
"""Where the process writes the model."""
COMPLETE = "model"
"""The place of the complete model; it appears there at once, never in part."""
COMMITTED = "committed"
"""A mark that is made before the model is moved to the model store. Where it exists, a missing model has been stored;
where it does not, there was no model yet."""
LEASE = "lease"
LOG = "worker.log"
LOCK = ".lock"
ID = re.compile(r"[0-9a-f]{32}")
LEASE_SECONDS = 30.0
"""The time that a process has to end after its server has gone."""
LEASE_POLL = 0.05
"""Seconds between two attempts to take a lease."""


def lock_folder(folder: Path, setting: str) -> IO[str]:
    """Lock a folder, created if missing, for this server alone and return the open lock file.

    OSError, naming the setting, where another server holds the lock. The lock ends with its process, however that ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / LOCK).open("w")
    if not _lock(file):
        file.close()
        raise OSError(f"{setting} {str(folder)!r} is in use by another server")
    return file


def take_lease(folder: Path) -> IO[str] | None:
    """Take the lease of a job, which one process at a time may hold; None where another process keeps it."""
    file = (folder / LEASE).open("w")
    deadline = time.monotonic() + LEASE_SECONDS
    while not _lock(file):
        if time.monotonic() > deadline:
            file.close()
            return None
        time.sleep(LEASE_POLL)
    return file


def _lock(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # this system has no such lock: whoever starts servers must keep them apart
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def read_steps(folder: Path) -> Iterator[tuple[int, Any]]:
    """Yield the steps that a job's process has reported, with their numbers; a line that was cut off is left out."""
    with suppress(FileNotFoundError), (folder / PROGRESS).open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                return
            said = json.loads(line)
            yield said["step"], said["progress"]


class StepLog:
    """A process's own record of the steps that it has reported, so that it reports none twice."""

    def __init__(self, folder: Path) -> None:
        self.last = 0
        path = folder / PROGRESS
        whole = 0
        if path.exists():
            # A line that was cut off is removed: the next one must not be appended to it.
            octets = path.read_bytes()
            whole = octets.rfind(b"\n") + 1
            for number, _ in read_steps(folder):
                self.last = number
        self._file = path.open("ab", buffering=0)
        self._file.truncate(whole)

    def add(self, number: int, progress: Any) -> bool:
        """Write a step down; return whether it is new."""
        if number <= self.last:
            return False
        self._file.write(json.dumps({"step": number, "progress": progress}).encode() + b"\n")
        self.last = number
        return True


def publish(folder: Path) -> None:
    """Move the model that was written to `PARTIAL` into its place, so that it survives a loss of power."""
    sync_tree(folder / PARTIAL)
    (folder / PARTIAL).rename(folder / COMPLETE)
    sync(folder)


def mark_committed(folder: Path) -> None:
    """Mark that the model of a job is about to be moved to the model store."""
    (folder / COMMITTED).touch()
    sync(folder)


def is_stored(folder: Path) -> bool:
    """Return whether a job's model has been moved to the model store."""
    return (folder / COMMITTED).exists() and not (folder / COMPLETE).exists()


def sync_tree(folder: Path) -> None:
    """Flush all files of a folder to the disk."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def remove_others(root: Path, jobs: set[str]) -> None:
    """Remove the folders of uploads that were cut off and of jobs that have ended: all but those of `jobs`."""
    for path in root.iterdir():
        if ID.fullmatch(path.name) and path.name not in jobs:
            shutil.rmtree(path, ignore_errors=True)
