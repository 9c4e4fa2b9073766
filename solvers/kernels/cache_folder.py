"""The folder of compiled kernels in the user's cache, with a subfolder for each key, of which old ones are removed.

Where it is not available, the process warns once and uses a temporary folder.
"""
# Imported on first use, for its weight: numba.

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shutil
import sys
import tempfile
import time
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from relaxon.solvers.kernels.key import DIGITS, kernel_key

LOCK = "in-use"
"""The file on which every process that uses a folder holds a shared lock; its time is that of the last use."""
KEPT_KEYS = 8
"""Number of folders of other keys (versions, processors) that are kept."""
KEPT_BYTES = 2**30
"""Bytes of all keys together beyond which the least recently used ones are removed."""
KEPT_SECONDS = 90 * 86_400.0
"""Seconds without use after which a key is removed: 90 days."""
TOUCH_SECONDS = 86_400.0
"""Seconds between two updates of the time of last use, so that reading a cache rarely writes to the disk."""
KEY = re.compile(rf"[\w.-]+-[0-9a-f]{{{DIGITS}}}")
REMOVED = ".removed-"
REMEDY = "set NUMBA_CACHE_DIR to a folder that can be written to"


class KernelCacheWarning(RuntimeWarning):
    """Compiled kernels cannot be cached, so that later processes compile them again."""


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of this process's kernels."""

    path: Path | None
    """None where there is no possible folder."""
    writable: bool
    temporary: bool = False
    problem: str = ""
    """Why it is not the usual folder, or is not writable."""


_folder: Folder | None = None
_held: list[IO[bytes]] = []
"""The files whose locks mark folders as in use; they stay open as long as the process lives."""
_warned = False


def open_folder() -> Folder:
    """Return the folder of this process's kernels, which is created where it does not exist. Never raises.

    It takes no lock, for which a forked child or a signal handler might wait for ever: concurrent threads all open it.
    """
    global _folder
    if _folder is None:
        opened = _open()
        if _folder is None:
            _folder = opened
    return _folder


def use_folder(path: Path) -> None:
    """Use a folder opened by another process, which lives at least as long as this one."""
    global _folder
    _folder = Folder(path, writable=True)


def claim(name: str) -> IO[bytes] | None:
    """Return an open file of that name, which no other process gets until it is closed; None where another has it."""
    folder = open_folder()
    if folder.path is None or not folder.writable:
        return None
    try:
        file = open(folder.path / name, "ab")  # noqa: SIM115  the caller closes it
    except OSError:
        return None
    if _lock(file, exclusive=True):
        return file
    file.close()
    return None


def cache_root() -> Path | None:
    """Return the parent of the keys' folders: in NUMBA_CACHE_DIR where that is set, else in the user's cache.

    None where the user has no home folder.
    """
    import numba

    chosen = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    if chosen:
        return Path(os.path.abspath(chosen), "relaxon")
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.join(home, "AppData", "Local")
    elif sys.platform == "darwin":
        base = os.path.join(home, "Library", "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(base):  # as required by the XDG specification
            base = os.path.join(home, ".cache")
    return Path(base, "relaxon", "kernels") if os.path.isabs(base) else None


def folder_bytes(path: Path) -> int:
    """Return the total size of all files below a folder in bytes."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(folder, name)).st_size
    return total


def warn_once(problem: str) -> None:
    """Warn that kernels are not cached, the first time in this process."""
    global _warned
    if not _warned:
        _warned = True
        message = f"compiled kernels cannot be cached for later processes: {problem}; {REMEDY}"
        warnings.warn(message, KernelCacheWarning, stacklevel=2)


def prune(root: Path, keep: str) -> list[str]:
    """Remove the folders of keys that are old or exceed the limits, and return the keys.

    Folders in use by a running process are kept, and so is `keep`.
    """
    now, found = time.time(), []
    for entry in os.scandir(root):
        path = Path(entry.path)
        if entry.name.startswith(REMOVED):
            shutil.rmtree(path, ignore_errors=True)
        elif KEY.fullmatch(entry.name) and entry.name != keep and entry.is_dir(follow_symlinks=False):
            found.append((_last_use(path), folder_bytes(path), path))
    found.sort(key=lambda one: one[0], reverse=True)
    removed, room = [], KEPT_BYTES - folder_bytes(root / keep)
    for number, (used, size, path) in enumerate(found):
        room -= size
        if (number >= KEPT_KEYS or room < 0 or now - used > KEPT_SECONDS) and _remove(path):
            removed.append(path.name)
            room += size
    return removed


def _open() -> Folder:
    root, key = cache_root(), kernel_key()
    problem = "the user has no home folder"
    if root is not None:
        path = root / key
        try:
            new = not path.is_dir()
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _hold(path)
            tempfile.TemporaryFile(dir=path).close()
        except OSError as error:
            problem = f"{path} cannot be written to ({error.strerror or error})"
            if _has_kernels(path):
                return Folder(path, writable=False, problem=problem)  # with a warning once something is to be written
        else:
            if new:
                with contextlib.suppress(OSError):
                    prune(root, key)
            return Folder(path, writable=True)
    warn_once(problem)
    try:
        made = tempfile.mkdtemp(prefix="relaxon-kernels-")
    except OSError:
        return Folder(None, writable=False, problem=problem)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Folder(Path(made, key), writable=_make_folder(Path(made, key)), temporary=True, problem=problem)


def _make_folder(path: Path) -> bool:
    try:
        path.mkdir()
    except OSError:
        return False
    return True


def _has_kernels(path: Path) -> bool:
    try:
        return any(entry.name.endswith(".nbc") for entry in os.scandir(path))
    except OSError:
        return False


def _hold(path: Path) -> None:
    """Keep other processes from removing a folder while this one lives. OSError where it is not writable."""
    while True:
        lock = open(path / LOCK, "ab")  # noqa: SIM115  held open
        _lock(lock, exclusive=False)
        try:
            there = os.path.samestat(os.stat(path / LOCK), os.fstat(lock.fileno()))
        except FileNotFoundError:
            there = False
        if there:
            break
        lock.close()  # the folder was removed in between
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _held.append(lock)
    if time.time() - os.stat(path / LOCK).st_mtime > TOUCH_SECONDS:
        os.utime(path / LOCK)


def _remove(path: Path) -> bool:
    """Remove a key's folder unless a process has it in use; return whether it is removed."""
    try:
        with open(path / LOCK, "ab") as lock:
            if not _lock(lock, exclusive=True):
                return False
            gone = path.with_name(REMOVED + uuid.uuid4().hex)
            if sys.platform != "win32":  # where a folder with an open file cannot be renamed
                path.rename(gone)
        if sys.platform == "win32":
            path.rename(gone)
    except OSError:
        return False
    shutil.rmtree(gone, ignore_errors=True)
    return True


def _lock(file: IO[bytes], exclusive: bool) -> bool:
    """Lock a file until it is closed; return whether that succeeded. On Windows an open file is lock enough."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError:  # another process has it, or the file system has no locks
        return False
    return True


def _last_use(path: Path) -> float:
    try:
        return os.stat(path / LOCK).st_mtime
    except OSError:
        return 0.0
