"""Checkpoints of training: where, how often, and how their file is replaced so that it is whole at any moment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from relaxon.core import validation

LEAST_WORK = 20.0
"""Times as long as the last checkpoint took to write is worked before the next: writing costs a twentieth at most."""


class DamagedCheckpoint(ValueError):
    """A checkpoint's file that cannot be read; removing it begins the training anew."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Have `fit` keep a checkpoint in `folder`, and go on from the one that it finds there.

    A fit that was cut off, at any moment, and is called again with the same data and parameters ends with the same bits
    as one that never was; with other data or parameters it is refused. `seconds` is how much work may be lost: a
    checkpoint is written at the end of a step, so many seconds after the last, less often where writing is slow;
    where 0, at the end of every step.

    Raises
    ------
    TypeError, ValueError : naming the argument.
    """

    folder: Path
    seconds: float = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str | Path):
            raise TypeError(f"folder must be a path, got {type(self.folder).__name__}")
        object.__setattr__(self, "folder", Path(self.folder))
        validation.non_negative_float("seconds", self.seconds)


class Pace:
    """When the next checkpoint is due."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._took = 0.0
        self._last = time.perf_counter()

    @property
    def due(self) -> bool:
        passed = time.perf_counter() - self._last
        return self._seconds == 0.0 or passed >= max(self._seconds, LEAST_WORK * self._took)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around the writing of one."""
        began = time.perf_counter()
        yield
        self._last = time.perf_counter()
        self._took = self._last - began


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file and put it in the place of `path`, which is the old file or the new one at any moment.

    The folder is made where missing. What is there after the call is there after a loss of power too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    write(partial)
    sync(partial)
    os.replace(partial, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file, or the names in a folder."""
    if os.name == "nt" and path.is_dir():
        return  # Windows has no such call for folders
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
