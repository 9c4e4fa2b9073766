"""Memory of large arrays: where it begins, and that the C library keeps it for the next ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LINE = 64
"""Bytes of a line of the processor's cache, and of its widest vectors."""
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


def allocate(
    shape: int | tuple[int, ...], dtype: DTypeLike, make: Callable[[int, Any], NDArray[np.uint8]] = np.empty
) -> NDArray[Any]:
    """Return a C-contiguous array that begins with a cache line.

    NumPy's large arrays begin 16 bytes behind one (NumPy 2.4 with glibc), so that vectors of 64 bytes lie in two lines.
    """
    kind = np.dtype(dtype)
    size = math.prod(shape if isinstance(shape, tuple) else (shape,)) * kind.itemsize
    block = make(size + LINE, np.uint8)
    start = -block.__array_interface__["data"][0] % LINE
    return block[start : start + size].view(kind).reshape(shape)


def allocate_zeros(shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return such an array of zeros, whose pages the system provides as they are first written."""
    return allocate(shape, dtype, np.zeros)
