"""Memory of large arrays, which the C library should keep for the next ones."""

from __future__ import annotations

from functools import cache

import numpy as np

MOST = 31 << 20
"""Bytes of the largest block that is kept; glibc's limit is 32 MiB."""


@cache
def keep_freed_memory() -> None:
    """Let the C library keep freed blocks of up to 31 MiB, and up to twice as much of them, for the next arrays.

    glibc gives each block from 128 KiB on back to the system as it is freed, until a program has first freed a larger
    one that is not beyond 32 MiB: then blocks of that size are kept. So one is allocated here and freed, untouched,
    once in a process. Otherwise each set-up begins with fresh pages, of which one of 4 KiB takes some 2 µs on a virtual
    machine: sparse set-ups of 100,000 unknowns took up to a fifth longer. Other C libraries do nothing of the kind.
    Source: glibc's manual, `M_MMAP_THRESHOLD`.
    """
    np.empty(MOST, np.uint8)
