"""Checkpoints of training: their folder, their frequency, and the atomic replacement of their file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from relaxon.core import validation

LEAST_WORK = 20.0
"""Minimum time between checkpoints, relative to the time that writing one takes, so that overhead is at most 5 %."""


class DamagedCheckpoint(ValueError):
    """A checkpoint file that cannot be read; training starts from the beginning if it is removed."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Have `fit` keep a checkpoint in `folder` and resume from an existing one.

    A fit that was interrupted at any moment, and is called again with the same data and parameters, gives the same bits
    as an uninterrupted one. A checkpoint of other data or parameters is refused. `seconds` bounds the work that may be
    lost: a checkpoint is written at the end of a step once `seconds` have passed since the last one, less often if
    writing is slow, and after every step for 0.

    Raises `TypeError` or `ValueError` naming the argument.
    """

    folder: Path
    seconds: float = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str | Path):
            raise TypeError(f"folder must be a path, got {type(self.folder).__name__}")
        object.__setattr__(self, "folder", Path(self.folder))
        validation.non_negative_float("seconds", self.seconds)


def check_hooks(watcher: object, checkpoints: object) -> None:
    """Raise `TypeError` if what `fit` is given besides data is neither None nor of its kind."""
    if watcher is not None and not callable(watcher):
        raise TypeError(f"watcher must be callable or None, got {watcher!r}")
    if checkpoints is not None and not isinstance(checkpoints, Checkpoints):
        raise TypeError(f"checkpoints must be Checkpoints(folder) or None, got {checkpoints!r}")


class Pace:
    """The schedule of checkpoints."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._took = 0.0
        self._last = time.perf_counter()

    @property
    def due(self) -> bool:
        """Whether the next checkpoint is due."""
        passed = time.perf_counter() - self._last
        return self._seconds == 0.0 or passed >= max(self._seconds, LEAST_WORK * self._took)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Time the writing of a checkpoint, for use as a context manager."""
        began = time.perf_counter()
        yield
        self._last = time.perf_counter()
        self._took = self._last - began


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Replace `path` atomically by the file that `write` produces; create the folder if missing.

    The new contents survive a loss of power after the call.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    write(partial)
    sync(partial)
    os.replace(partial, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    if os.name == "nt" and path.is_dir():
        return  # not supported for folders on Windows
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
