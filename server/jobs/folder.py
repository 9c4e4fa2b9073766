"""What lies in a job's folder, how a server has the folder of all jobs for itself, and a job's process the job."""

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
"""A line for each step that was told of; written by the process before it keeps a checkpoint of that step."""
CHECKPOINT = "checkpoint"
PARTIAL = "model.partial"
"""Where the process writes the model."""
COMPLETE = "model"
"""Where it is when it is whole; there is no moment in which half of it is there."""
COMMITTED = "committed"
"""A mark that is made before the model is moved out to where models are stored: with it, a model that is not there any
more has been stored; without it, there was none yet."""
LEASE = "lease"
LOG = "worker.log"
LOCK = ".lock"
ID = re.compile(r"[0-9a-f]{32}")
LEASE_SECONDS = 30.0
"""For a process of a server that is gone to be gone too."""
LEASE_POLL = 0.05


def locked(folder: Path, setting: str) -> IO[str]:
    """The open lock file of a folder that belongs to this server alone from now on, made where missing.

    OSError, naming the setting, where another server has it. The lock goes with its process, however that ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / LOCK).open("w")
    if not _lock(file):
        file.close()
        raise OSError(f"{setting} {str(folder)!r} is in use by another server")
    return file


def leased(folder: Path) -> IO[str] | None:
    """The open file that stands for the one process that may work on a job; None where another keeps it."""
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
    except ImportError:  # no such lock on this system: keeping servers apart is up to whoever starts them
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def told_steps(folder: Path) -> Iterator[tuple[int, Any]]:
    """The steps that a job's process has told of, each with its number; what was cut off in writing is left out."""
    with suppress(FileNotFoundError), (folder / PROGRESS).open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                return
            said = json.loads(line)
            yield said["step"], said["progress"]


class StepLog:
    """The process's own record of the steps that it has told of, by which it tells of none twice."""

    def __init__(self, folder: Path) -> None:
        self.last = 0
        path = folder / PROGRESS
        whole = 0
        if path.exists():
            # A line that was cut off in writing goes; the next one must not be added to it.
            octets = path.read_bytes()
            whole = octets.rfind(b"\n") + 1
            for number, _ in told_steps(folder):
                self.last = number
        self._file = path.open("ab", buffering=0)
        self._file.truncate(whole)

    def add(self, number: int, progress: Any) -> bool:
        """Write a step down; whether it is a new one."""
        if number <= self.last:
            return False
        self._file.write(json.dumps({"step": number, "progress": progress}).encode() + b"\n")
        self.last = number
        return True


def publish(folder: Path) -> None:
    """Have a model that was written to `PARTIAL` be there whole, also after a loss of power."""
    sync_tree(folder / PARTIAL)
    (folder / PARTIAL).rename(folder / COMPLETE)
    sync(folder)


def mark_committed(folder: Path) -> None:
    """Say that the model of a job is about to be moved to where models are stored."""
    (folder / COMMITTED).touch()
    sync(folder)


def is_stored(folder: Path) -> bool:
    """Whether a job's model has been moved to where models are stored."""
    return (folder / COMMITTED).exists() and not (folder / COMPLETE).exists()


def sync_tree(folder: Path) -> None:
    """Have the disk hold all files of a folder."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def remove_others(root: Path, jobs: set[str]) -> None:
    """Remove the folders that are not of `jobs`: of uploads that were cut off, and of jobs that have ended."""
    for path in root.iterdir():
        if ID.fullmatch(path.name) and path.name not in jobs:
            shutil.rmtree(path, ignore_errors=True)
