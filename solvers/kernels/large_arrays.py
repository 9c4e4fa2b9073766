"""Large arrays on pages of 2 MiB, in memory that is used again.

A page of 4 KiB that Linux hands out for the first time takes some 2 µs on a virtual machine, a fifth of that as a part
of a large page. The arrays of a set-up with 100,000 unknowns have 7,000 pages, a tenth to a fifth of a first solve. So
arrays from 64 KiB on are cut from chunks of 4 MiB, for which large pages are asked, and what is freed is cut again. At
most 16 MiB stay reserved where nothing uses them. On other systems these are NumPy's arrays.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
from bisect import bisect
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LEAST = 1 << 16
"""The number of bytes from which an array is cut from a chunk."""
CHUNK = 1 << 22
KEPT = 1 << 24
"""Free bytes that stay reserved."""
LINE = 64
"""Bytes of a line of the cache: blocks begin at one."""
LARGE_PAGES = getattr(mmap, "MADV_HUGEPAGE", None)
PAGE = 1 << 21


class _Block:
    """A part of a chunk; it is free again when the array on it is gone."""

    __slots__ = ("__array_interface__", "_mapping", "_returned", "_span")

    def __init__(
        self, span: tuple[int, int], interface: dict[str, Any], mapping: mmap.mmap, returned: deque[tuple[int, int]]
    ) -> None:
        self.__array_interface__ = interface
        self._span = span
        self._mapping = mapping  # stays mapped as long as an array needs it, also without the pool
        self._returned = returned

    def __del__(self) -> None:
        # This may run anywhere, also while this thread holds the pool's lock; appending needs none.
        self._returned.append(self._span)


class Pool:
    """Chunks of memory and what is free in them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks: dict[int, tuple[int, mmap.mmap]] = {}
        """By their first address: their usable size, and the mapping."""
        self._free: list[tuple[int, int]] = []
        """Address and size of each free block, by address; no two touch."""
        self._returned: deque[tuple[int, int]] = deque()

    @property
    def free_bytes(self) -> int:
        """The bytes that are reserved and free."""
        with self._lock:
            self._collect()
            return sum(size for _, size in self._free)

    @property
    def reserved_bytes(self) -> int:
        """The bytes of all chunks."""
        with self._lock:
            self._collect()
            return sum(size for size, _ in self._chunks.values())

    def cut(self, shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> NDArray[Any]:
        """Return an array on `size` bytes, which hold anything."""
        size = -(-size // LINE) * LINE
        with self._lock:
            self._collect()
            # The first that fits: what lies behind all blocks may never be touched.
            at = next((at for at, (_, room) in enumerate(self._free) if room >= size), -1)
            if at < 0:
                at = self._map(size)
            start, room = self._free[at]
            if room > size:
                self._free[at] = start + size, room - size
            else:
                del self._free[at]
            mapping = self._chunks[max(first for first in self._chunks if first <= start)][1]
        interface = {"data": (start, False), "shape": shape, "typestr": dtype.str, "version": 3}
        return np.asarray(_Block((start, size), interface, mapping, self._returned))

    def _map(self, size: int) -> int:
        """Reserve a chunk that a block of `size` bytes fits; return its place among the free blocks."""
        # A page more than is used, to begin at a multiple of a large page's size. Its end is never used, so that
        # blocks of two chunks do not touch.
        room = max(CHUNK, -(-size // PAGE) * PAGE)
        mapping = mmap.mmap(-1, room + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        mapping.madvise(LARGE_PAGES)  # type: ignore[arg-type]
        first = np.frombuffer(mapping, np.uint8).ctypes.data
        start = -(-first // PAGE) * PAGE
        room -= LINE
        self._chunks[start] = room, mapping
        at = bisect(self._free, (start, room))
        self._free.insert(at, (start, room))
        return at

    def _collect(self) -> None:
        """Put the blocks that were returned among the free ones, and give back chunks beyond what is kept."""
        returned = self._returned
        while returned:
            start, size = returned.popleft()
            at = bisect(self._free, (start, size))
            if at < len(self._free) and self._free[at][0] == start + size:
                size += self._free.pop(at)[1]
            if at > 0 and sum(self._free[at - 1]) == start:
                before, room = self._free.pop(at - 1)
                start, size, at = before, room + size, at - 1
            self._free.insert(at, (start, size))
            chunk = self._chunks.get(start)
            if chunk and chunk[0] == size and sum(room for _, room in self._free) > KEPT:
                del self._free[at], self._chunks[start]
                chunk[1].close()

    def release(self) -> None:
        """Give the free memory back to the system."""
        with self._lock:
            self._collect()
            for start, (size, mapping) in list(self._chunks.items()):
                if (start, size) in self._free:
                    self._free.remove((start, size))
                    del self._chunks[start]
                    mapping.close()


_pool = Pool()


def release_free_memory() -> None:
    """Give memory that no array uses back to the system; it is kept otherwise, for the next arrays."""
    _pool.release()


def _begin_anew() -> None:
    """Give a process that was forked a pool of its own: another thread may have held the lock of the former."""
    global _pool
    _pool = Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def empty(shape: int | tuple[int, ...], dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """Return what `np.empty` does, C-contiguous; a large array on large pages, in memory that may have been used."""
    kind = np.dtype(dtype)
    extents = tuple(map(int, shape)) if isinstance(shape, tuple) else (int(shape),)
    size = math.prod(extents) * kind.itemsize
    if size < LEAST or LARGE_PAGES is None:
        return np.empty(extents, kind)
    return _pool.cut(extents, kind, size)


def zeros(shape: int | tuple[int, ...], dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """Return what `np.zeros` does, from `empty`."""
    out = empty(shape, dtype)
    out[...] = 0
    return out
