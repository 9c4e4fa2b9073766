"""How much memory the machine has, and how much this process may still take: by the machine's state, the control groups
of the process, and its own limit of address space."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from relaxon.core.control_groups import find_folders

ROOT = Path("/")
UNLIMITED = 1 << 60
"""Bytes from which on a limit counts as none: control groups of version 1 write "no limit" as some eight times this."""


def find_available_memory(root: Path = ROOT) -> int | None:
    """Return the bytes that this process may still take; None if the system does not say.

    The minimum of what the machine has available (Linux's `MemAvailable`, which counts file caches as free), what is
    left of the limit of each control group of the process (of a container, say), and what is left of its limit of
    address space. `root` is the folder that holds `proc` and `sys`.

    Examples
    --------
    >>> available = find_available_memory()
    >>> available is None or available > 0
    True
    """
    found = [*_machine(root), *_control_groups(root), *_addresses(root)]
    return max(min(found), 0) if found else None


def find_machine_memory(root: Path = ROOT) -> int | None:
    """Return the bytes of memory of this machine, or those its control groups allow this process; None if unknown."""
    found = [allowed for _, allowed, _ in _limits(root)]
    with suppress(AttributeError, OSError, ValueError):  # on systems that are not POSIX
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found, default=None)


def _machine(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            yield 1024 * int(value.split()[0])


def _control_groups(root: Path) -> Iterator[int]:
    """Yield what is left in each group that has a limit."""
    for folder, allowed, unified in _limits(root):
        taken = _number(folder / ("memory.current" if unified else "memory.usage_in_bytes"))
        if taken is not None:
            cached = "inactive_file" if unified else "total_inactive_file"
            yield allowed - taken + _entry(folder / "memory.stat", cached)


def _limits(root: Path) -> Iterator[tuple[Path, int, bool]]:
    """Yield the folder of each group that has a limit, the limit, and whether it is a group of version 2."""
    for path, unified in find_folders("memory", "" if root == ROOT else str(root)):
        folder = Path(path)
        allowed = _number(folder / ("memory.max" if unified else "memory.limit_in_bytes"))
        if allowed is not None and allowed < UNLIMITED:
            yield folder, allowed, unified


def _addresses(root: Path) -> Iterator[int]:
    if sys.platform == "win32":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = next(iter(_lines(root / "proc/self/statm")), "").split()
    if limit != resource.RLIM_INFINITY and pages:
        yield limit - int(pages[0]) * os.sysconf("SC_PAGE_SIZE")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None


def _entry(path: Path, name: str) -> int:
    """Return the value of a line of `memory.stat`; 0 if there is none."""
    return next((int(line.split()[1]) for line in _lines(path) if line.split()[:1] == [name]), 0)
