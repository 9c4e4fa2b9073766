"""How much memory this process may still take: the machine's, its control groups', and its own limit of addresses."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")
UNLIMITED = 1 << 60
"""Bytes: control groups of the first version write their absence of a limit as a number about eight times as large."""


def find_available_memory(root: Path = ROOT) -> int | None:
    """Return the bytes that this process may still take, None where the system does not say.

    The least of what the machine has available (Linux's `MemAvailable`: caches of files are given up), of what is left
    of the limit of each control group that the process is in (a container's), and of its limit of address space.
    `root` is where `proc` and `sys` lie.

    Examples
    --------
    >>> available = find_available_memory()
    >>> available is None or available > 0
    True
    """
    found = [*_machine(root), *_control_groups(root), *_addresses(root)]
    return max(min(found), 0) if found else None


def _machine(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            yield 1024 * int(value.split()[0])


def _control_groups(root: Path) -> Iterator[int]:
    """What is left in each group that has a limit, from the process's own up to the outermost."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, limit, used, cached = root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            base, limit, used = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_inactive_file"
        else:
            continue
        # In a container the path may be one of the host, of which only the root is mounted here.
        inner = PurePosixPath(path.lstrip("/"))
        for folder in {base / part for part in (inner, *inner.parents)}:
            allowed, taken = _number(folder / limit), _number(folder / used)
            if allowed is not None and taken is not None and allowed < UNLIMITED:
                yield allowed - taken + _entry(folder / "memory.stat", cached)


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
    """A line of `memory.stat`; 0 where there is none."""
    return next((int(line.split()[1]) for line in _lines(path) if line.split()[:1] == [name]), 0)
